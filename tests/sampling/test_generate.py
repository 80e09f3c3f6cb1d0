"""Generation: what a token reports, determinism, and that the model and the process are left as they were."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from qcore.sampling import generate
from tests.sampling.plain import Settings

BOS, EOS, VOCABULARY = 0, 1, 6


@dataclass(frozen=True)
class Output:
    logits_BTV: Tensor


class Bigram(nn.Module):
    """Logits are a table row of the last token; the state is the tokens seen. Dropout makes the mode matter."""

    def __init__(self) -> None:
        super().__init__()
        table = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(5))
        table[:, EOS] = -4.0
        self.table = nn.Parameter(table)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()
        self.seen: list[int] = []
        self.modes: list[tuple[bool, bool]] = []

    def start(self, batch_size: int) -> list[int]:
        assert batch_size == 1
        return []

    def step(self, tokens_B: Tensor, state: list[int]) -> tuple[Output, list[int]]:
        self.seen.append(int(tokens_B))
        self.modes.append((self.training or self.dropout.training, torch.is_grad_enabled()))
        return Output(self.dropout(self.table)[tokens_B].unsqueeze(1)), [*state, int(tokens_B)]


def ids(model: nn.Module, settings: Settings, prompt: tuple[int, ...] = (BOS, 3)) -> list[int]:
    return [token.id for token in generate(model, prompt, settings, eos_id=EOS)]


def test_one_forward_a_token_and_none_after_the_last():
    model = Bigram()
    text = ids(model, Settings(max_tokens=5))
    assert len(text) == 5
    assert model.seen == [BOS, 3, *text[:-1]]


def test_the_same_seed_gives_the_same_text_and_another_seed_another():
    settings = Settings(max_tokens=30)
    assert ids(Bigram(), settings) == ids(Bigram(), settings)
    assert ids(Bigram(), settings) != ids(Bigram(), replace(settings, sample_seed=1))


def test_the_global_random_state_is_neither_read_nor_moved():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = ids(Bigram(), Settings(max_tokens=20))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert ids(Bigram(), Settings(max_tokens=20)) == first


def test_between_tokens_the_model_trains_as_if_nothing_happened():
    """A generator that held eval mode or no_grad over its yield would switch the caller's training off."""
    model = Bigram()
    model.train()
    model.frozen.eval()
    for _ in generate(model, [BOS], Settings(max_tokens=4), eos_id=EOS):
        assert torch.is_grad_enabled()
        assert model.training
        assert model.dropout.training
        assert not model.frozen.training
    assert set(model.modes) == {(False, False)}


def test_an_error_in_the_model_restores_its_mode():
    model = Bigram()
    with pytest.raises(IndexError):
        list(generate(model, [VOCABULARY + 3], Settings(), eos_id=EOS))
    assert model.training
    assert model.dropout.training


def test_a_token_reports_the_models_own_distribution():
    model = Bigram()
    settings = Settings(temperature=0.5, top_k=3, repetition_penalty=1.5, max_tokens=12)
    previous = 3
    for token in generate(model, [BOS, previous], settings, eos_id=EOS):
        own = model.table[previous].detach().double().softmax(-1)
        ranked = own.argsort(descending=True).tolist()
        assert token.probability == pytest.approx(own[token.id].item())
        assert token.logprob == pytest.approx(math.log(token.probability))
        assert token.rank == 1 + ranked.index(token.id)
        assert token.entropy == pytest.approx(-(own * own.log()).sum().item())
        assert token.top_ids == tuple(ranked[:5])
        assert token.top_probabilities == pytest.approx(own[ranked[:5]].tolist())
        assert 0 < token.chosen_probability <= 1
        previous = token.id


def test_greedy_takes_the_most_likely_token_every_time():
    tokens = list(generate(Bigram(), [BOS], Settings(temperature=0.0), eos_id=EOS))
    assert all(token.rank == 1 and token.chosen_probability == 1 for token in tokens)


def test_frequencies_follow_the_sampling_distribution():
    """A memoryless table: 1,000 draws against its softmax at temperature 2, within five standard errors."""
    model = Bigram()
    model.table.data[:] = model.table.data[0]
    settings = Settings(temperature=2.0, max_tokens=1000)
    text = [token.id for token in generate(model, [BOS], settings, eos_id=-1)]
    expected = (model.table[0].detach().double() / 2).softmax(-1)
    found = torch.bincount(torch.tensor(text), minlength=VOCABULARY) / len(text)
    error = (expected * (1 - expected) / len(text)).sqrt()
    assert ((found - expected).abs() < 5 * error).all()


def test_forbidden_tokens_are_never_drawn_but_still_shown():
    model = Bigram()
    with torch.no_grad():
        model.table[:, 4] = 9.0
    tokens = list(generate(model, [BOS], Settings(max_tokens=40), eos_id=EOS, forbidden=(4, EOS)))
    assert len(tokens) == 40
    assert not {4, EOS} & {token.id for token in tokens}
    assert all(token.top_ids[0] == 4 and token.rank > 1 for token in tokens)


def test_eos_is_yielded_and_ends_the_text():
    model = Bigram()
    with torch.no_grad():
        model.table[:, EOS] = 50.0
    assert ids(model, Settings()) == [EOS]


def test_the_penalty_sees_the_prompt():
    model = Bigram()
    with torch.no_grad():
        model.table[:] = torch.tensor([0.0, -9.0, 0.0, 2.0, 1.9, 0.0])
    greedy = Settings(temperature=0.0, max_tokens=1, repetition_penalty=2.0)
    assert ids(model, greedy, prompt=(BOS, 3)) == [4]
    assert ids(model, replace(greedy, repetition_window=1), prompt=(3, BOS)) == [3]


@pytest.mark.parametrize("forwards", [0, 1, 2, 4])
def test_stop_ends_it_before_the_next_forward(forwards):
    model = Bigram()
    text = [
        token.id
        for token in generate(model, [BOS, 3], Settings(), eos_id=EOS, stop=lambda: len(model.seen) >= forwards)
    ]
    assert len(model.seen) == forwards
    assert len(text) == max(0, forwards - 1)


def test_mistakes_are_refused_at_the_call():
    with pytest.raises(ValueError, match="prompt_ids is empty; pass at least one token"):
        generate(Bigram(), [], Settings(), eos_id=EOS)
    with pytest.raises(ValueError, match="prompt_ids holds -2"):
        generate(Bigram(), [-2], Settings(), eos_id=EOS)
    with pytest.raises(ValueError, match="top_p is 0"):
        generate(Bigram(), [BOS], replace(Settings(), top_p=0.0), eos_id=EOS)


def test_nan_logits_say_so():
    model = Bigram()
    with torch.no_grad():
        model.table[:, 2] = math.nan
    with pytest.raises(FloatingPointError, match="logits hold NaN"):
        list(generate(model, [BOS], Settings(), eos_id=EOS))


def test_forbidding_everything_is_refused():
    with pytest.raises(ValueError, match="every token is forbidden"):
        list(generate(Bigram(), [BOS], Settings(), eos_id=EOS, forbidden=range(VOCABULARY)))
