"""Coherence-aware drawing: its formula, its limits, what it reads of a model, and that off is the plain rule."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from qcore.diagnostics.perplexity import local_coherence
from qcore.sampling import Coherence, RunningCoherence, check_phases, check_settings, generate, next_distribution
from tests.sampling.plain import Settings

VOCABULARY, PHASES = 7, 5
LOGITS = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True)
class Output:
    logits_BTV: Tensor
    phases: tuple[Tensor, ...] | None = None
    state_BTP: Tensor | None = None


class Turning(nn.Module):
    """Logits depend on the last token; phase p of position t is table[t, p], whatever was drawn."""

    def __init__(self, shows: str = "phases") -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.table = nn.Parameter(torch.randn(VOCABULARY, VOCABULARY, generator=generator))
        self.angle = 6.3 * torch.rand(200, PHASES, generator=generator)
        self.angle[20:40] = 0.3  # a stretch of full order
        self.shows = shows
        self.seen: list[int] = []

    def start(self, batch_size: int) -> int:
        return 0

    def step(self, tokens_B: Tensor, state: int) -> tuple[Output, int]:
        self.seen.append(int(tokens_B))
        phase = self.angle[state][None, None]
        logits = self.table[tokens_B][:, None]
        if self.shows == "phases":
            return Output(logits, phases=(torch.zeros_like(phase), phase)), state + 1
        if self.shows == "wave":
            return Output(logits, state_BTP=torch.polar(torch.full_like(phase, 2.5), phase)), state + 1
        return Output(logits), state + 1


def drawn(settings: Settings, shows: str = "phases") -> list[tuple[int, float]]:
    found = generate(Turning(shows), [1, 2], settings, eos_id=-1)
    return [(token.id, token.chosen_probability) for token in found]


def test_the_running_coherence_is_that_of_the_diagnostics_and_its_level_the_mean_so_far():
    angle = Turning().angle[:60]
    running, values = RunningCoherence(6), []
    for phase in angle:
        running.observe(phase)
        values.append(running.value)
    assert values[:5] == [None] * 5
    expected = local_coherence(angle[None], 6)[0, 5:].double()
    assert [value.now for value in values[5:]] == pytest.approx(expected.tolist(), abs=1e-6)
    level = expected.cumsum(0) / torch.arange(1, len(expected) + 1)
    assert [value.level for value in values[5:]] == pytest.approx(level.tolist(), abs=1e-6)
    assert values[30].now == pytest.approx(1.0)


def test_a_window_of_one_says_nothing():
    running = RunningCoherence(1)
    for phase in Turning().angle[:5]:
        running.observe(phase)
        assert running.value.now == pytest.approx(1.0)
        assert running.value.level == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("now", "level", "factor"), [(0.5, 0.5, 1.0), (0.7, 0.5, 0.6), (0.4, 0.5, 1.2), (1.0, 0.1, 0.5), (0.0, 0.9, 1.5)]
)
def test_the_temperature_follows_the_coherence_between_half_and_three_halves(now, level, factor):
    settings = Settings(temperature=0.8, coherence_temperature=2.0)
    found = next_distribution(LOGITS, [], settings, Coherence(now, level))
    torch.testing.assert_close(found, (LOGITS.double() / (0.8 * factor)).softmax(-1))


def test_the_penalty_grows_with_coherence_and_certainty():
    settings = Settings(repetition_penalty=1.2, coherence_penalty=1.5)
    probs = LOGITS.double().softmax(-1)
    certainty = 1 + float((probs * probs.log()).sum()) / math.log(VOCABULARY)
    penalty = 1.2 * (1 + 1.5 * 0.6 * certainty)
    penalised = LOGITS.double().clone()
    for token in (2, 4):
        penalised[token] = penalised[token] / penalty if penalised[token] > 0 else penalised[token] * penalty
    found = next_distribution(LOGITS, [4, 2, 4], settings, Coherence(0.6, 0.5))
    torch.testing.assert_close(found, penalised.softmax(-1))
    for coherence, logits in ((Coherence(0.0, 0.5), LOGITS), (Coherence(1.0, 0.5), torch.ones(VOCABULARY))):
        plain = next_distribution(logits, [4, 2], replace(settings, coherence_penalty=0.0))
        torch.testing.assert_close(next_distribution(logits, [4, 2], settings, coherence), plain)


def test_off_is_the_plain_rule_bit_for_bit_and_reads_no_phases():
    settings = Settings(temperature=0.9, top_p=0.9, repetition_penalty=1.1, max_tokens=50)
    coherence = Coherence(0.9, 0.2)
    assert torch.equal(next_distribution(LOGITS, [1], settings, coherence), next_distribution(LOGITS, [1], settings))
    assert drawn(settings) == drawn(settings, "nothing")
    assert len(drawn(settings)) == 50
    assert drawn(replace(settings, coherence_temperature=2.0)) != drawn(settings)
    assert drawn(replace(settings, coherence_penalty=2.0)) != drawn(settings)


def test_a_wave_serves_as_well_as_phases_and_the_draw_is_repeatable():
    settings = Settings(coherence_temperature=1.0, coherence_penalty=1.0, max_tokens=40)
    assert [token for token, _ in drawn(settings)] == [token for token, _ in drawn(settings, "wave")]
    assert drawn(settings) == drawn(settings)


def test_order_in_the_phases_cools_the_draw():
    """Same tokens, a stretch of full order: the chosen distribution is sharper there than the plain one."""
    settings = Settings(coherence_temperature=5.0, max_tokens=35, top_k=0)
    model = Turning()
    with torch.no_grad():
        model.table[:] = model.table[0]
    plain = torch.softmax(model.table[0].detach().double(), -1)
    tokens = list(generate(model, [1, 2], settings, eos_id=-1))
    cooled = torch.softmax(model.table[0].detach().double() / 0.5, -1)
    late = tokens[25]  # drawn from the states 23 to 26, all in order
    assert late.chosen_probability == pytest.approx(float(cooled[late.id]))
    assert tokens[0].chosen_probability == pytest.approx(float(plain[tokens[0].id]))  # the window is not full yet


def test_a_model_without_phases_is_refused_at_the_call():
    for name in ("coherence_temperature", "coherence_penalty"):
        settings = replace(Settings(), **{name: 0.5})
        with pytest.raises(ValueError, match=r"has no phases.*set coherence_temperature"):
            generate(Turning("nothing"), [1], settings, eos_id=-1)
    check_phases(Turning("nothing"), Settings())
    check_phases(Turning("wave"), Settings(coherence_penalty=1.0))


@pytest.mark.parametrize(
    ("name", "value"), [("coherence_temperature", -0.1), ("coherence_penalty", math.inf), ("coherence_window", 0)]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}; it must be"):
        check_settings(replace(Settings(), **{name: value}))
