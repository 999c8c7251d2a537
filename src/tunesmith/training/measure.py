"""What must be measured on the rows before training: the head, on one pass of frozen features, and a step's cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch

from tunesmith.data.batch import Batch
from tunesmith.data.encoders.text import TextRows
from tunesmith.models.pooling import output_layer, pool
from tunesmith.models.pretrained import Pretrained
from tunesmith.objectives.objective import Objective
from tunesmith.tasks.task import Target, Task
from tunesmith.training.machine import Machine

MOST_ROWS = 3000
"""Rows that a pass for the choice of the head reads at most: the ranking of the candidates needs no more."""


@torch.no_grad()
def frozen_features(
    pretrained: Pretrained, num_outputs: int, encoded: TextRows, rows: np.ndarray, machine: Machine
) -> dict[str, np.ndarray]:
    """Candidate head -> features (rows, width) of the untouched body, all from one pass: each pooling, and what the
    last layer of the model's own head would read ("own")."""
    module = pretrained.module
    machine.place(module)
    was_training = module.training
    module.eval()
    found: dict[str, list[torch.Tensor]] = {name: [] for name in pretrained.poolings}
    kept: dict[str, torch.Tensor] = {}
    handles = []
    if pretrained.own_head:
        found["own"] = []
        last = output_layer(module, num_outputs)
        handles.append(last.register_forward_pre_hook(lambda _, args: kept.__setitem__("own", args[0])))
    handles.append(pretrained.body.register_forward_hook(lambda _m, _a, output: kept.__setitem__("body", output)))
    order = rows if encoded.lengths is None else rows[np.argsort(-encoded.lengths[rows], kind="stable")]
    try:
        for batch in _batches(order, encoded.lengths, machine.tokens):
            inputs = machine.put(encoded.batch(batch))
            with machine.autocast():
                output = module(**inputs)
            states = (kept["body"] if pretrained.own_head else output) if pretrained.poolings else None
            for name in pretrained.poolings:
                found[name].append(pool(states.last_hidden_state.float(), inputs["attention_mask"], name).cpu())  # type: ignore[arg-type]
            if pretrained.own_head:
                own = kept["own"].float()
                # Decoders score every token and read the last one that counts.
                own = pool(own, inputs["attention_mask"], "last") if own.dim() == 3 else own
                found["own"].append(own.cpu())
    finally:
        module.train(was_training)
        for handle in handles:
            handle.remove()
    back = np.argsort(np.argsort(-encoded.lengths[rows], kind="stable")) if encoded.lengths is not None else slice(None)
    return {name: torch.cat(parts).numpy()[back] for name, parts in found.items()}


def score_features(
    features: np.ndarray,
    codes: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    task: Task,
    target: Target,
    value: Callable[[np.ndarray, np.ndarray], float],
) -> float:
    """The mean score of a linear model on frozen features over (train, held-out) positions; `value(codes, outputs)`."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = []
    for train, held in folds:
        if task.name == "regression":
            model = make_pipeline(StandardScaler(), Ridge(10.0)).fit(features[train], codes[train])
            outputs = model.predict(features[held])[:, None]
        else:
            logistic: Any = LogisticRegression(C=0.1, max_iter=300)
            logistic = OneVsRestClassifier(logistic) if codes.ndim == 2 else logistic
            model = make_pipeline(StandardScaler(), logistic).fit(features[train], codes[train])
            outputs = np.full((len(held), target.num_outputs), 1e-9)
            columns = slice(None) if codes.ndim == 2 else model[-1].classes_
            outputs[:, columns] = model.predict_proba(features[held])
            outputs = np.log(outputs.clip(1e-12)) if codes.ndim == 1 else _logit(outputs)
        scores.append(value(codes[held], outputs))
    return float(np.mean(scores))


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
        loss.sum.backward()  # type: ignore[no-untyped-call]
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


def fitting_micro(
    net: torch.nn.Module, objective: Objective, longest: Callable[[int], Batch], most: int, machine: Machine
) -> int:
    """The most rows, by halving from `most`, whose longest batch passes through: on a GPU tried, on a CPU reckoned
    from one row against half of the memory that is free."""
    if machine.device.type != "cuda":
        one = step_cost(net, objective, longest(1), machine).peak_bytes
        two = step_cost(net, objective, longest(2), machine).peak_bytes
        per_row = max(1, two - one, two // 2)
        rows = int(psutil.virtual_memory().available / 2 / per_row)
        return most if rows >= most else max(1, 1 << (rows.bit_length() - 1))
    micro = most
    while micro > 1:
        try:
            step_cost(net, objective, longest(micro), machine)
            break
        except torch.cuda.OutOfMemoryError:
            net.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            micro //= 2
    return micro


def _batches(order: np.ndarray, lengths: np.ndarray | None, tokens: int) -> Iterator[np.ndarray]:
    start = 0
    while start < len(order):
        size = 32 if lengths is None else max(1, tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size


def _logit(chances: np.ndarray) -> np.ndarray:
    chances = chances.clip(1e-9, 1 - 1e-9)
    return np.asarray(np.log(chances / (1 - chances)))
