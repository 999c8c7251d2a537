"""How long `tunesmith --help` takes beside `python -c "import typer"`, below which no typer program can start.

The promise is a ratio of at most 1.3. The two are run in turn, so that a busy machine slows both; the smallest time of
each counts, because noise only ever adds. Run: python bench/startup.py [times]"""

from __future__ import annotations

import subprocess
import sys
import time

COMMANDS = {
    "tunesmith --help": [sys.executable, "-m", "tunesmith.cli", "--help"],
    'python -c "import typer"': [sys.executable, "-c", "import typer"],
}
PROMISE = 1.3


def measure(times: int) -> dict[str, float]:
    """Command -> its smallest wall time in seconds."""
    best = dict.fromkeys(COMMANDS, float("inf"))
    for _ in range(times):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def main() -> None:
    found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
    for name, seconds in found.items():
        print(f"{name:<28} {seconds:.3f} s")
    ratio = found["tunesmith --help"] / found['python -c "import typer"']
    print(f"{'ratio':<28} {ratio:.2f} (promised: at most {PROMISE})")


if __name__ == "__main__":
    main()
