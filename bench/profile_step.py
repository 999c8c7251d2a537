"""Where a step of full fine-tuning goes, and what share of the rate of bare matrix products it reaches.

The steps are those of `tunesmith fit` on MiniLM: its own loop, batches and optimizer, with clocks around the parts that
the loop is given. The matrix products are counted from the shapes. The rows are those of bench/speed.py.
Run: python bench/profile_step.py --steps 20"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from speed import MODEL, prepare_rows
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from tunesmith.assemble.job import Job, prepare
from tunesmith.assemble.rows import Objects
from tunesmith.recipe.schema import Choice, Recipe
from tunesmith.training import machine, phases
from tunesmith.training.loop import train_phase
from tunesmith.training.state import State

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm"),
    "attention's products": ("aten::bmm", "aten::baddbmm", "aten::_scaled_dot_product_flash_attention_for_cpu"),
    "random numbers of dropout": ("aten::bernoulli_", "aten::random_", "aten::native_dropout"),
    "GELU": ("aten::gelu", "aten::gelu_backward"),
    "layer norm": ("aten::native_layer_norm", "aten::native_layer_norm_backward"),
    "softmax": ("aten::_softmax", "aten::_softmax_backward_data", "aten::_safe_softmax"),
    "optimizer": ("aten::_fused_adamw_", "Optimizer.step#AdamW.step"),
    "norm of the gradient": ("aten::linalg_vector_norm",),
    "freeing gradients": ("Optimizer.zero_grad#AdamW.zero_grad",),
    "filling with zeros": ("aten::fill_", "aten::zero_"),
    "copies": ("aten::copy_",),
    "elementwise": ("aten::add", "aten::add_", "aten::mul", "aten::mul_", "aten::div_", "aten::sum", "aten::where"),
}


@dataclass
class Clocks:
    """Seconds of each part of the steps, and the tokens that were read."""

    seconds: dict[str, float]
    tokens: int = 0
    padded: int = 0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - started

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return timed


def open_job(folder: Path, batch: int) -> Job:
    """The Job of a full fine-tuning of MiniLM, as `fit` makes it."""
    files = {part: str(folder / f"{part}.csv") for part in ("valid", "test")}
    recipe = Recipe.model_validate(
        {
            "data": {"source": str(folder / "train.csv"), "target": "label", **files},
            "model": {"name": f"package:{MODEL}"},
            "train": {"batch": batch, "length": "1 epochs"},
        }
    )
    place = machine.start()
    job = prepare(recipe, Objects(), place, lambda _line: None)
    return replace(job, head=Choice(name="pooled", options={"pooling": "mean"}), micro=batch)


def watched(job: Job, clocks: Clocks) -> Callable[[int], None]:
    """A function that trains so many steps, with clocks around every part."""
    state, feed, plan = State(job.net()), job.feed(job.rows.split.train), job.plan
    objective = job.objective()
    phases.open_phase(state.net, plan.phases[0])
    phases.freeze_unreached(state.net, objective, feed.make(feed.rows[:2]))
    optimizer = job.optimizer(phases.groups(state.net, plan.phases[0]))
    state.optimizer = optimizer
    step, zero = optimizer.step, optimizer.zero_grad

    def timed_step(closure: Callable[[], Any]) -> None:
        before, started = clocks.seconds["closure"], time.perf_counter()
        step(clocks.around("closure", closure))
        clocks.seconds["optimizer"] += time.perf_counter() - started - (clocks.seconds["closure"] - before)

    def read(number: int) -> Any:
        with clocks.part("data"):
            batches, num_rows = feed(number)
        for batch in batches:
            mask = next(iter(batch.inputs.values()))["attention_mask"]
            clocks.tokens += int(mask.sum())
            clocks.padded += mask.numel()
        return batches, num_rows

    patched: Any = optimizer
    patched.step, patched.zero_grad = timed_step, clocks.around("zero_grad", zero)
    pace = job.pace(0, job.cadence(feed.steps_per_epoch), feed.steps_per_epoch)
    clip = pace.clip and clocks.around("clipping", pace.clip)
    forward = clocks.around("forward", objective)

    def steps(count: int) -> None:
        paced = replace(pace, last_step=state.step + count, clip=clip)
        for _event in train_phase(state, "all", read, forward, paced, job.machine):
            pass

    return steps


def matrix_rate(tokens: int) -> float:
    """Floating-point operations a second of the model's own largest product, alone: the best of several goes."""
    states, weight = torch.randn(tokens, 384), torch.randn(1536, 384)
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(5):
            states @ weight.t()
        best = min(best, (time.perf_counter() - started) / 5)
    return 2 * tokens * weight.numel() / best


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(prepare_rows(Path(name), options.rows))
        job = open_job(Path(name), options.batch)
    clocks = Clocks(defaultdict(float))
    backward: Any = torch.Tensor.backward
    torch.Tensor.backward = clocks.around("backward", backward)  # type: ignore[method-assign]
    steps = watched(job, clocks)
    steps(3)
    clocks.tokens = clocks.padded = 0
    with FlopCounterMode(display=False) as counter:
        steps(2)
    clocks.seconds.clear()
    flops, counted = counter.get_total_flops(), clocks.padded
    clocks.tokens = clocks.padded = 0
    started = time.perf_counter()
    steps(options.steps)
    total = time.perf_counter() - started
    rate = matrix_rate(clocks.padded // options.steps)
    reached = flops / counted * clocks.padded / total
    print(f"\n{options.steps} steps, {total / options.steps * 1e3:.0f} ms each, {torch.get_num_threads()} threads")
    print(f"padding: {1 - clocks.tokens / clocks.padded:.1%} of {clocks.padded / options.steps:.0f} tokens a step")
    print(f"matrix products: {reached / 1e9:.0f} of {rate / 1e9:.0f} GFLOP/s alone ({reached / rate:.0%})\n")
    inside = sum(clocks.seconds[part] for part in ("forward", "backward", "clipping"))
    clocks.seconds["scaling, seeds"] = clocks.seconds.pop("closure") - inside
    clocks.seconds["rest"] = total - sum(clocks.seconds.values())
    for part, seconds in sorted(clocks.seconds.items(), key=lambda item: -item[1]):
        print(f"{part:<28} {seconds / total:6.1%} {seconds / options.steps * 1e3:8.1f} ms")
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        steps(min(10, options.steps))
    spent = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    everything = sum(spent.values())
    print()
    shares = {kind: sum(spent.get(name, 0) for name in names) / everything for kind, names in KINDS.items()}
    shares["everything else"] = 1 - sum(shares.values())
    for kind, share in sorted(shares.items(), key=lambda item: -item[1]):
        print(f"{kind:<28} {share:6.1%}")


if __name__ == "__main__":
    main()
