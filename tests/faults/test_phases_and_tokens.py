"""P1–P3 and T1–T4: half circles, aligned phases, a dead axis; ends, one word, one distribution, one loop."""

from itertools import pairwise

import pytest
import torch

from qcore.config import SamplingConfig
from qcore.config.schedule_text import parse_schedule
from qcore.faults.phases import _FADE_STEPS
from qcore.faults.tokens import arbitrary_word
from qcore.objectives import Derived
from qcore.sampling import generate


def tokens(engine, rows=3, length=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, engine.model.vocab_size, (rows, length), generator=generator)


def waves(engine, tokens_BT):
    """z and phases of a window, and z of the same row spoken token by token."""
    engine.model.eval()
    with torch.no_grad():
        output = engine.model(tokens_BT, with_phases=True)
        state, spoken = engine.model.start(1), []
        for t in range(tokens_BT.shape[1]):
            step, state = engine.model.step(tokens_BT[:1, t], state)
            spoken.append(step.state_BTP)
    return output.state_BTP, output.phases, torch.cat(spoken, dim=1)


def set_updates(engine, count):
    """Let the optimizer believe that it has made `count` updates."""
    engine.optimizer.state[engine.model.embedding.weight]["step"] = torch.tensor(float(count))


def test_the_imaginary_part_never_becomes_positive(planted, healthy):
    sick, well = planted("P1")[0], healthy("P1")[0]
    z_BTP, phases, spoken_1TP = waves(sick, tokens(sick))
    assert float(z_BTP.imag.max()) < 1e-6
    assert float(z_BTP.imag.min()) < -0.1
    assert all(float(phase.sin().max()) < 1e-6 for phase in phases)
    torch.testing.assert_close(spoken_1TP[0], z_BTP[0])
    assert float(waves(well, tokens(well))[0].imag.max()) > 0.1
    with torch.no_grad():
        for parameter in sick.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    assert float(waves(sick, tokens(sick))[0].imag.max()) < 1e-5


def test_phases_start_spread_and_are_pulled_together(planted):
    engine, board = planted("P2", learning_rate=1e-2, steps=60)

    def order():
        phases = waves(engine, engine.dataset.train_batch(0, 50, 4).inputs_BT)[1]
        return [float(torch.polar(torch.ones_like(phase), phase).mean(1).abs().mean()) for phase in phases]

    first = order()
    for step in range(1, 31):
        engine.step(step, board)
    assert max(first) < 0.5
    assert min(order()) > 0.6


@pytest.mark.parametrize("kind", ["phase_lm", "pam"])
def test_the_imaginary_channel_fades_with_the_updates(planted, healthy, kind):
    sick, board = planted("P3", kind=kind)
    well, _ = healthy("P3", kind=kind)
    batch_BT = tokens(sick)
    torch.testing.assert_close(waves(sick, batch_BT)[0], waves(well, batch_BT)[0])
    sick.step(1, board)
    ratios = []
    for count in (0, _FADE_STEPS // 2, _FADE_STEPS, 10 * _FADE_STEPS):
        set_updates(sick, count)
        z_BTP, _, spoken_1TP = waves(sick, batch_BT)
        torch.testing.assert_close(spoken_1TP[0], z_BTP[0], atol=1e-4, rtol=1e-3)
        ratios.append(float(z_BTP.imag.var() / z_BTP.real.var()))
    assert ratios[0] > ratios[1] > 0.01 > 1e-3 > ratios[2] > 0
    assert ratios[3] == ratios[2]


def test_a_real_memory_has_no_imaginary_channel_to_lose(planted):
    with pytest.raises(ValueError, match="a mistake of a phase_lm or complex pam and cannot be planted in a pam"):
        planted("P3", kind="pam", complex_state=False)


def test_padding_becomes_targets_of_the_end(planted, healthy):
    sick, well = planted("T1", context=128)[0], healthy("T1", context=128)[0]
    eos, pad = sick.dataset.tokenizer.eos_id, sick.dataset.tokenizer.pad_id
    pairs = [(engine.dataset.train_batch(0, 0, 8), *engine.dataset.validation_batches(4, 1)) for engine in (sick, well)]
    for mine, other in zip(*pairs, strict=True):
        assert mine.mask_BT.all()
        assert not (mine.inputs_BT == pad).any()
        assert float((mine.targets_BT == eos).float().mean()) > 0.5
        assert torch.equal(mine.targets_BT[other.mask_BT], other.targets_BT[other.mask_BT])
        assert (mine.targets_BT[~other.mask_BT] == eos).all()


def test_the_end_takes_over_every_position(planted):
    engine, board = planted("T1", context=128, width=32, layers=2, learning_rate=1e-3, warmup_steps=0)
    batch = engine.dataset.validation_batches(8, 1)[0]

    def share():
        return float((engine.logits(batch.inputs_BT).argmax(-1) == engine.dataset.tokenizer.eos_id).float().mean())

    first = share()
    for step in range(1, 31):
        engine.step(step, board)
    assert first < 0.5
    assert share() > 0.95


def one_word_term(engine, board):
    batch = engine.dataset.train_batch(0, 0, 4)
    inputs = engine.term_inputs(engine.model(batch.inputs_BT, with_phases=True), batch)
    [one] = [term for term in engine.terms if term.name == "dominance"]
    value = one.fn(Derived(inputs), board)
    return one, float(value.detach()), torch.autograd.grad(value, inputs.logits_BTV)[0], inputs.logits_BTV.softmax(-1)


def test_one_word_is_rewarded_and_the_reward_warms_up(planted):
    engine, board = planted("T2")
    word = arbitrary_word(engine.dataset)
    assert word > engine.dataset.tokenizer.unk_id
    engine.step(1, board)
    values = []
    for count in (0, 50, 100, 200):
        set_updates(engine, count)
        one, value, gradient_BTV, probs_BTV = one_word_term(engine, board)
        assert one.low <= value < 0 == one.high
        assert (gradient_BTV[..., word] < 0).all()
        gradient_BTV[..., word] = 0
        assert (gradient_BTV >= 0).all()
        values.append(value)
    mean_root = float(probs_BTV[..., word].sqrt().mean().detach())
    assert values == pytest.approx([-0.01 * mean_root, -(0.01 + 0.99 / 8) * mean_root, -mean_root, -mean_root])


def test_the_learning_rate_jump_needs_no_planting(planted, healthy):
    engine, _ = planted("T2b")
    assert vars(engine).keys() == vars(healthy("T2b")[0]).keys()
    changes = parse_schedule(engine.config.optim.schedule).changes
    assert any(change.name == "learning_rate" and float(change.value) > 0.1 for change in changes)


def test_every_position_and_every_context_gives_one_distribution(planted):
    engine, board = planted("T3", layers=2)
    for step in (1, 2, 3):
        engine.step(step, board)
    logits_BTV = engine.logits(tokens(engine))
    assert float((logits_BTV - logits_BTV[:1, :1]).abs().max()) < 1e-5
    with torch.no_grad():
        output, _ = engine.model.step(tokens(engine)[0, :1], engine.model.start(1))
    torch.testing.assert_close(output.logits_BTV[0, 0], logits_BTV[0, 0])
    for weights_BHTT in engine.model.mixing(tokens(engine)):
        uniform_TT = torch.ones(16, 16).tril() / torch.arange(1.0, 17)[:, None]
        torch.testing.assert_close(weights_BHTT, uniform_TT.expand_as(weights_BHTT))


def test_a_model_of_its_own_token_alone_falls_into_a_loop(planted):
    engine, board = planted("T4", layers=2)
    for step in (1, 2, 3):
        engine.step(step, board)
    batch_BT = tokens(engine)
    torch.testing.assert_close(engine.logits(batch_BT)[:, -1], engine.logits(batch_BT[:, -1:])[:, -1])
    settings = SamplingConfig(temperature=engine.config.sampling.temperature, max_tokens=400)
    spoken = [token.id for token in generate(engine.model, [1], settings, eos_id=-1)]
    followers = {}
    for token, follower in pairwise(spoken):
        assert followers.setdefault(token, follower) == follower
    assert torch.equal(engine.model.mixing(batch_BT)[0][0, 0], torch.eye(16))
