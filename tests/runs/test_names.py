"""Run names: nothing leaves the runs folder, hides in it, or cannot be a folder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcore.lab import LabError
from qcore.runs.names import check_name, fresh_name


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "../up",
        "a/b",
        "/etc",
        "a\x00b",
        "a\nb",
        "back\\slash",
        ".hidden",
        " lead",
        "trail ",
        "dot.",
        "x" * 300,
        "\ud800",
        "é" * 61,
        "a:b",
        "what?",
    ],
)
def test_bad_names_are_refused(name):
    with pytest.raises(LabError, match="run name"):
        check_name(name)


@pytest.mark.parametrize("name", ["tiny", "run 7", "été", "🧪-lab", "実験", "a..b", "x" * 120])
def test_good_names_pass(name):
    assert check_name(name) == name


def test_the_same_letters_are_the_same_name():
    assert check_name("e\u0301te\u0301") == "été"


@given(st.text(max_size=200))
def test_no_accepted_name_leaves_the_folder(tmp_path_factory, name):
    base = tmp_path_factory.getbasetemp()
    try:
        accepted = check_name(name)
    except LabError:
        return
    path = (base / accepted).resolve()
    assert path.parent == base.resolve()
    assert path != base.resolve()


def test_fresh_names_do_not_collide(tmp_path):
    names = []
    for _ in range(3):
        names.append(fresh_name(tmp_path, "tiny"))
        (tmp_path / names[-1]).mkdir()
    assert len(set(names)) == 3
