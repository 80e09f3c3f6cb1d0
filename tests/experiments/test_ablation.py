"""Ablation: what is declared, what is compared with what, figures worked out by hand, real runs kept and resumed."""

import json
import math
from dataclasses import asdict

import pytest

from qcore.cli import main
from qcore.cli.ablation import HEAD, table
from qcore.config import LANGUAGE_KINDS, ConfigError, default_run, live_controls
from qcore.config.ablation_variants import BASE, VARIANTS, variants_of, waves
from qcore.experiments.ablation import (
    FAILS,
    HELPS,
    HURTS,
    NEITHER,
    STRETCH,
    UNKNOWN,
    CaseResult,
    ablation_cases,
    ablation_rows,
    base_config,
    run_ablation,
    work,
)
from qcore.experiments.ablation_store import (
    FOLDER,
    FORMAT,
    VERSION,
    ablations,
    cancel_ablation,
    failure_text,
    is_training,
    plan_ablation,
    read_ablation,
    start_ablation,
    train_ablation,
)
from qcore.lab import LabError
from qcore.runs.layout import RunLock
from tests.support.configs import eventually
from tests.support.in_process import fan_out_here

TINY = {
    "width": 8, "layers": 1, "heads": 1, "phases": 2, "context": 8, "documents": 40, "batch_size": 2, "warmup_steps": 2,
    "eval_every": 2, "eval_batches": 1, "sample_length": 4, "prompts": ["Once"],
}  # fmt: skip


def tiny(steps=8, **changes):
    return base_config(changes={**TINY, **changes}, steps=steps)


# what is declared


@pytest.mark.parametrize("kind", LANGUAGE_KINDS)
def test_every_variant_of_a_family_is_a_valid_configuration_that_differs_from_its_base(kind):
    base = base_config(kind=kind)
    configs = {variant.name: base.with_values(variant.changes) for variant in variants_of(kind)}
    assert configs.pop(BASE) == base
    for variant in variants_of(kind)[1:]:
        against = configs.get(variant.against, base)
        assert configs[variant.name] != against, variant.name
        assert variant.why, variant.name


def test_every_term_has_a_variant_with_a_weight_and_a_reason():
    weights = {name for kind in LANGUAGE_KINDS for name in live_controls(kind) if name.endswith("_weight")}
    tried = {
        name for variant in VARIANTS for name, value in variant.changes.items() if name.endswith("_weight") and value
    }
    assert weights - tried == {"ce_weight"}
    assert all(variant.why for variant in VARIANTS)
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)


def test_the_base_is_plain_cross_entropy_whatever_it_starts_from():
    start = default_run().with_values(
        {"diversity_weight": 0.3, "label_smoothing": 0.1, "schedule": ["5: eos_weight = 1"]}
    )
    base = base_config(start, steps=60)
    values = base.live_values()
    assert [name for name, value in values.items() if name.endswith("_weight") and value] == ["ce_weight"]
    assert (values["label_smoothing"], values["schedule"], values["lr_policy"]) == (0.0, [], "constant")
    assert base.value("steps") / base.value("eval_every") == 30
    assert base.value("budget_percent") == 0
    with pytest.raises(ConfigError, match="compares language models"):
        base_config(default_run("video_flow"))


def test_only_brings_what_it_is_compared_with_and_waves_keep_the_order():
    names = [variant.name for variant in variants_of("phase_lm", ["balance", "z_loss"])]
    assert names == [BASE, "z_loss", "experts", "balance"]
    assert [[one.name for one in wave] for wave in waves(variants_of("phase_lm", ["balance", "z_loss"]))] == [
        [BASE],
        ["z_loss", "experts"],
        ["balance"],
    ]
    with pytest.raises(ConfigError, match="no variant 'diversty'; did you mean 'diversity'"):
        variants_of("phase_lm", ["diversty"])
    with pytest.raises(ConfigError, match="transformer has no variant 'dynamic_width'"):
        variants_of("transformer", ["dynamic_width"])


def test_a_seed_is_the_same_data_for_every_variant():
    cases = ablation_cases(base_config(), variants_of("phase_lm", ["diversity"]), 2)
    assert [(case.name, case.config.seed, case.config.value("data_seed")) for case in cases] == [
        (f"{BASE}-0", 0, 0),
        (f"{BASE}-1", 1, 1),
        ("diversity-0", 0, 0),
        ("diversity-1", 1, 1),
    ]


# figures by hand


def result(variant, seed, curve, *, step_ms=10.0, parameters=100, held_out="last"):
    loss = curve[-1][1] if held_out == "last" else held_out
    return CaseResult(
        name=f"{variant}-{seed}", variant=variant, seed=seed, state="finished", message="", steps=20, held_out=loss,
        curve=tuple(curve), parameters=parameters, tokens_per_step=64, step_ms=step_ms, repetition=0.1, distinct_2=0.9,
        seconds=1.0,
    )  # fmt: skip


def test_steps_until_a_loss_lie_on_the_line_between_evaluations():
    one = result("x", 0, [(0, 4.0), (10, 2.0), (20, 1.0)])
    assert one.reached(3.0) == 5.0
    assert one.reached(2.0) == 10.0
    assert one.reached(1.5) == 15.0
    assert one.reached(0.9) is None
    assert one.reached(5.0) == 1.0  # it began below


def test_a_variant_that_is_quicker_helps_and_earns_its_keep_only_when_it_is_not_dearer():
    seeds = range(3)
    base = [result(BASE, seed, [(0, 4.0), (10, 2.0 + seed / 100), (20, 1.0)]) for seed in seeds]
    quick = [
        result("diversity", seed, [(0, 4.0), (10, 1.0), (20, 0.8 - seed / 100)], step_ms=ms, parameters=150)
        for seed, ms in zip(seeds, (15.0, 15.1, 14.9), strict=True)
    ]
    variants = variants_of("phase_lm", ["diversity"])
    own, row = ablation_rows([*base, *quick], variants)
    assert own.variant.name == BASE
    assert own.difference is None
    assert row.verdict == HELPS
    assert row.difference.mean == pytest.approx(-0.21)
    assert (row.reached, row.pairs, row.steps, row.tokens) == (3, 3, 10.0, 640.0)
    assert row.steps_ratio.mean == pytest.approx(0.5)
    assert row.seconds_ratio.mean == pytest.approx(0.75, rel=1e-3)
    assert row.earns
    assert (row.cost_ratio, row.parameters_ratio) == (pytest.approx(1.5), 1.5)
    dear = [result("diversity", one.seed, one.curve, step_ms=25.0) for one in quick]
    assert not ablation_rows([*base, *dear], variants)[1].earns


def test_verdicts_of_harm_of_noise_of_one_seed_and_of_failure():
    variants = variants_of("phase_lm", ["z_loss"])
    base = [result(BASE, seed, [(0, 4.0), (20, 1.0)]) for seed in range(3)]

    def row(*losses):
        more = [
            result("z_loss", seed, [(0, 4.0), (20, loss or 4.0)], held_out=loss) for seed, loss in enumerate(losses)
        ]
        return ablation_rows([*base, *more], variants)[1]

    assert row(1.2, 1.21, 1.19).verdict == HURTS
    assert (row(1.2, 1.21, 1.19).reached, row(1.2, 1.21, 1.19).steps, row(1.2, 1.21, 1.19).seconds_ratio) == (
        0,
        None,
        None,
    )
    noise = row(1.2, 0.9, 1.0)
    assert (noise.verdict, noise.reached, noise.steps_ratio) == (NEITHER, 2, None)
    assert noise.difference.needed > 3
    assert row(1.2).verdict == UNKNOWN
    broken = row(None, None, None)
    assert (broken.verdict, broken.failed, broken.difference) == (FAILS, 3, None)
    partly = row(0.8, 0.81, None)
    assert (partly.failed, partly.pairs) == (1, 2)
    cells = table([*ablation_rows(base, variants), noise, broken])
    assert all(len(line) == len(HEAD) for line in cells)
    assert cells[1][1] == "base: 1.000"
    assert cells[2][4] == "20 (2 of 3 seeds)"
    assert cells[3][2] == FAILS


def test_a_term_of_a_layer_is_compared_with_the_layer():
    variants = variants_of("phase_lm", ["concept"])
    results = [
        one
        for seed in range(2)
        for one in (
            result(BASE, seed, [(0, 4.0), (20, 1.0)]),
            result("concepts", seed, [(0, 4.0), (20, 2.0)]),
            result("concept", seed, [(0, 4.0), (20, 1.9)]),
        )
    ]
    rows = {row.variant.name: row for row in ablation_rows(results, variants)}
    assert rows["concepts"].difference.mean == pytest.approx(1.0)
    assert rows["concept"].difference.mean == pytest.approx(-0.1)


# real runs


@pytest.fixture
def here(monkeypatch):
    """Cases train in this process."""
    monkeypatch.setattr("qcore.experiments.ablation.fan_out", fan_out_here(work))


def test_a_variant_has_to_reach_what_it_is_compared_with(tmp_path, monkeypatch):
    targets = {}

    def only_look(folder, configs, jobs, module, keep):
        targets.update(json.loads((folder / "targets.json").read_text()))
        for name in configs:
            variant, _, seed = name.rpartition("-")
            loss = 2.0 if variant == "concepts" else 1.0
            keep(json.dumps(asdict(result(variant, int(seed), [(0, 4.0), (20, loss + int(seed))]))))

    monkeypatch.setattr("qcore.experiments.ablation.fan_out", only_look)
    done = run_ablation(tmp_path, tiny(), variants_of("phase_lm", ["z_loss", "concept"]), 2, 1, lambda one: None)
    assert len(done) == 8
    assert targets == {
        "z_loss-0": 1.0, "z_loss-1": 2.0, "concepts-0": 1.0, "concepts-1": 2.0, "concept-0": 2.0, "concept-1": 3.0,
    }  # fmt: skip


def test_an_ablation_is_kept_and_goes_on_with_more_seeds(tmp_path, here):
    base = tiny()
    plan = plan_ablation(tmp_path, base, ["z_loss", "label_smoothing"], 1)
    told = []
    done = train_ablation(tmp_path, plan, 1, lambda case: told.append(case.name))
    assert sorted(told) == [f"{BASE}-0", "label_smoothing-0", "z_loss-0"]
    assert read_ablation(tmp_path, plan.name) == done
    first = done.cases[f"{BASE}-0"]
    assert [step for step, _ in first.curve] == [0, 2, 4, 6, 8]
    assert math.isfinite(first.step_ms)
    assert first.parameters > 0
    assert first.tokens_per_step == 16
    assert first.repetition is not None
    behind = [case for case in done.results if case.held_out > first.held_out]
    assert all(case.curve[-1][0] == 8 * STRETCH for case in behind)
    assert all(case.curve[-1][0] == 8 for case in done.results if case not in behind)
    more = plan_ablation(tmp_path, base, ["z_loss"], 2)
    assert (more.name, more.seeds, len(more.variants), len(more.results)) == (plan.name, 2, 3, 3)
    told.clear()
    train_ablation(tmp_path, more, 1, lambda case: told.append(case.name))
    assert sorted(told) == [f"{BASE}-1", "label_smoothing-1", "z_loss-1"]
    assert [one.name for one in ablations(tmp_path)] == [plan.name]
    again = train_ablation(tmp_path, plan_ablation(tmp_path, base, ["z_loss"], 2), 1, lambda case: told.append("never"))
    assert "never" not in told
    assert len(again.rows) == 3
    assert not (tmp_path / FOLDER / plan.name / "work").exists()


def test_equal_seeds_give_equal_cases(tmp_path, here):
    curves = [
        train_ablation(folder, plan_ablation(folder, tiny(4), [BASE], 1), 1).cases[f"{BASE}-0"].curve
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    assert curves[0] == curves[1]


def test_one_in_the_background_ends_on_demand_and_keeps_what_it_has(tmp_path):
    plan = plan_ablation(tmp_path, tiny(20_000), [BASE], 1)
    start_ablation(tmp_path, plan, 1)
    assert is_training(tmp_path, plan.name)
    with pytest.raises(LabError, match="in use by another process"):
        start_ablation(tmp_path, plan, 1)
    eventually(lambda: (tmp_path / FOLDER / plan.name / "work" / "runs").exists())
    cancel_ablation(tmp_path, plan.name)
    assert not is_training(tmp_path, plan.name)
    assert read_ablation(tmp_path, plan.name).results == []
    with pytest.raises(LabError, match="nothing to end"):
        cancel_ablation(tmp_path, plan.name)
    short = plan_ablation(tmp_path, tiny(4), [BASE], 1)
    start_ablation(tmp_path, short, 1)
    eventually(lambda: not is_training(tmp_path, short.name))
    assert len(read_ablation(tmp_path, short.name).results) == 1, failure_text(tmp_path, short.name)


def test_bad_requests_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="seeds = 0"):
        plan_ablation(tmp_path, tiny(), None, 0)
    with pytest.raises(LabError, match="refused"):
        plan_ablation(tmp_path, tiny(), None, 3, "../up")
    with pytest.raises(LabError, match="there is no ablation 'none'"):
        read_ablation(tmp_path, "none")
    plan = plan_ablation(tmp_path, tiny(4), [BASE], 1, "mine")
    with pytest.raises(ConfigError, match="jobs = 0"):
        train_ablation(tmp_path, plan, 0)
    lock = RunLock(tmp_path / FOLDER / "mine")
    (tmp_path / FOLDER / "mine").mkdir(parents=True)
    assert lock.acquire()
    with pytest.raises(LabError, match="in use by another process"):
        train_ablation(tmp_path, plan, 1)
    lock.release()
    start_of = {"format": FORMAT, "version": VERSION, "created": 1.0, "config": {}, "variants": [BASE], "cases": []}
    for text in (
        "[1",
        "{}",
        "5",
        "null",
        '{"format": "other", "version": 1}',
        *(
            json.dumps({**start_of, "seeds": 1, **change})
            for change in (
                {"seeds": math.inf},
                {"seeds": 2**52},
                {"seeds": 0},
                {"created": "now"},
                {"created": 1e300},
                {"variants": 5},
                {"cases": [5]},
                {"cases": [{**asdict(result(BASE, 0, ((2, 1.0),))), "held_out": "x"}]},
            )
        ),
    ):
        (tmp_path / FOLDER / "mine.json").write_text(text)
        with pytest.raises(LabError, match="mine"):
            read_ablation(tmp_path, "mine")
    assert ablations(tmp_path) == []


def test_another_base_may_not_take_the_name(tmp_path, here):
    train_ablation(tmp_path, plan_ablation(tmp_path, tiny(2), [BASE], 1, "mine"), 1)
    with pytest.raises(LabError, match="has another base"):
        plan_ablation(tmp_path, tiny(4), [BASE], 1, "mine")


def test_the_command_prints_the_table_and_keeps_the_cases(tmp_path, here, capsys):
    tiny_sets = [f"--set={key}={value if key != 'prompts' else value[0]}" for key, value in TINY.items()]
    command = ["ablate", "--only", "z_loss", "--seeds", "2", "--steps", "4", "--jobs", "1", "--runs", str(tmp_path)]
    assert main([*command, *tiny_sets, "--markdown"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("| change | held-out")
    assert "| z loss |" in out
    assert "4 runs of 4 steps, 0 of them kept" in err
    assert main([*command, *tiny_sets, "--json"]) == 0
    found, err = capsys.readouterr()
    assert "4 of them kept" in err
    assert [row["variant"]["name"] for row in json.loads(found)["rows"]] == [BASE, "z_loss"]
    assert json.loads(found)["rows"][1]["verdict"] in (HELPS, HURTS, NEITHER)
    assert main(["ablate", "--only", "zloss", "--runs", str(tmp_path)]) == 2
    assert "did you mean 'z_loss'" in capsys.readouterr().err
    assert main(["ablate", "--preset", "tiny", "--config", "x.yaml"]) == 2
