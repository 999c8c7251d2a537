"""What must be measured on the rows before training: the head, on one pass of frozen features, and a step's cost."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import psutil
import torch

from tunesmith.data.batch import Batch
from tunesmith.data.encoded import Encoded
from tunesmith.data.order import passes
from tunesmith.models.kinds import has_statistics
from tunesmith.models.pooling import Pooling, output_layer, pool
from tunesmith.models.prefix import digest_of_body
from tunesmith.models.pretrained import Pretrained
from tunesmith.models.stages import evaluating
from tunesmith.objectives.objective import Objective
from tunesmith.training.frozen import kept_features
from tunesmith.training.machine import Machine

MOST_ROWS = 1000
"""Rows that a pass for the choice of the head reads at most: the ranking of the candidates needs no more."""


def frozen_features(
    pretrained: Pretrained, num_outputs: int, encoded: Encoded, rows: np.ndarray, machine: Machine, *, cache: str
) -> dict[str, np.ndarray]:
    """Candidate head -> features (rows, width) of the untouched body: each pooling, and what the last layer of the
    model's own head would read ("own"). All come from one pass over the rows that are not on disk yet; with `cache`
    "off" over all of them."""

    def compute(positions: np.ndarray) -> dict[str, np.ndarray]:
        return _passed(pretrained, num_outputs, encoded, rows[positions], machine)

    keys = None if cache == "off" else encoded.keys(rows)
    if keys is None:
        return compute(np.arange(len(rows)))
    digests = {name: digest_of_body(pretrained.body, name) for name in pretrained.poolings}
    if pretrained.own_head:
        digests["own"] = digest_of_body(pretrained.module, "own", output_layer(pretrained.module, num_outputs))
    return kept_features(digests, keys, compute, machine, cache)


@torch.no_grad()
def _passed(
    pretrained: Pretrained, num_outputs: int, encoded: Encoded, rows: np.ndarray, machine: Machine
) -> dict[str, np.ndarray]:
    """The features of every candidate from one pass."""
    module = pretrained.module
    machine.place(module)
    found: dict[str, list[torch.Tensor]] = {name: [] for name in pretrained.poolings}
    kept: dict[str, Any] = {}
    handles = []
    if pretrained.own_head:
        found["own"] = []
        last = output_layer(module, num_outputs)
        handles.append(last.register_forward_pre_hook(lambda _, args: kept.__setitem__("own", args[0])))
    handles.append(pretrained.body.register_forward_hook(lambda _m, _a, output: kept.__setitem__("body", output)))
    order, batches = passes(encoded.lengths, rows, machine.tokens)
    calling = pretrained.calling
    try:
        with evaluating(module):
            for batch in batches:
                inputs = machine.put(encoded.batch(order[batch]))
                with machine.autocast():
                    output = calling.run(module, inputs)
                if pretrained.poolings:
                    states, mask = calling.states(kept["body"] if pretrained.own_head else output, inputs)
                for name in pretrained.poolings:
                    found[name].append(pool(states.float(), mask, cast("Pooling", name)).cpu())
                if pretrained.own_head:
                    own = kept["own"].float()
                    # Decoders score every token and read the last one that counts.
                    own = pool(own, inputs["attention_mask"], "last") if own.dim() == 3 else own
                    found["own"].append(own.cpu())
    finally:
        for handle in handles:
            handle.remove()
    back = np.argsort(np.argsort(-encoded.lengths[rows], kind="stable")) if encoded.lengths is not None else slice(None)
    return {name: torch.cat(parts).numpy()[back] for name, parts in found.items()}


@dataclass(frozen=True)
class Cost:
    """What one forward and backward pass cost: seconds, and bytes above what was in use before it."""

    seconds: float
    peak_bytes: int


def step_cost(net: torch.nn.Module, objective: Objective, batch: Batch, machine: Machine) -> Cost:
    """Run a forward and backward pass on `batch` and leave no gradient behind."""
    with peak_memory(machine) as peak:
        started = time.perf_counter()
        with machine.autocast():
            loss = objective(net, batch)
        loss.sum.backward()
        if machine.device.type == "cuda":
            torch.cuda.synchronize(machine.device)
        seconds = time.perf_counter() - started
    net.zero_grad(set_to_none=True)
    return Cost(seconds, peak())


@contextmanager
def peak_memory(machine: Machine) -> Iterator[Callable[[], int]]:
    """Yield a function that gives, after the block, the most bytes that were in use above those at its start."""
    if machine.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(machine.device)
        before = torch.cuda.memory_allocated(machine.device)
        yield lambda: torch.cuda.max_memory_allocated(machine.device) - before
        return
    process, done, most = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: max(0, most[0] - before)
    finally:
        most[0] = max(most[0], process.memory_info().rss)
        done.set()
        thread.join()


def most_memory(machine: Machine) -> dict[str, int]:
    """The most bytes that this process has had in use since it began, of the machine's memory and of a GPU's."""
    if sys.platform == "win32":
        found = {"process": int(psutil.Process().memory_info().peak_wset)}
    else:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        found = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if machine.device.type == "cuda":
        found["device"] = torch.cuda.max_memory_allocated(machine.device)
    return found


def fitting_micro(
    net: torch.nn.Module, objective: Objective, longest: Callable[[int], Batch], most: int, machine: Machine
) -> int:
    """The most rows, by halving from `most`, whose longest batch passes through: on a GPU tried, on a CPU reckoned
    from one row against half of the memory that is free."""
    if machine.device.type != "cuda":
        # BatchNorm has no statistics of one row.
        least = 2 if any(map(has_statistics, net.modules())) else 1
        one, two = (step_cost(net, objective, longest(rows), machine).peak_bytes for rows in (least, 2 * least))
        per_row = max(1, (two - one) // least, two // (2 * least))
        rows = int(psutil.virtual_memory().available / 2 / per_row)
        return most if rows >= most else 1 << (max(1, rows).bit_length() - 1)
    micro = most
    while micro > 1 and not _fits(net, objective, longest(micro), machine):
        micro //= 2
    return micro


def _fits(net: torch.nn.Module, objective: Objective, batch: Batch, machine: Machine) -> bool:
    """Whether the GPU has room for a pass beside the optimizer's two moments, which come with its first step."""
    moments: list[torch.Tensor] = []
    try:
        moments += [torch.empty_like(p) for p in net.parameters() if p.requires_grad for _ in range(2)]
        step_cost(net, objective, batch, machine)
    except torch.cuda.OutOfMemoryError:
        net.zero_grad(set_to_none=True)
        return False
    finally:
        moments.clear()
        torch.cuda.empty_cache()
    return True


def spread(rows: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the rows, evenly spaced: the first ones of a sorted table would be of one class."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]
