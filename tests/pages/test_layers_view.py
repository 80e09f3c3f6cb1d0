"""The map of the layers on the Gradients page: what was measured on the weights, and what flowed behind each layer."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from qcore.lab import Lab
from qcore.store import DATABASE_NAME, RunWriter
from qcore.viz import LayerValues, layer_map, series_words
from tests.pages.drive import GRADIENTS, open_app, texts
from tests.pages.inside import write_run
from tests.pages.sent import charts_of


def numbers(sent: dict[str, str]) -> np.ndarray:
    """An array as it travels to the browser."""
    flat = np.frombuffer(base64.b64decode(sent["bdata"]), dtype=sent["dtype"])
    return flat.reshape([int(one) for one in sent["shape"].split(",")]) if "shape" in sent else flat


def test_the_map_shows_what_was_measured_and_the_bars_prefer_it(empty: Lab, tmp_path: Path) -> None:
    write_run(tmp_path, "short", last=0)
    one = np.ones(2, np.float32)
    names = ("update_ratio", "update_rms", "weight_rms", "gradient_rms", "still_share", "lost_share")
    with RunWriter(tmp_path / "short" / DATABASE_NAME) as writer:
        writer.truncate_after(-1, event_seq=0)
        writer.set_meta("module_names", ["layers.0.attention", "norm"])
        for step, ratio in ((10, 1e-3), (20, 2e-2)):
            modules = {"dead_share": one * 0, "update_ratio": one * 0.5, "grad_norm": one, "parameters": one}
            writer.log_arrays(step, "modules", modules)
            writer.log_arrays(step, "movement", dict.fromkeys(names, one * ratio))
            writer.log_arrays(step, "layers", dict.fromkeys(("rms", "largest", "kurtosis"), one * step))
    at = open_app(GRADIENTS, run="short", step="10")
    assert not at.exception
    found = charts_of(at)
    assert numbers(found["updates"]["data"][0]["customdata"]) == pytest.approx([1e-3, 1e-3])
    cells = found["layers"]["data"][0]
    assert numbers(cells["z"]) == pytest.approx(np.log10([[1e-3, 2e-2]] * 2), abs=1e-5)
    assert found["layers"]["layout"]["shapes"][-1]["x1"] == 0.5
    at.selectbox("layers_show").select("Kurtosis of the residual stream").run()
    assert not at.exception
    assert charts_of(at)["layers"]["layout"]["yaxis"]["ticktext"] == ["layer 1", "layer 2"]
    assert "How much few numbers dwarf the others behind a layer" in texts(at)


def test_shares_and_sizes_have_their_own_scales_and_nothing_is_said_to_be_so() -> None:
    still, rms = series_words("update/still_share"), series_words("update/rms")
    shares = layer_map(LayerValues(["a"], [1, 2], [[0.0, 1.0]]), still, uirevision="x", shown=0)
    assert (shares.data[0]["zmin"], shares.data[0]["zmax"]) == (0, 1)
    assert not shares.layout["shapes"]
    sizes = layer_map(LayerValues(["a", "b"], [1], [[1e-3], [0.0]]), rms, uirevision="x", shown=5)
    assert sizes.data[0]["z"][0, 0] == pytest.approx(-3)
    assert np.isnan(sizes.data[0]["z"][1, 0])
    for figure in (shares, sizes):
        figure.to_plotly()
    assert not layer_map(LayerValues(["a"], [1], [[np.nan]]), rms, uirevision="x").data
    with pytest.raises(ValueError, match="1 layers at 2 steps"):
        LayerValues(["a"], [1, 2], [[1.0]])
