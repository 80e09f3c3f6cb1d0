import base64
import json

import numpy as np
import pytest

from qcore.viz import Figure, script_file


@pytest.mark.parametrize(
    "array",
    [
        np.array([1.5, np.nan, -np.inf, 0.1]),
        np.array([0.1, 2.0], dtype=np.float32),
        np.arange(5, dtype=np.int64),
        np.array([1, 2**40], dtype=np.int64),
        np.array([], dtype=np.int64),
        np.array([3, 2**31], dtype=np.uint32),
    ],
)
def test_arrays_arrive_bit_for_bit(array: np.ndarray):
    sent = json.loads(Figure([{"x": array}], {}).to_json())["data"][0]["x"]
    read = np.frombuffer(base64.b64decode(sent["bdata"]), dtype=np.dtype(sent["dtype"]).newbyteorder("<"))
    np.testing.assert_array_equal(read.astype(array.dtype), array)


@pytest.mark.parametrize(
    "matrix",
    [
        np.array([[1.5, np.nan, -0.1], [np.inf, 0.0, 3.0]], dtype=np.float32),
        np.arange(6, dtype=np.float64).reshape(3, 2) / 7,
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([[2**40, 1]]),
    ],
)
def test_matrices_arrive_row_by_row_and_bit_for_bit(matrix: np.ndarray):
    sent = json.loads(Figure([{"z": matrix}], {}).to_json())["data"][0]["z"]
    rows, columns = (int(size) for size in sent["shape"].split(","))
    read = np.frombuffer(base64.b64decode(sent["bdata"]), dtype=np.dtype(sent["dtype"]).newbyteorder("<"))
    assert (rows, columns) == matrix.shape
    np.testing.assert_array_equal(read.reshape(rows, columns).astype(matrix.dtype), matrix)


def test_the_matrix_is_written_as_plotly_writes_it():
    matrix = np.array([[0.1, np.nan], [2.0, -3.0]], dtype=np.float32)
    figure = Figure([{"type": "heatmap", "z": matrix}], {})
    ours, theirs = json.loads(figure.to_json()), json.loads(figure.to_plotly().to_json())
    assert ours["data"][0]["z"] == theirs["data"][0]["z"]


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (2, 0)])
def test_an_empty_matrix_is_an_empty_list_of_rows(shape: tuple[int, int]):
    sent = json.loads(Figure([{"z": np.zeros(shape)}], {}).to_json())["data"][0]["z"]
    assert sent == [[]] * shape[0]


def test_a_cube_is_refused():
    with pytest.raises(TypeError, match="ndarray"):
        Figure([{"z": np.zeros((2, 2, 2))}], {}).to_json()


def test_the_json_is_that_of_plotly_itself():
    figure = Figure(
        [{"type": "scatter", "x": [1, None], "y": [2.0, 3.0]}], {"height": np.int64(300), "title": {"text": "a"}}
    )
    ours, theirs = json.loads(figure.to_json()), json.loads(figure.to_plotly().to_json())
    assert ours["data"] == theirs["data"]
    assert ours["layout"].items() <= theirs["layout"].items()


def test_what_plotly_does_not_know_or_json_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="colour"):
        Figure([{"type": "scatter", "colour": 1}], {}).to_plotly()
    with pytest.raises(ValueError, match="JSON"):
        Figure([], {"height": float("nan")}).to_json()
    with pytest.raises(TypeError, match="set"):
        Figure([], {"height": {1}}).to_json()


def test_the_script_is_there_and_its_name_tells_its_version():
    path, name = script_file()
    assert path.stat().st_size > 1_000_000
    assert name.startswith("plotly-")
    assert name.endswith(".min.js")
