"""Samples held against a model: what is equal but for rounding, and each way in which it is not."""

import math
from dataclasses import dataclass, replace

import pytest
import torch

from qcore.config import SamplingConfig
from qcore.diagnostics import (
    NotedToken,
    ScoringModel,
    cached_step_check,
    call_difference,
    probability_share,
    prompt_response,
    round_trip_loss,
    rounding_unit,
    score_sample,
)
from qcore.diagnostics.sampler import intended, tolerance
from qcore.sampling import next_distribution

V, EOS = 11, 2
UNIT = rounding_unit([torch.zeros(1)])
TABLE = 2.0 * torch.randn(V, V, generator=torch.Generator().manual_seed(3))
TABLE[:, EOS] -= 6.0


def forward(tokens_BT):
    """A model whose prediction depends on the last token, and a little on all before it."""
    return TABLE[tokens_BT] + 0.3 * TABLE[tokens_BT].cumsum(1) / torch.arange(1, tokens_BT.shape[1] + 1)[:, None]


def scoring(**changes):
    return ScoringModel(**{
        "forward": forward, "step": forward, "start_id": 1, "eos_id": EOS, "forbidden": (0,), "context": 500,
        "unit": UNIT, **changes,
    })  # fmt: skip


@dataclass
class Sampled:
    prompt: list[int]
    tokens: list[NotedToken]


def draw(settings, prompt=(1, 5, 7), count=60, used=None, told=None, choose=None):
    """A sample as it should be; `used`: settings that are really used, `told`: what is given for the prompt."""
    generator = torch.Generator().manual_seed(0)
    ids, noted = list(told or prompt), []
    for _ in range(count):
        logits = forward(torch.tensor([ids]))[0, -1].double()
        allowed = logits.index_fill(0, torch.tensor([0]), -math.inf)
        probs = next_distribution(allowed, ids, used or settings)
        token = choose(probs) if choose else int(torch.multinomial(probs, 1, generator=generator))
        noted.append(NotedToken(token, float(logits.log_softmax(-1)[token]), float(probs[token])))
        ids.append(token)
        if token == EOS:
            break
    return Sampled(list(prompt), noted)


def score(sampled, settings, **changes):
    return score_sample(scoring(**changes), sampled.prompt, sampled.tokens, settings)


SETTINGS = [
    SamplingConfig(temperature=1.0),
    SamplingConfig(temperature=0.3),
    SamplingConfig(temperature=0.0),
    SamplingConfig(temperature=1.4, top_k=3),
    SamplingConfig(temperature=0.9, top_p=0.6, min_p=0.05, repetition_penalty=1.4, repetition_window=5),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
def test_a_sample_of_the_model_agrees_with_it(settings):
    found = score(draw(settings), settings)
    assert found.positions >= 2
    assert found.error < 1e-5
    assert found.first is None
    assert found.draw_error < 1e-5
    assert found.impossible == 0
    assert found.evidence < 8
    assert math.isnan(found.temperature)


@pytest.mark.parametrize("seed", range(20))
def test_probabilities_that_settings_ask_for_are_those_of_the_sampler(seed):
    logits = torch.randn(V, generator=torch.Generator().manual_seed(seed)) * 3
    settings = SETTINGS[seed % len(SETTINGS)]
    history = [seed % V, 3, 3, 4]
    allowed = logits.double().index_fill(0, torch.tensor([0]), -math.inf)
    torch.testing.assert_close(intended(logits, history, settings, (0,)), next_distribution(allowed, history, settings))


def test_another_temperature_is_said():
    settings = SamplingConfig(temperature=0.8)
    found = score(draw(settings, used=SamplingConfig(temperature=1.6)), settings)
    assert found.error < 1e-5
    assert found.draw_error > 0.1
    assert found.temperature == pytest.approx(1.6, abs=0.01)


def test_what_is_drawn_otherwise_than_noted_has_evidence():
    settings = SamplingConfig(temperature=3.0)
    likeliest = draw(settings, choose=lambda probs: int(probs.argmax()))
    assert score(likeliest, settings).draw_error < 1e-5
    assert score(likeliest, settings).evidence > 14
    settings, generator = SamplingConfig(temperature=1.0), torch.Generator().manual_seed(1)
    anything = draw(settings, choose=lambda probs: int(torch.randint(3, V, (), generator=generator)))
    assert score(anything, settings).evidence > 14


def test_a_token_without_probability_is_counted():
    settings = SamplingConfig(temperature=1.0, top_k=2)
    found = score(draw(settings, choose=lambda probs: int(probs.argsort()[-4])), settings)
    assert found.impossible > 0.5


def test_a_prompt_that_is_left_out_is_told_from_one_that_is_replaced():
    settings = SamplingConfig(temperature=1.0)
    left_out = score(draw(settings, told=[1]), settings)
    assert left_out.error > tolerance(UNIT)
    assert left_out.without_prompt < 1e-5
    replaced = score(draw(settings, told=[1, 9, 9]), settings)
    assert replaced.error > tolerance(UNIT) < replaced.without_prompt
    assert replaced.first == 0
    assert replaced.cache is not None
    assert replaced.cache.error == 0


def test_a_cached_step_that_breaks_later_is_found_in_the_sample():
    settings = SamplingConfig(temperature=1.0)
    whole = draw(settings)
    broken = [replace(one, logprob=one.logprob - 0.5) if at >= 30 else one for at, one in enumerate(whole.tokens)]

    def step(tokens_BT):
        logits = forward(tokens_BT)
        logits[:, 32:, 4:] += 1.0
        return logits

    found = score(Sampled(whole.prompt, broken), settings, step=step)
    assert found.first == 30
    assert found.cache.first == 32
    assert found.cache.error > 0.1


def test_one_stray_is_rounding_and_ten_percent_are_not():
    settings = SamplingConfig(temperature=1.0)
    whole = draw(settings)
    stray = [replace(one, logprob=one.logprob - 1) if at == 7 else one for at, one in enumerate(whole.tokens)]
    assert score(Sampled(whole.prompt, stray), settings).error < 1e-5
    more = [replace(one, logprob=one.logprob - 1) if at % 10 == 7 else one for at, one in enumerate(whole.tokens)]
    assert score(Sampled(whole.prompt, more), settings).error > tolerance(UNIT)


@pytest.mark.parametrize("context", [2, 3, 4])
def test_what_lies_beyond_the_context_is_not_compared(context):
    found = score(draw(SamplingConfig(), told=[1, 9]), SamplingConfig(), context=context)
    assert found.positions < 2
    assert math.isnan(found.error)


def test_the_limit_follows_the_number_type():
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(2, 12, 300, generator=generator)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        unit = rounding_unit([torch.zeros(1, dtype=dtype)])
        rounded = (exact.to(dtype) * 1.0).float()
        assert cached_step_check(rounded, exact, unit).first is None
        assert cached_step_check(exact.roll(1, -1), exact, unit).first == 0


def test_a_choice_that_turns_over_in_one_row_is_no_mistake():
    logits = torch.randn(2, 12, 30, generator=torch.Generator().manual_seed(0))
    turned = logits.clone()
    turned[0, 5] += torch.randn(30, generator=torch.Generator().manual_seed(1))
    assert cached_step_check(turned, logits, UNIT).error == 0
    turned[1, 5] += 1.0
    assert cached_step_check(turned, logits, UNIT).first == 5


def test_logits_that_are_not_finite_in_the_step_alone():
    logits = torch.randn(1, 4, 5)
    broken = logits.clone()
    broken[0, 2:] = math.nan
    found = cached_step_check(broken, logits, UNIT)
    assert found.nonfinite == 0.5
    assert found.error == 0
    assert cached_step_check(broken, broken, UNIT).nonfinite == 0
    assert "sampler/cache_error" not in cached_step_check(torch.full_like(logits, math.nan), logits, UNIT).scalars()


def test_probabilities_are_told_from_logits():
    logits = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float32, torch.bfloat16):
        assert probability_share(logits.softmax(-1).to(dtype)) == 1
    for other in (logits, logits.log_softmax(-1), torch.zeros(2, 8, 3), logits.sigmoid(), torch.full((2, 8, 3), 0.5)):
        assert probability_share(other) < 0.5
    mask = torch.zeros(2, 8, dtype=torch.bool)
    assert math.isnan(probability_share(logits, mask))


def test_two_equal_calls():
    logits = torch.randn(1, 8, 5)
    assert call_difference(logits, logits.clone()) == 0
    assert call_difference(logits, logits + torch.randn_like(logits)) > 0.1
    assert call_difference(logits, logits * math.nan) > 1e6
    assert call_difference(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)) == 0


def test_samples_respond_to_their_prompts():
    first = [("a", 0.5), ("b", 0.2)]
    assert prompt_response([([1], first), ([1, 2], first)]) == 0
    assert prompt_response([([1], first), ([1, 2], [("a", 0.5), ("c", 0.2)])]) == pytest.approx(0.2)
    assert math.isnan(prompt_response([([1], first), ([1], first)]))
    assert math.isnan(prompt_response([]))


def test_ids_come_back_through_text():
    pieces = [list(range(40)), [3, 4]]
    assert round_trip_loss(lambda text: [ord(c) for c in text], lambda ids: "".join(map(chr, ids)), pieces) == 0
    assert round_trip_loss(lambda text: [ord(c) + 1 for c in text], lambda ids: "".join(map(chr, ids)), pieces) == 1
    assert math.isnan(round_trip_loss(lambda text: [], lambda ids: "", [[1, 2]]))
