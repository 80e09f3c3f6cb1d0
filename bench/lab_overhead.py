"""What the lab costs: the same training in the lab and in a bare script, A B A B in one process.

The bare script does what any script does: batch, forward, loss, backward, clip, AdamW, held-out evaluations, and at
the same cadence a checkpoint of weights and moments and a sample of each fixed prompt. The lab adds its terms,
finite check, telemetry, probes, commands, hashes and syncs. A second case leaves samples and checkpoints out on both
sides. With --watched, a real browser on the same machine has the control room open while the lab trains: the app then
trains in its own process and is steered from here.
    python bench/lab_overhead.py [--watched] [--preset tiny] [--steps 100] [--pairs 5]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from playwright.sync_api import Page
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))

from qcore.config import Pause, RunConfig, Step, preset
from qcore.data import Batch, Dataset, open_dataset
from qcore.lab import Lab
from qcore.models import build_model
from qcore.sampling import generate
from tests.browser.actions import start_from_yaml, wait_for_curve
from tests.browser.driver import chromium, running_app

ENDLESS = 10_000_000
NEVER = 1_000_000


def bare_script(config: RunConfig, dataset: Dataset, scratch: Path) -> Callable[[int], None]:
    """A function that makes n more steps of a plain training loop."""
    tokenizer = dataset.tokenizer
    settings = config.sampling.model_copy(update={"max_tokens": config.probes.sample_length})
    optim, probes = config.optim, config.probes
    counts = torch.as_tensor(dataset.token_counts)
    model = build_model(config.model, dataset.tokenizer.vocab_size, counts, seed=config.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=optim.learning_rate, fused=True)
    held_out = dataset.validation_batches(optim.batch_size, probes.eval_batches)
    position = 0

    def loss_of(batch: Batch) -> torch.Tensor:
        logits = model(batch.inputs_BT).logits_BTV
        return functional.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten())

    def train(steps: int) -> None:
        nonlocal position
        for _ in range(steps):
            model.train()
            loss = loss_of(dataset.train_batch(config.seed, position, optim.batch_size))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), optim.clip_norm)
            optimizer.step()
            loss.item()
            position += 1
            if position % probes.checkpoint_every == 0:
                torch.save((model.state_dict(), optimizer.state_dict()), scratch / "checkpoint.pt")
            if position % probes.sample_every == 0:
                for prompt in probes.prompts:
                    ids = [tokenizer.bos_id, *tokenizer.encode(prompt)]
                    list(generate(model.eval(), ids, settings, eos_id=tokenizer.eos_id))
            if position % probes.eval_every == 0:
                model.eval()
                with torch.no_grad():
                    sum(loss_of(batch).item() for batch in held_out)

    return train


def lab_steps(lab: Lab, name: str, steps: int) -> float:
    """Seconds that a paused run needs for `steps` more steps, with all that belongs to them."""
    goal = lab.info(name).step + steps
    started = time.perf_counter()
    lab.command(name, Step(steps))
    while not ((info := lab.info(name)).state == "paused" and info.step >= goal):
        time.sleep(0.03)
    return time.perf_counter() - started


@contextlib.contextmanager
def paused_run(folder: Path, config: RunConfig, *, watched: bool) -> Iterator[tuple[Lab, str, Page | None, str]]:
    """A run paused at its first step; watched: in the app's process, with a browser's page on the control room."""
    with contextlib.ExitStack() as stack:
        page, url = None, ""
        lab = stack.enter_context(Lab(folder))
        if watched:
            app = stack.enter_context(running_app(folder, folder / "app.log"))
            page = stack.enter_context(chromium()).new_page()
            url = app.url
            name = start_from_yaml(page, url, config.to_yaml(), lab)
        else:
            name = lab.start(config, name="bench")
        command = lab.command(name, Pause())
        lab.outcome(name, command, timeout=60)
        yield lab, name, page, url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--watched", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    base = preset(chosen.preset).config.with_values({"steps": ENDLESS, "torch_threads": chosen.threads})
    cases = {"everything": base, "steps only": base.with_values({"sample_every": NEVER, "checkpoint_every": NEVER})}
    with tempfile.TemporaryDirectory() as folder:
        for title, config in cases.items():
            run_dir = Path(folder) / title.replace(" ", "-")
            run_dir.mkdir()
            dataset = open_dataset(config.data, config.model.context, None)
            train = bare_script(config, dataset, run_dir)
            with paused_run(run_dir, config, watched=chosen.watched) as (lab, name, page, url):
                train(10)
                lab_steps(lab, name, 10)
                ratios, seconds = [], []
                for _ in range(chosen.pairs):
                    if page:
                        page.goto(f"{url}/?run={name}")
                        wait_for_curve(page)
                        page.wait_for_timeout(3000)  # loading the page is not watching it
                    spent = lab_steps(lab, name, chosen.steps)
                    if page:
                        page.goto("about:blank")
                    started = time.perf_counter()
                    train(chosen.steps)
                    bare = time.perf_counter() - started
                    ratios.append(bare / spent)
                    seconds.append((spent, bare))
            tokens = chosen.steps * config.optim.batch_size * config.model.context
            in_lab, alone = (statistics.median(column) for column in zip(*seconds, strict=True))
            print(
                f"{title:16} tokens/s in the lab {tokens / in_lab:8.0f} · bare {tokens / alone:8.0f} · "
                f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f}, {len(ratios)} pairs)"
                f"{' · watched by a browser' if chosen.watched else ''}"
            )


if __name__ == "__main__":
    main()
