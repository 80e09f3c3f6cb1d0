"""Batches: pure, complete, correctly masked; the split: by document, never by window."""

from typing import Any

import numpy as np
import pytest
import torch

from qcore.config import DataConfig
from qcore.data import open_dataset
from qcore.data.text.batches import Batch, PackedStream, PaddedStream, batch_for_run, split_documents
from qcore.data.text.tokenizers import BOS, EOS, PAD

CONTEXT = 64


def dataset(context=CONTEXT, **settings):
    return open_dataset(DataConfig(documents=200, **settings), context, None)


def numbered(lengths):
    """Documents whose tokens are all different, from 10 up."""
    ids = np.arange(10, 10 + sum(lengths))
    return [part.astype(np.int32) for part in np.split(ids, np.cumsum(lengths)[:-1])]


def same(first, second):
    pairs = (
        (first.inputs_BT, second.inputs_BT),
        (first.targets_BT, second.targets_BT),
        (first.mask_BT, second.mask_BT),
    )
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_batches_are_a_pure_function(packing):
    first, fresh = dataset(packing=packing), dataset(packing=packing)
    positions = [0, 1, 7, 300, 2, 5000, 0, 41]
    batches = {position: first.train_batch(3, position, 8) for position in positions}
    for position in reversed(positions):
        assert same(fresh.train_batch(3, position, 8), batches[position])
    assert not same(first.train_batch(4, 0, 8), batches[0])
    assert not same(batches[0], batches[1])


@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_two_small_batches_are_one_big_batch(packing):
    data = dataset(packing=packing)
    for position in (0, 11, 97):
        big = data.train_batch(0, position, 8)
        halves = [data.train_batch(0, 2 * position + half, 4) for half in (0, 1)]
        assert torch.equal(big.inputs_BT, torch.cat([half.inputs_BT for half in halves]))
        assert torch.equal(big.mask_BT, torch.cat([half.mask_BT for half in halves]))


@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_shapes_and_shift(packing):
    batch = dataset(packing=packing).train_batch(0, 0, 5)
    assert batch.inputs_BT.shape == batch.targets_BT.shape == batch.mask_BT.shape == (5, CONTEXT)
    assert (batch.inputs_BT.dtype, batch.targets_BT.dtype, batch.mask_BT.dtype) == (
        torch.int64,
        torch.int64,
        torch.bool,
    )
    assert torch.equal(batch.inputs_BT[:, 1:], batch.targets_BT[:, :-1])
    assert bool(batch.mask_BT.all()) == (packing == "packed")


def test_packed_epoch_predicts_every_token_once_but_for_a_remainder():
    stream = PackedStream(numbered([7, 40, 3, 51]), 16)
    length, size = len(stream.tokens_N), len(stream.tokens_N) // 16
    assert length == 7 + 40 + 3 + 51 + 8
    seen_before = []
    for epoch in range(4):
        targets = torch.cat([stream.train_batch(5, epoch * size + i, 1).targets_BT for i in range(size)]).flatten()
        ordinary = targets[targets >= 10].tolist()
        assert len(set(ordinary)) == len(ordinary)
        assert len(targets) == size * 16 > length - 16
        assert targets.tolist() not in seen_before
        seen_before.append(targets.tolist())
    straddling = stream.train_batch(5, 0, size + 2)
    assert straddling.targets_BT[size:].flatten().tolist() == [
        *stream.train_batch(5, size, 1).targets_BT[0].tolist(),
        *stream.train_batch(5, size + 1, 1).targets_BT[0].tolist(),
    ]


def test_packed_windows_are_pieces_of_the_stream():
    stream = PackedStream(numbered([7, 40, 3, 51]), 16)
    ring = np.concatenate([stream.tokens_N, stream.tokens_N]).tolist()
    for position in range(40):
        batch = stream.train_batch(0, position, 1)
        window = [*batch.inputs_BT[0].tolist(), int(batch.targets_BT[0, -1])]
        assert any(ring[start : start + 17] == window for start in range(len(stream.tokens_N)))


def test_padded_epoch_visits_every_row_once_and_masks_padding():
    lengths = [3, 9, 14, 15, 30]
    stream = PaddedStream(numbered(lengths), 15)
    assert stream.truncated == 2  # 15 and 30 tokens do not leave room for eos in 16
    batch = stream.train_batch(1, 0, 5)
    assert sorted(batch.inputs_BT[:, 1].tolist()) == [10, 13, 22, 36, 51]
    for row in range(5):
        inputs, targets, mask = (part[row].tolist() for part in (batch.inputs_BT, batch.targets_BT, batch.mask_BT))
        assert inputs[0] == BOS
        real = sum(mask)
        assert mask == [True] * real + [False] * (15 - real)
        assert PAD not in targets[:real]
        assert set(targets[real:]) <= {PAD}
        assert (targets[real - 1] == EOS) == (real < 15 or inputs[1] == 22)  # 14 tokens and eos just fit
        assert BOS not in targets
    assert int(batch.mask_BT.sum()) == 4 + 10 + 15 + 15 + 15 == int(stream.targets_N.sum())


@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_validation_covers_every_held_out_target_once(packing):
    data = dataset(packing=packing)
    batches = data.validation_batches(8, 10_000)
    targets = torch.cat([batch.targets_BT[batch.mask_BT] for batch in batches])
    assert targets.tolist() == data.validation.tokens_N[data.validation.targets_N].tolist()
    again = data.validation_batches(8, 10_000)
    assert all(same(a, b) for a, b in zip(batches, again, strict=True))
    assert all(PAD not in batch.targets_BT[batch.mask_BT] for batch in batches)
    assert all(bool((batch.targets_BT[~batch.mask_BT] == PAD).all()) for batch in batches)


def test_few_validation_batches_are_spread_evenly():
    data = dataset()
    total = data.validation.fixed_windows
    whole = torch.cat([batch.inputs_BT for batch in data.validation_batches(1, total)])
    few = torch.cat([batch.inputs_BT for batch in data.validation_batches(3, 2)])
    assert len(few) == 6
    places = [next(i for i in range(total) if torch.equal(whole[i], row)) for row in few]
    steps = np.diff([*places, total])
    assert places[0] == 0
    assert steps.min() >= total // 6
    assert steps.max() <= total // 6 + 1
    with pytest.raises(ValueError, match="got 0 and 2"):
        data.validation_batches(0, 2)


@pytest.mark.parametrize("tokenizer", ["byte", "word"])
def test_no_document_is_on_both_sides(tokenizer):
    data = dataset(tokenizer=tokenizer, packing="padded", context=400)

    def decoded(rows):
        return {data.tokenizer.decode(row.tolist()) for row in rows.inputs_BT}

    train = decoded(data.train_batch(0, 0, data.report.train_documents))
    validation = set().union(*map(decoded, data.validation_batches(16, 100)))
    assert len(train) == data.report.train_documents == 180
    assert len(validation) == data.report.validation_documents == 20
    assert not train & validation


def test_split_keeps_equal_documents_together():
    documents = ["a", "b", "a", "c", "d", "a", "e", "c", "f", "g"]
    seen = set()
    for seed in range(20):
        split = split_documents(documents, 0.3, seed)
        assert sorted((*split.train, *split.validation)) == list(range(10))
        assert not {documents[i] for i in split.train} & {documents[i] for i in split.validation}
        assert 3 <= len(split.validation) <= 5
        assert split.duplicates == 3
        assert split == split_documents(documents, 0.3, seed)
        seen.add(split.validation)
    assert len(seen) > 5


def test_split_needs_two_different_documents():
    assert len(split_documents(["a", "b"], 0.01, 0).validation) == 1
    assert len(split_documents(["a", "b"], 0.99, 0).train) == 1
    with pytest.raises(ValueError, match="need two different documents, and the source has 1"):
        split_documents(["a", "a"], 0.5, 0)
    with pytest.raises(ValueError, match="need two different documents, and the source has 0"):
        split_documents([], 0.5, 0)
    for fraction in (0, 1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="validation_fraction"):
            split_documents(["a", "b"], fraction, 0)


def test_a_text_shorter_than_a_window():
    stream = PackedStream(numbered([5, 4]), 13)
    with pytest.raises(ValueError, match="hold 13 tokens and one window needs 14: use a context of at most 12"):
        stream.train_batch(0, 0, 1)
    assert PackedStream(numbered([5, 4]), 12).train_batch(0, 0, 2).inputs_BT.shape == (2, 12)
    held_out = stream.fixed_batch(np.arange(stream.fixed_windows))
    assert int(held_out.mask_BT.sum()) == 12
    with pytest.raises(ValueError, match="training documents hold"):
        dataset(context=100_000)


@pytest.mark.parametrize(("seed", "position", "size"), [(-1, 0, 1), (0, -1, 1), (0, 0, 0)])
def test_bad_arguments_are_refused(seed, position, size):
    with pytest.raises(ValueError, match="got"):
        PackedStream(numbered([50]), 4).train_batch(seed, position, size)


def test_one_token_context():
    batch = PackedStream(numbered([5, 4]), 1).train_batch(0, 0, 13)
    assert sorted(batch.targets_BT.flatten().tolist()) == sorted([BOS, EOS, BOS, EOS, *range(10, 19)])
    with pytest.raises(ValueError, match="context is 0"):
        PackedStream(numbered([5]), 0)


def padded() -> Batch:
    inputs = torch.tensor([[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]])
    targets = torch.tensor([[5, 6, 7, 2, 9], [8, 2, 0, 0, 0]])
    return Batch(inputs, targets, torch.tensor([[True] * 5, [True, True, False, False, False]]))


def asked(**changes: Any) -> Batch:
    return batch_for_run(padded(), **{"label_shift": 1, "mask_padding": True, "pad_id": 0, "eos_id": 2, **changes})


def test_a_batch_is_itself_unless_a_mistake_is_asked_for() -> None:
    for name in ("inputs_BT", "targets_BT", "mask_BT"):
        assert torch.equal(getattr(asked(), name), getattr(padded(), name))


def test_unshifted_and_far_targets() -> None:
    here = asked(label_shift=0)
    assert torch.equal(here.targets_BT, padded().inputs_BT)
    assert torch.equal(here.mask_BT, padded().mask_BT)
    far = asked(label_shift=3)
    assert far.targets_BT[0, :3].tolist() == [7, 2, 9]
    assert far.mask_BT.tolist() == [[True, True, True, False, False], [False] * 5]
    assert asked(label_shift=9).mask_BT.sum() == 0
    with pytest.raises(ValueError, match="label_shift = -1"):
        asked(label_shift=-1)


def test_padding_counts_as_ends_of_sequence_when_nothing_masks_it() -> None:
    batch = asked(mask_padding=False)
    assert batch.mask_BT.all()
    assert batch.inputs_BT[1].tolist() == [1, 8, 2, 2, 2]
    assert batch.targets_BT[1].tolist() == [8, 2, 2, 2, 2]
    assert torch.equal(batch.targets_BT[0], padded().targets_BT[0])
