"""Workers beside the one that leads a search: processes of this machine, of others that join, and of a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tunesmith.assemble.rows import Objects
from tunesmith.errors import RecipeError, TunesmithError
from tunesmith.extras import need
from tunesmith.study import study
from tunesmith.study.arms import arms_of, backbones
from tunesmith.study.study import Study
from tunesmith.study.workbench import open_workbench
from tunesmith.study.worker import Worker
from tunesmith.training import machine

Tell = Callable[[str], None]

GRACE = 10.0
"""Seconds that workers are given to write down how their last trials ended, before they are stopped."""


def join(path: Path | str, tell: Tell) -> int:
    """Run trials of a search that another process leads, until it needs no more; how many were run here.

    All workers see the folder `path` and the data under the same names, and their clocks agree to seconds."""
    joined = study.follow(path)
    recipe = joined.recipe
    with contextlib.closing(machine.start(recipe.train.device, recipe.train.precision)) as place:
        bench = open_workbench(recipe, Objects(), place, _nothing, joined.measured)
        worker = Worker(joined, bench, arms_of(recipe, bench.situations(backbones(recipe))), tell, 0.0)
        worker.work()
    tell(f"{worker.num_run} trials were run here: {worker.ended}")
    return worker.num_run


@contextlib.contextmanager
def beside(led: Study, objects: Objects, tell: Tell) -> Iterator[None]:
    """While the block lasts, further workers run trials of the search; at its end they finish theirs."""
    wanted = led.recipe.search.workers
    if wanted == 1:
        yield
        return
    if objects != Objects():
        what, remedy = "workers of their own cannot see data or a network in memory", "give files, or workers = 1"
        raise RecipeError(what, where="search.workers", remedy=remedy)
    with _on_ray(led, wanted, tell) if isinstance(wanted, str) else _here(led, wanted):
        yield


@contextlib.contextmanager
def _here(led: Study, wanted: int) -> Iterator[None]:
    """Processes of this machine; all of them, this one too, have their share of the cores."""
    before = torch.get_num_threads()
    threads = max(1, (os.cpu_count() or 1) // wanted)
    torch.set_num_threads(threads)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    code = "import sys; from tunesmith.study import workers; workers.join(sys.argv[1], lambda line: None)"
    command = [sys.executable, "-c", code, str(led.path)]
    log = led.trials / "workers.log"
    with open(log, "ab") as output:
        found = [
            subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
            for _ in range(wanted - 1)
        ]
        try:
            yield
            _await(led, found)
        finally:
            for process in found:
                process.kill()
                process.wait()
            torch.set_num_threads(before)
    if log.stat().st_size == 0:
        log.unlink()


def _await(led: Study, found: list[subprocess.Popen[Any]]) -> None:
    """Wait for the trials that still run, for they end by themselves when their time is over."""
    while any(process.poll() is None for process in found) and time.time() < led.deadline:
        if not any(record.state == "running" for record in led.records.all()):
            break
        led.note()
        time.sleep(0.2)
    end = time.time() + GRACE
    while any(process.poll() is None for process in found) and time.time() < end:
        if not any(record.state == "running" for record in led.records.all()):
            return
        time.sleep(0.2)


@contextlib.contextmanager
def _on_ray(led: Study, wanted: str, tell: Tell) -> Iterator[None]:
    """Tasks of a Ray cluster: the one that RAY_ADDRESS names, else one that is started here. The folder of the search
    must be one that all its machines see."""
    ray = need("ray", "search.workers = ray")
    started = not ray.is_initialized()
    if started:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    total = int(ray.cluster_resources().get("CPU", 1))
    _, _, asked = wanted.partition(":")
    number = int(asked) if asked else max(1, total - 1)
    tell(f"Ray: {number} workers on {total} cores")
    task = ray.remote(num_cpus=1, max_retries=3)(_joined)
    found = [task.remote(str(led.path.resolve())) for _ in range(number)]
    try:
        yield
        with contextlib.suppress(Exception):
            ray.get(found, timeout=max(1.0, led.deadline - time.time()))
    finally:
        for one in found:
            ray.cancel(one, force=True)
        if started:
            ray.shutdown()


def _joined(path: str) -> int:
    """What a task of Ray does; an error of a worker ends no search."""
    try:
        return join(path, _nothing)
    except TunesmithError:
        return 0


def _nothing(_line: str) -> None:
    """What a worker without a terminal tells."""
