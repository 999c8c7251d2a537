"""The verdict: in plain words, from the files of a Run, what its model is worth and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tunesmith.delivery.card import num_folds
from tunesmith.delivery.words import Words, duration
from tunesmith.evaluation.intervals import rising, shown

Standing = Literal["better", "same", "worse", "alone", "unknown"]
"""Against the strongest baseline: the difference is beyond chance or not; there is none; there is no score."""
TRIVIAL = ("majority", "mean")
"""Baselines that look at no input."""
FEW_ROWS = 200
"""Fewer rows that judge leave intervals of several hundredths."""


@dataclass(frozen=True)
class Figure:
    """A number that matters: what it is, the number, what to read it by."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """Sentences and up to three figures; `standing` for programs."""

    standing: Standing
    sentences: tuple[str, ...]
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What a verdict is made from: what the JSON files of a Run say. `metric` decides; `rows` judged, `seconds` of
    training, `baseline_seconds` those of each baseline; `diagnosis` and `drift` are files of these names."""

    scores: Mapping[str, Any]
    metric: str
    rows: int
    seconds: float | None = None
    diagnosis: Mapping[str, Any] | None = None
    drift: Mapping[str, Any] | None = None
    baseline_seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def split(self) -> str:
        """The part that judges: test, or valid where there is none."""
        return "test" if "test" in self.scores else "valid"

    @property
    def judged(self) -> Mapping[str, Any]:
        return dict(self.scores.get(self.split) or {})

    @property
    def own(self) -> Mapping[str, Any] | None:
        """The deciding metric of the model with its interval, where the rows define it."""
        found = self.judged.get(self.metric)
        return found if found and found["value"] is not None else None

    @property
    def strongest(self) -> str | None:
        """The baseline that is best by the deciding metric."""
        known = {
            name: values[self.metric]["value"]
            for name, values in self.judged.get("baselines", {}).items()
            if (values.get(self.metric) or {}).get("value") is not None
        }
        return max(known, key=lambda name: known[name] if rising(self.metric) else -known[name], default=None)

    def difference(self, baseline: str) -> dict[str, Any]:
        """How much better this model is, positive = better: the paired interval where there is one, else the
        difference alone."""
        paired = (self.judged.get("against") or {}).get(baseline)
        if paired and paired.get("value") is not None:
            return dict(paired)
        assert self.own is not None
        gain = self.own["value"] - self.judged["baselines"][baseline][self.metric]["value"]
        return {"value": gain if rising(self.metric) else -gain, "low": None, "high": None}

    def standing(self, baseline: str) -> Standing:
        """Better or worse only where the paired interval excludes zero, or, without one, where neither interval
        reaches the other's."""
        found = self.difference(baseline)
        low, high = found["low"], found["high"]
        if low is None or high is None:
            assert self.own is not None
            own, other = self.own, self.judged["baselines"][baseline][self.metric]
            if None in (own["low"], own["high"], other.get("low"), other.get("high")):
                return "same"
            low, high = own["low"] - other["high"], own["high"] - other["low"]
            low, high = (low, high) if rising(self.metric) else (-high, -low)
        return "better" if low > 0 else "worse" if high < 0 else "same"


def verdict(facts: Facts, words: Words) -> Verdict:
    """A pure function of what the Run's files say.

    >>> def interval(value): return {"value": value, "low": value - 0.02, "high": value + 0.02}
    >>> test = {"accuracy": interval(0.91), "baselines": {"majority": {"accuracy": interval(0.50)}}}
    >>> verdict(Facts({"test": test}, "accuracy", 500), Words()).standing
    'better'
    """
    if facts.own is None:
        key = "verdict.undefined" if facts.judged else "verdict.unscored"
        metric = words.named("metric", facts.metric)
        return Verdict("unknown", (words(key, metric=metric, split=words.named("split", facts.split)),))
    best = facts.strongest
    standing: Standing = "alone" if best is None else facts.standing(best)
    sentences = [_scored(facts, words), _compared(facts, words, best, standing)]
    sentences += _cautions(facts, words, standing) + _further(facts, words)
    return Verdict(standing, tuple(sentences), tuple(_figures(facts, words, best)))


def _scored(facts: Facts, words: Words) -> str:
    folds = num_folds(dict(facts.scores))
    key = "verdict.folds" if folds else f"verdict.{facts.split}"
    metric = words.named("metric", facts.metric)
    return words(key, metric=metric, value=shown(dict(facts.own or {})), rows=f"{facts.rows:,}", folds=folds)


def _compared(facts: Facts, words: Words, best: str | None, standing: Standing) -> str:
    """How the model stands beside the strongest baseline, and what to do."""
    if best is None:
        return words("verdict.alone")
    named, difference = words.named("baseline", best), facts.difference(best)
    kind = "trivial" if best in TRIVIAL else "frozen" if best.startswith("frozen") else "other"
    seconds = facts.baseline_seconds.get(best)
    parts = [
        words(
            f"verdict.{standing}",
            baseline=named,
            difference=_signed(difference),
            value=shown(facts.judged["baselines"][best][facts.metric]),
        )
    ]
    if standing != "better":
        parts.append(words(f"verdict.{standing}_{kind}"))
        if seconds is not None and kind != "trivial":
            parts.append(words("verdict.cheap", seconds=duration(seconds)))
    return words.sentences(parts)


def _cautions(facts: Facts, words: Words, standing: Standing) -> list[str]:
    found = []
    if standing == "same" and facts.rows < FEW_ROWS:
        found.append(words("verdict.few", rows=f"{facts.rows:,}"))
    if facts.split == "valid":
        found.append(words("verdict.optimistic"))
    return found


def _further(facts: Facts, words: Words) -> list[str]:
    """What the diagnosis and the drift add."""
    found = []
    if facts.diagnosis and (key := facts.diagnosis.get("finding")) in FINDINGS:
        found.append(words(f"finding.{key.replace(' ', '_')}"))
    source = (facts.drift or {}).get("source")
    if source and source["difference"]["value"] is not None:
        lost = source["difference"]["high"] is not None and source["difference"]["high"] < 0
        key = "verdict.forgot" if lost else "verdict.kept"
        before, after = shown(source["before"]), shown(source["after"])
        found.append(words(key, metric=words.named("metric", source["metric"]), before=before, after=after))
    return found


FINDINGS = ("more data", "more regularization", "larger model", "nothing to change")
"""What a diagnosis may find that is worth a sentence."""


def _figures(facts: Facts, words: Words, best: str | None) -> list[Figure]:
    """The deciding metric, the difference to the strongest baseline, and the first that is known of: the calibration
    error, the gap between train and what judges, the time."""
    metric, split = words.named("metric", facts.metric), words.named("split", facts.split)
    rows = words("figure.rows", rows=f"{facts.rows:,}", split=split)
    found = [Figure(metric, shown(dict(facts.own or {})), rows)]
    if best is not None:
        note = words("figure.than", baseline=words.named("baseline", best))
        found.append(Figure(words("figure.difference"), _signed(facts.difference(best)), note))
    error = (facts.judged.get("calibration") or {}).get("ece")
    gap = (facts.diagnosis or {}).get("gap")
    if error and error.get("value") is not None:
        found.append(Figure(words("figure.ece"), shown(error), words("figure.ece_note")))
    elif gap and gap.get("value") is not None:
        found.append(Figure(words("figure.gap"), shown(gap), words("figure.gap_note")))
    elif facts.seconds is not None:
        found.append(Figure(words("figure.time"), duration(facts.seconds), words("figure.time_note")))
    return found


def _signed(interval: Mapping[str, Any]) -> str:
    return f"{'+' if interval['value'] > 0 else ''}{shown(dict(interval))}"
