"""Imports everything once, then runs the command line in a forked process (or one a rank) for each line it reads.

A real process that real signals end, without the seconds that importing torch takes. Lines are JSON: `arguments`, `log`
(where the output goes), `ranks`, and a `signal` that the process gets: at a `step` (the `time` that it is taken, of
several runs in one process), when it `scores`, `after` seconds.
With `file_bytes` no file may grow over that size."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import socket
import sys
from typing import Any

PRELOADED = (
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
    "transformers.models.bert.modeling_bert",
    "tunesmith.pipeline",
    "tunesmith.verbs",
)


def child(order: dict[str, Any], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from tunesmith import cli

    arm(order)
    code = cli._run(order["arguments"])
    sys.stdout.flush()
    os._exit(code)


def arm(order: dict[str, Any]) -> None:
    from tunesmith import pipeline
    from tunesmith.training.observers import EventLog

    def strike(*_: Any) -> None:
        os.kill(os.getpid(), order["signal"])

    if "step" in order:
        step, times = EventLog.step, [0]

        def struck(self: EventLog, event: Any) -> None:
            step(self, event)
            times[0] += event.step == order["step"]
            if event.step == order["step"] and times[0] == order.get("time", 1):
                strike()

        EventLog.step = struck  # type: ignore[method-assign]
    if order.get("scores"):
        pipeline.scores.score_run = strike  # type: ignore[assignment]
    if "file_bytes" in order:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_bytes"], order["file_bytes"]))
    if "after" in order:
        signal.signal(signal.SIGALRM, strike)
        signal.setitimer(signal.ITIMER_REAL, order["after"])


def ranks(count: int) -> list[dict[str, str]]:
    """What torchrun tells each rank."""
    if count == 1:
        return [{}]
    with contextlib.closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        port = str(listening.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    return [place | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        children = []
        for environment in ranks(order.get("ranks", 1)):
            children.append(os.fork())
            if children[-1] == 0:
                child(order, environment)
        codes = [os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for number in children]
        print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    main()
