"""The tree of runs: order, lanes and what stands on them."""

from qcore.viz import Branch, Mark, branches


def tree() -> list[Branch]:
    return [
        Branch("root", "", 0, 400, "finished", marks=(Mark(50, "rate 1 → 2"),)),
        Branch("early", "root", 100, 250, "finished", "<b>seed</b> 0 → 1"),
        Branch("grandchild", "early", 150, 160, "paused"),
        Branch("later", "root", 200, 300, "running", "weight 0 → 0.3"),
        Branch("alone", "gone", 10, 20, "failed"),
    ]


def test_forks_hang_on_their_parents() -> None:
    figure = branches(tree(), chosen=["early"])
    assert figure.layout["yaxis"]["ticktext"] == ["root", "early", "grandchild", "later", "alone"]
    lines = figure.data[::2]
    assert lines[1]["x"] == [100, 100, 250]
    assert lines[1]["y"] == [0, 1, 1]
    assert lines[4]["x"] == [10, 20]
    assert [line["line"]["width"] for line in lines] == [2, 4, 2, 2, 2]
    figure.to_plotly()


def test_changes_are_shown_letter_by_letter_and_marks_are_on_the_lane() -> None:
    figure = branches(tree())
    assert "&lt;b&gt;seed&lt;/b&gt; 0 → 1" in {note["text"] for note in figure.layout["annotations"]}
    largest = max(size for trace in figure.data[1::2] for size in trace["marker"]["size"])
    for note in figure.layout["annotations"]:  # above its line, and beside the one that comes down to the fork
        assert note["yanchor"] == "bottom"
        assert min(note["yshift"], note["xshift"]) > largest / 2
    marks = figure.data[1]
    assert marks["x"] == [0, 50, 400]
    assert marks["text"][1] == "rate 1 → 2"


def test_no_runs_and_a_run_that_names_itself_its_parent() -> None:
    assert branches([]).data == []
    assert branches([Branch("a", "a", 0, 5, "finished")]).data[0]["x"] == [0, 5]
