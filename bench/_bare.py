"""What any script would do, without the lab: the training loops that `lab_overhead.py` compares with.

Batch, forward, loss, backward, clip, AdamW, held-out evaluations, and at the lab's cadence a checkpoint of weights and
moments and the same samples. As a process of its own, `python -m bench._bare CONFIG.yaml SCRATCH` makes as many steps
as each line of its input says and answers with the seconds they took.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from qcore.config import RunConfig, TextRunConfig, VideoRunConfig
from qcore.data import Batch, open_clips, open_dataset
from qcore.flow import PathSettings, correlated_noise, integrate, make_path, statistical_anchor
from qcore.models import build_model, build_video_model
from qcore.sampling import clip_noise, clip_seeds, generate

Train = Callable[[int], None]


def bare_script(config: RunConfig, scratch: Path) -> Train:
    """A function that makes n more steps of a plain training loop of the run's family."""
    if isinstance(config, VideoRunConfig):
        return _video(config, scratch)
    assert isinstance(config, TextRunConfig)
    return _text(config, scratch)


def _text(config: TextRunConfig, scratch: Path) -> Train:
    dataset = open_dataset(config.data, config.model.context, None)
    tokenizer = dataset.tokenizer
    settings = config.sampling.model_copy(update={"max_tokens": config.probes.sample_length})
    counts = torch.as_tensor(dataset.token_counts)
    model = build_model(config.model, dataset.tokenizer.vocab_size, counts, seed=config.seed)

    def loss_of(batch: Batch) -> torch.Tensor:
        logits = model(batch.inputs_BT).logits_BTV
        return functional.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten())

    def sample() -> None:
        for prompt in config.probes.prompts:
            ids = [tokenizer.bos_id, *tokenizer.encode(prompt)]
            list(generate(model.eval(), ids, settings, eos_id=tokenizer.eos_id))

    return _loop(config, dataset, [model], loss_of, sample, scratch)


def _video(config: VideoRunConfig, scratch: Path) -> Train:
    dataset = open_clips(config.data)
    probes, flow, sampling = config.probes, config.flow, config.sampling
    model = build_video_model(config.model, dataset.shape, seed=config.seed)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.model.ema_decay))
    path = make_path(flow.flow_path, PathSettings(t_star=flow.t_star, repulsion=flow.repulsion))
    start = clip_noise(dataset.shape, flow.noise_correlation, clip_seeds(0, probes.measured_clips))

    def loss_of(clips: torch.Tensor) -> torch.Tensor:
        own, shared = torch.randn_like(clips), torch.randn_like(clips[:, 0])
        anchor = statistical_anchor(path.name, clips, torch.randn(3, *shared.shape))
        noise, t_B = correlated_noise(own, shared, flow.noise_correlation), torch.rand(len(clips))
        sample = path.sample(noise, anchor, clips, t_B)
        velocity = model(sample.z_BFCHW, t_B, amplification=flow.frame_amplification).velocity_BFCHW
        return functional.mse_loss(velocity, sample.velocity_BFCHW)

    def velocity(z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return average(z, t, amplification=flow.frame_amplification).velocity_BFCHW

    def sample() -> None:
        average.eval()
        with torch.no_grad():
            integrate(velocity, start, method=sampling.solver, steps=sampling.solver_steps, jumps=path.jumps())

    return _loop(config, dataset, [model, average], loss_of, sample, scratch)


def _loop(
    config: RunConfig,
    dataset: Any,
    models: list[Any],
    loss_of: Callable[[Any], torch.Tensor],
    sample: Callable[[], None],
    scratch: Path,
) -> Train:
    """models: the one that trains, and its average, if there is one."""
    optim, probes = config.optim, config.probes
    model, averages = models[0], models[1:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=optim.learning_rate, fused=True)
    held_out = dataset.validation_batches(optim.batch_size, probes.eval_batches)
    position = 0

    def train(steps: int) -> None:
        nonlocal position
        for _ in range(steps):
            model.train()
            loss = loss_of(dataset.train_batch(config.seed, position, optim.batch_size))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), optim.clip_norm)
            optimizer.step()
            for average in averages:
                average.update_parameters(model)
            loss.item()
            position += 1
            if position % probes.checkpoint_every == 0:
                states = [part.state_dict() for part in (*models, optimizer)]
                torch.save(states, scratch / "checkpoint.pt")
            if position % probes.sample_every == 0:
                sample()
            if position % probes.eval_every == 0:
                model.eval()
                with torch.no_grad():
                    sum(loss_of(batch).item() for batch in held_out)

    return train


def main() -> None:
    torch.set_num_threads(1)
    train = bare_script(RunConfig.from_yaml(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
    for line in sys.stdin:
        started = time.perf_counter()
        train(int(line))
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
