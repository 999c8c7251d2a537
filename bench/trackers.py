"""What observers cost: seconds to import and open one, then of each step, and at the end; without any beside them.

Each in a process of its own: 2000 steps, given on every 50 lines as a fast run does. One whose package is not installed
is left out. Run: python bench/trackers.py (all four: .venv-trackers/bin/python, see `make trackers`)"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS, AT_ONCE = 2000, 50


def main() -> None:
    """Measure all, or the one that is named."""
    if len(sys.argv) == 2:
        print(measured(sys.argv[1]))
        return
    print(f"{'observer':<12} {'open':>8} {'a step':>10} {'close':>8}")
    for name in ("none", "tensorboard", "mlflow", "wandb", "trackio"):
        if name == "none" or importlib.util.find_spec(name):
            subprocess.run([sys.executable, __file__, name], stderr=subprocess.DEVNULL, check=True)


def measured(name: str) -> str:
    """One line of the table."""
    import torch  # noqa: F401 # A run has it imported before.

    from tunesmith.recipe import file as recipe_file
    from tunesmith.recipe.schema import Choice
    from tunesmith.run import Run
    from tunesmith.training.tracking import Trackers

    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        recipe = recipe_file.build({"data": "rows.csv", "model": "new:mlp"})
        (run.path / "recipe.toml").write_text(recipe_file.dump(recipe))
        clock = [time.perf_counter()]
        trackers = Trackers(run, [] if name == "none" else [Choice(name=name)], sys.exit)
        clock.append(time.perf_counter())
        spent = 0.0
        for step in range(1, STEPS + 1):
            run.append_event("step", step=step, phase="all", loss=1 / step, rows=8, rate=0.1, seconds=0.1)
            started = time.perf_counter()
            if step % AT_ONCE == 0:
                trackers.follow()
            spent += time.perf_counter() - started
        clock.append(time.perf_counter())
        trackers.close()
        clock.append(time.perf_counter())
    opened, closed = clock[1] - clock[0], clock[3] - clock[2]
    return f"{name:<12} {opened:6.2f} s {1000 * spent / STEPS:7.3f} ms {closed:6.2f} s"


if __name__ == "__main__":
    main()
