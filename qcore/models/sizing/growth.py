"""Function-preserving growth: a larger model of the same kind that computes the same logits as the smaller one.

Every parameter has one line in its family's table (`Growth` in the family's record): what its axes are made of, and how
its new entries begin. Old entries stay the first of each block. New channels of the residual stream begin at 0: what
writes to them is 0, what reads them is random, so that the writers have gradient at once and the readers one step
later. New heads, phases and feed-forward units compute from the start and are read with weight 0; new layers end in 0.
What no table knows is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from qcore.config import LanguageConfig, PAMConfig, PhaseLMConfig, TransformerConfig
from qcore.models.blocks import LanguageModel
from qcore.models.factory import build_model
from qcore.models.families import FAMILIES
from qcore.models.record import Growth, GrowthRule

_SIZES = ("width", "layers", "heads", "phases", "ffn_width", "context")
_FREE = ("dropout", "activation_checkpointing", "chunk")
_POWERS = {"exp_avg": 1, "exp_avg_sq": 2, "max_exp_avg_sq": 2}

_Sized = PhaseLMConfig | PAMConfig | TransformerConfig
"""Configurations with heads: what the tables know."""


def growth_plan(old: LanguageConfig, new: LanguageConfig) -> None:
    """Check that a model of size `old` can grow into `new`: the same kind and switches, no size smaller, at least one
    larger, the width (and phases) of a head kept. ValueError names the value in the way and the remedy.
    """
    if old.kind != new.kind:
        raise ValueError(f"a {old.kind} cannot grow into a {new.kind}; keep model.kind = {old.kind}")
    family = _growth_of(old)
    before, after = old.model_dump(), new.model_dump()
    for name, value in before.items():
        # switches change what is computed: no start of new weights gives the same logits then
        if name not in _SIZES and name not in _FREE and after[name] != value:
            raise ValueError(f"{name} = {after[name]} cannot be reached by growth; keep {name} = {value}")
    # the width of the feed-forward follows from others and is compared, too: rounding may make it smaller
    sizes = [
        {**{name: dump[name] for name in _SIZES if name in dump}, "ffn_width": family.blocks(config)["F"]}
        for config, dump in ((old, before), (new, after))
    ]
    for name, value in sizes[0].items():
        if sizes[1][name] < value:
            raise ValueError(
                f"{name} = {sizes[1][name]} is smaller than the model's {value}; growth keeps or raises it"
            )
    for name, reason in family.keeps(old).items():
        if sizes[0][name] != sizes[1][name]:
            raise ValueError(f"{name} = {sizes[1][name]} cannot be reached by growth: {reason}; keep {sizes[0][name]}")
    if sizes[0] == sizes[1]:
        raise ValueError(f"all sizes stay as they are (width {old.width}, {old.layers} layers); raise at least one")
    _check_heads(old, new)
    for config in (old, new):
        _check_table(config)


def grow_model(old: LanguageModel, new_config: LanguageConfig, vocab_size: int, seed: int) -> LanguageModel:
    """A model of `new_config` with the logits of `old`, on its device, in its precision and its mode.

    New weights are a function of `seed`. The logits agree up to rounding and the norms' ε: x/√(m + ε) becomes x/√(m +
    ε·D′/D), a relative change of ε·(D′/D − 1)/(2m) with ε = 10⁻⁶ and m the stream's mean square (about 1 or more).
    Waves and phases keep their old entries; the last layer's are those of the new last layer. torch's random state is
    seeded and put back: hold the engine's lock where threads share it.

    Raises:
        ValueError: see `growth_plan`, and a vocabulary that is not the model's.
    """
    old_config: LanguageConfig = old.config
    growth_plan(old_config, new_config)
    if vocab_size != old.vocab_size:
        raise ValueError(f"a vocabulary of {vocab_size} tokens; growth keeps the model's {old.vocab_size}")
    new = build_model(new_config, vocab_size, seed=seed)
    like = old.get_parameter("embedding.weight")
    new.to(device=like.device, dtype=like.dtype)
    old_tensors = old.state_dict()
    places = _places(old_config, new_config, vocab_size)
    with torch.no_grad():
        for name, value in new.state_dict(keep_vars=True).items():
            rule = _rule_of(name, new_config)
            if rule.start in ("silent", "table"):
                # new weights that feed into the stream begin at 0, so that the logits stay; their gradient is not 0
                value.zero_()
            if name in old_tensors:
                # what new channels do to the mean square of the stream is undone here: see `Start`
                block = old_tensors[name] * _scale(rule, old_config, new_config)
                value[places(rule)] = block.to(value.dtype)
    return new.train(old.training)


def grow_moments(moments: Mapping[str, Tensor], old: LanguageModel, new: LanguageModel) -> dict[str, Tensor]:
    """The optimizer's moments, named '<parameter>.<moment>' as a checkpoint does, at the shapes of `new`.

    Steps are kept. First moments are divided by what growth multiplied a weight by, second moments by its square (the
    gradient of s·w is that of w ÷ s), and new entries are 0. Parameters of new layers have no moments: the optimizer
    starts theirs at its next step.

    Raises:
        ValueError: a moment of a parameter that `old` lacks, or of an unknown name.
    """
    old_config: LanguageConfig = old.config
    new_config: LanguageConfig = new.config
    places = _places(old_config, new_config, old.vocab_size)
    sizes = {name: parameter.shape for name, parameter in old.named_parameters()}
    grown_sizes = {name: parameter.shape for name, parameter in new.named_parameters()}
    grown = {}
    for full_name, value in moments.items():
        name, _, moment = full_name.rpartition(".")
        if name not in sizes or name not in grown_sizes:
            raise ValueError(f"the moment {full_name!r} belongs to no parameter of both models; pass the old model's")
        if moment == "step":
            # steps are Adam's count for its bias correction: the old entries keep their history
            grown[full_name] = value.clone()
            continue
        if moment not in _POWERS:
            raise ValueError(f"the moment {full_name!r} is none of {', '.join(('step', *_POWERS))}; it cannot be grown")
        if value.shape != sizes[name]:
            raise ValueError(f"the moment {full_name!r} is {tuple(value.shape)}, its parameter {tuple(sizes[name])}")
        rule = _rule_of(name, new_config)
        padded = value.new_zeros(grown_sizes[name])
        padded[places(rule)] = value / _scale(rule, old_config, new_config) ** _POWERS[moment]
        grown[full_name] = padded
    return grown


def _check_heads(old: LanguageConfig, new: LanguageConfig) -> None:
    """A head that became wider, or had more phases, would be another function."""
    assert isinstance(old, _Sized)
    assert isinstance(new, _Sized)
    if old.width * new.heads != new.width * old.heads:
        raise ValueError(
            f"width {new.width} over {new.heads} heads changes the width of a head from {old.width // old.heads} to "
            f"{new.width / new.heads:g}; choose heads = width ÷ {old.width // old.heads}"
        )
    if old.start == "level" and old.width % 2 and old.width != new.width:
        raise ValueError(
            f"width {old.width} is odd: its last channel enters alone and would get a partner; keep width = {old.width}"
        )
    if not isinstance(old, PhaseLMConfig) or not isinstance(new, PhaseLMConfig):
        return
    if (old.phases, old.heads) == (new.phases, new.heads):
        return
    if old.phases % old.heads:
        raise ValueError(
            f"{old.phases} phases are not shared evenly by {old.heads} heads, so that neither can grow; raise the "
            "layers or the feed-forward width instead"
        )
    if old.phases * new.heads != new.phases * old.heads:
        per_head = old.phases // old.heads
        raise ValueError(
            f"{new.phases} phases over {new.heads} heads change the phases of a head from {per_head} to "
            f"{new.phases / new.heads:g}; choose phases = {per_head} × heads = {per_head * new.heads}"
        )


def _check_table(config: LanguageConfig) -> None:
    """Every tensor has a rule, and its shape is what the rule says; counted without memory."""
    with torch.device("meta"):
        tensors = build_model(config, 1).state_dict()
    for name, value in tensors.items():
        rule = _rule_of(name, config)
        told = tuple(sum(sizes) for sizes in _axes(rule, config, 1))
        assert told == value.shape, f"the growth table says {told} of {name}, which is {tuple(value.shape)}"


def _growth_of(config: LanguageConfig) -> Growth:
    """How models of this kind grow.

    Raises:
        ValueError: for a kind that cannot.
    """
    growth = FAMILIES[config.kind].growth
    if growth is None:
        able = ", ".join(kind for kind, family in FAMILIES.items() if family.growth is not None)
        raise ValueError(f"a {config.kind} cannot grow; models that can: {able}")
    return growth


def _rule_of(name: str, config: LanguageConfig) -> GrowthRule:
    anonymous = re.sub(r"^layers\.\d+\.", "layers.*.", name)
    for rule in _growth_of(config).rules(config):
        if rule.pattern == anonymous:
            return rule
    raise ValueError(
        f"growth does not know the parameter {name} of this {config.kind}; switch off the mechanism that it belongs to"
    )


def _axes(rule: GrowthRule, config: LanguageConfig, vocab_size: int) -> list[list[int]]:
    """Sizes of the blocks of every axis."""
    assert isinstance(config, _Sized)
    D, H = config.width, config.heads
    sizes = {"V": vocab_size, "D": D, "H": H, "d": D // H, **_growth_of(config).blocks(config)}
    return [
        [int(block) if block.isdecimal() else sizes[block] for block in axis.split("+")] for axis in rule.axes.split()
    ]


def _places(old: LanguageConfig, new: LanguageConfig, vocab_size: int) -> Callable[[GrowthRule], tuple[Tensor, ...]]:
    """Where the old entries of a parameter lie in the grown one: an open mesh of indices, one for each axis."""

    def places(rule: GrowthRule) -> tuple[Tensor, ...]:
        indices = []
        for before, after in zip(_axes(rule, old, vocab_size), _axes(rule, new, vocab_size), strict=True):
            begins = [sum(after[:block]) for block in range(len(after))]
            indices.append(
                torch.cat([torch.arange(start, start + size) for start, size in zip(begins, before, strict=True)])
            )
        shape = [[-1 if axis == own else 1 for axis in range(len(indices))] for own in range(len(indices))]
        return tuple(index.view(view) for index, view in zip(indices, shape, strict=True))

    return places


def _scale(rule: GrowthRule, old: LanguageConfig, new: LanguageConfig) -> float:
    shrink = (old.width / new.width) ** 0.5
    return {"table": shrink, "norm": shrink, "head": 1 / shrink}.get(rule.start, 1.0)
