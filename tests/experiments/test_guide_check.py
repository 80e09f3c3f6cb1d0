"""Verdicts: every path and noise is tried, in processes of their own, and judged beside the guide and the data."""

import json
import math

import pytest

from qcore.cli import main
from qcore.config import ConfigError
from qcore.detect import GUIDE
from qcore.experiments.guide_check import CORRELATIONS, PATHS, GuideRun, guide_configs, guide_verdicts
from tests.support.configs import SMALL_VIDEO

TINY = [f"--set={key}={value}" for key, value in SMALL_VIDEO.items() if key not in ("kind", "sample_every")]


def test_every_path_noise_and_seed_is_tried_and_samples_only_at_its_end():
    configs = guide_configs()
    assert len(configs) == len(PATHS) * len(CORRELATIONS) * 3
    assert {(c.value("flow_path"), c.value("noise_correlation"), c.seed) for c in configs.values()} == {
        (path, correlation, seed) for path in PATHS for correlation in CORRELATIONS for seed in range(3)
    }
    assert all(config.value("sample_every") > config.value("steps") for config in configs.values())


def test_a_path_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="flow_path = 'zipper' is refused"):
        guide_configs(["zipper"])


def run(path, correlation, seed, divergence):
    generated = {"divergence": divergence, "orthogonality": 0.9, "energy": 1.0}
    return GuideRun("x", path, correlation, seed, "finished", 1.0, generated, {"divergence": 0.86}, 1.0)


def test_means_deviations_and_promises_over_seeds():
    rows, data = guide_verdicts([run("rab", 1.0, 0, 2.0), run("rab", 1.0, 1, 3.0), run("plain", 0.0, 0, 0.7)])
    assert [(row.path, row.noise_correlation, row.seeds) for row in rows] == [("rab", 1.0, 2), ("plain", 0.0, 1)]
    assert rows[0].mean["divergence"] == 2.5
    assert rows[0].deviation["divergence"] == pytest.approx(math.sqrt(0.5))
    assert math.isnan(rows[1].deviation["divergence"])
    assert {measure for measure in GUIDE.promises if rows[0].meets(measure)} == {"divergence", "orthogonality"}
    assert {measure for measure in GUIDE.promises if rows[1].meets(measure)} == {"orthogonality"}
    assert data == {"divergence": pytest.approx(0.86)}


def test_the_command_trains_and_prints_the_table(capsys):
    assert main(["verdicts", "--path", "plain", "--noise", "1", "--seeds", "1", "--jobs", "1", *TINY, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"][0]["state"] == "finished"
    assert set(found["verdicts"][0]["mean"]) >= {"divergence", "coherence"}
    assert 0 < found["data"]["divergence"] < 2
