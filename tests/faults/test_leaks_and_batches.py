"""L, B, R and N: what a position depends on, what its label is, and where a NaN is stopped."""

import pytest
import torch

from qcore.faults.batches import FIRST_NAN_STEP
from qcore.models.phase.model import GlobalInterference
from qcore.train.engine import NonFiniteError


def tokens(engine, rows=3, length=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, engine.model.vocab_size, (rows, length), generator=generator)


def change_before(engine, cut=8):
    """Largest change of the logits up to `cut` when every later token changes."""
    first_BT = tokens(engine)
    second_BT = torch.cat((first_BT[:, : cut + 1], tokens(engine, seed=1)[:, cut + 1 :]), dim=1)
    change_BTV = engine.logits(first_BT) - engine.logits(second_BT)
    return float(change_BTV[:, : cut + 1].abs().max()), float(change_BTV[:, cut + 1 :].abs().max())


@pytest.mark.parametrize("code", ["L1", "L2", "L3"])
def test_the_future_reaches_earlier_outputs(healthy, planted, code):
    assert change_before(healthy(code)[0])[0] == 0
    before, after = change_before(planted(code)[0])
    assert before > 1e-4 * after > 0


def test_a_symmetric_window_reaches_two_tokens_ahead_and_no_further(planted):
    engine, _ = planted("L2", layers=1)
    first_BT = tokens(engine)
    second_BT = first_BT.clone()
    second_BT[:, 10] = (second_BT[:, 10] + 1).clamp(min=4) % engine.model.vocab_size
    changed_T = (engine.logits(first_BT) != engine.logits(second_BT)).any(-1).any(0)
    assert changed_T.nonzero().flatten().tolist() == [8, 9, 10, 11, 12]


def test_the_mixing_of_a_leak_shows_the_future(healthy, planted):
    future = torch.ones(16, 16, dtype=torch.bool).triu(1)
    for code, leaks in (("L2", True), ("L3", False)):  # L3 leaks through a threshold, not through a weight
        sick, well = (make(code)[0] for make in (planted, healthy))
        [weights_BHTT], [healthy_BHTT] = sick.model.mixing(tokens(sick)), well.model.mixing(tokens(well))
        torch.testing.assert_close(weights_BHTT.sum(-1), torch.ones(3, 2, 16))
        assert bool((weights_BHTT[..., future] > 0).any()) == leaks
        assert not healthy_BHTT[..., future].any()


def test_at_the_end_of_a_window_the_whole_is_the_prefix(planted):
    """So generation, which has no future, may keep the prefix mean."""
    interference = planted("L1")[0].model.layers[0].interference
    e_BTD = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        leaked_BTD, honest_BTD = interference(e_BTD), GlobalInterference.forward(interference, e_BTD)
    torch.testing.assert_close(leaked_BTD[:, -1], honest_BTD[:, -1])
    assert (leaked_BTD[:, :-1] - honest_BTD[:, :-1]).abs().amax(-1).min() > 1e-4


FLUX = {"kind": "flux_lm", "planes": 4, "values": 4}


def test_a_flux_threshold_over_the_whole_row_reaches_earlier_outputs_but_shows_no_future(healthy, planted):
    well, sick = healthy("L3", **FLUX)[0], planted("L3", **FLUX)[0]
    assert change_before(well)[0] == 0
    before, after = change_before(sick)
    assert before > 1e-4 * after > 0
    [weights_BHTT] = sick.model.mixing(tokens(sick))
    torch.testing.assert_close(weights_BHTT.sum(-1), torch.ones(3, 2, 16))
    assert not weights_BHTT.triu(1).any()


@pytest.mark.parametrize("code", ["L2", "L3"])
def test_generation_is_what_the_window_so_far_gives(planted, code):
    """With one layer, a token's output in generation equals the last one of the window that ends there."""
    engine, _ = planted(code, layers=1)
    row_T, state = tokens(engine)[0], engine.model.start(1)
    for t in range(12):
        with torch.no_grad():
            output, state = engine.model.step(row_T[t : t + 1], state)
        torch.testing.assert_close(output.logits_BTV[0, 0], engine.logits(row_T[None, : t + 1])[0, -1])


def test_rows_depend_on_their_batch_mates_also_when_alone(healthy, planted):
    engine, well = planted("B1")[0], healthy("B1")[0]
    first_BT, second_BT = tokens(engine), tokens(engine, seed=1)
    second_BT[0] = first_BT[0]
    assert torch.equal(well.logits(first_BT)[0], well.logits(second_BT)[0])
    assert not torch.allclose(engine.logits(first_BT)[0], engine.logits(second_BT)[0], atol=1e-3)
    alone_TV = engine.logits(first_BT[:1])[0]
    assert float(alone_TV.std(0).mean()) > 0.01
    with torch.no_grad():
        spoken = engine.model.step(first_BT[:1, 0], engine.model.start(1))[0]
    torch.testing.assert_close(spoken.logits_BTV[0, 0], alone_TV[0])


@pytest.mark.parametrize("kind", ["phase_lm", "transformer"])
def test_the_batch_mean_keeps_a_model_causal(planted, kind):
    assert change_before(planted("B1", kind=kind)[0])[0] == 0


def test_labels_are_the_inputs_in_training_and_validation(planted):
    engine, _ = planted("B2")
    for batch in (engine.dataset.train_batch(0, 0, 4), *engine.dataset.validation_batches(4, 2)):
        assert torch.equal(batch.targets_BT, batch.inputs_BT)


def test_a_nan_is_stopped_by_name_and_step_before_the_optimizer_moves(planted):
    engine, board = planted("N1")
    engine.step(FIRST_NAN_STEP - 1, board)
    before = [value.clone() for value in engine.model.parameters()]
    with pytest.raises(NonFiniteError) as caught:
        engine.step(FIRST_NAN_STEP, board)
    assert (caught.value.terms, caught.value.step) == (["z_loss"], FIRST_NAN_STEP)
    assert all(torch.equal(a, b) for a, b in zip(before, engine.model.parameters(), strict=True))
    assert all(value == value for value in engine.preview(board).terms.values())


def test_layers_without_residuals_share_one_direction(healthy, planted):
    def likeness(engine):
        with torch.no_grad():
            hidden_TD = torch.nn.functional.normalize(engine.model(tokens(engine, rows=1)).hidden_BTD[0], dim=-1)
        return float(hidden_TD.mean(0).square().sum())

    deep = {"layers": 6, "width": 48, "heads": 4}
    sick, well = planted("R1", **deep)[0], healthy("R1", **deep)[0]
    assert likeness(sick) > 0.5 > 0.3 > likeness(well)
    layer, x_BTD = sick.model.layers[0], torch.ones(1, 3, 48)
    with torch.no_grad():
        layer.ffn.down.weight.zero_()
        assert not layer(x_BTD).any()
