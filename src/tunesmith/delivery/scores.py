"""The scores of a run: of the model as saved and reloaded, in fp32, beside its baselines, with intervals."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from tunesmith.assemble.job import Job, Tell
from tunesmith.assemble.loaded import Loaded, load_run
from tunesmith.assemble.thresholds import by_label, decided, told
from tunesmith.delivery import mistakes, probabilities
from tunesmith.delivery.beside import Frozen, beside
from tunesmith.evaluation import intervals
from tunesmith.evaluation.predict import Predictions, outputs_of
from tunesmith.evaluation.slices import Judged, score_slices
from tunesmith.evaluation.thresholds import chosen, reaching
from tunesmith.recipe.schema import Recipe
from tunesmith.run import Run

FOLDS_FILE = "predictions/folds.npy"
FEW = 50
"""With fewer rows that have a label, or have it not, its threshold moves with each of them."""


@dataclass
class Thresholds:
    """Who decides at which thresholds: the model ("") and each baseline by name, each its own, chosen on the valid rows
    that it did not learn from, where the recipe asks for that."""

    job: Job
    chosen: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def decided(self, name: str, part: str, predictions: Predictions) -> Predictions:
        """The predictions as they are decided; those of valid choose."""
        rule = self.job.recipe.evaluate.threshold
        if not isinstance(rule, str):
            return predictions
        if part == "valid":
            self.chosen[name] = chosen(predictions, rule, plain_name(self.job.select), self.job.objects.metrics)
        return predictions.at(self.chosen[name])


def value_of(job: Job, rows: np.ndarray, outputs: np.ndarray) -> float:
    """The deciding metric on rows whose outputs come from the net in training (not yet in the target's unit)."""
    target = job.rows.target
    return value_of_outputs(job, job.rows.codes[rows], outputs * target.std + target.mean)


def value_of_outputs(job: Job, codes: np.ndarray, outputs: np.ndarray) -> float:
    """The deciding metric of outputs in the target's unit; at its best threshold where the recipe has it chosen."""
    return intervals.value(deciding(job, codes, outputs), plain_name(job.select), job.objects.metrics)


def deciding(job: Job, codes: np.ndarray, outputs: np.ndarray) -> Predictions:
    """Outputs as they are decided during training."""
    predictions = Predictions(np.arange(len(codes)).astype(str), codes, outputs, job.rows.task, job.rows.target)
    rule = job.recipe.evaluate.threshold
    if not isinstance(rule, str):
        return predictions
    return predictions.at(chosen(predictions, rule, plain_name(job.select), job.objects.metrics))


def plain_name(select: str) -> str:
    """The deciding metric's name, also where it is a function in memory."""
    return select.removeprefix("memory:")


def share_better(job: Job, rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """How often the second outputs are better than the first by the deciding metric, on the same resamples of the rows;
    both come from nets in training."""
    target = job.rows.target
    one, other = (
        deciding(job, job.rows.codes[rows], outputs * target.std + target.mean) for outputs in (first, second)
    )
    return intervals.share_better(one, other, plain_name(job.select), job.objects.metrics)


def metric_names(recipe: Recipe) -> list[str]:
    """What is reported by name: the recipe's metrics, and what decides."""
    asked = () if recipe.evaluate.metrics == "auto" else recipe.evaluate.metrics
    names = asked if recipe.evaluate.select in asked else (recipe.evaluate.select, *asked)
    return [name for name in names if not name.startswith("memory:")]


@dataclass(frozen=True)
class Judgement:
    """The model as saved and loaded again, the rows of each part that it was judged on, and on the first rank what it
    predicted for them."""

    loaded: Loaded
    rows: dict[str, np.ndarray]
    predictions: dict[str, Predictions] = field(default_factory=dict)


def score_run(
    job: Job, run: Run, tell: Tell, judged: Callable[[dict[str, Any]], dict[str, Any]], frozen: Frozen | None
) -> Judgement:
    """Predict valid and test with the reloaded model, choose its threshold where the recipe asks for that, learn the
    baselines, also from what the untouched body gave (`frozen`), and write predictions and scores.json; `judged` adds
    what other runs scored."""
    started = time.perf_counter()
    loaded = load_run(run, replace(job.machine, precision="fp32"), job.objects.model)
    names = metric_names(job.recipe)
    scores: dict[str, Any] = {}
    thresholds = Thresholds(job)
    parts = {"valid": job.rows.split.valid, "test": job.rows.split.test}
    if job.rows.cross_validated:
        parts["valid"], held_out = folds_of(job, run)
    judgement = Judgement(loaded, {part: rows for part, rows in parts.items() if len(rows)})
    for part, rows in judgement.rows.items():
        by_folds = part == "valid" and job.rows.cross_validated
        outputs = (
            held_out / probabilities.temperature_of(run.measured)
            if by_folds
            else outputs_of(loaded.net, job.encoded, rows, loaded.machine)
        )
        predictions = Predictions(
            job.rows.table.ids()[rows], job.rows.codes[rows], outputs, job.rows.task, job.rows.target
        )
        if not job.machine.first:
            continue
        judgement.predictions[part] = predictions = thresholds.decided("", part, predictions)
        predictions.save(run.path / "predictions" / f"{part}.parquet")
        mistakes.keep(job, run, part, predictions, rows)
        scores[part] = scored(predictions, names, job.select, job.objects.metrics)
        scores[part] |= probabilities.figures(run, part, predictions)
        if part == "valid" and thresholds.chosen:
            _keep_threshold(job, run, predictions, scores[part], tell)
        scores[part] |= beside(
            job, run, part, rows, predictions, names=names, decided=thresholds.decided, untouched=frozen
        )
        if part == list(judgement.rows)[-1]:
            scores[part]["slices"] = score_slices(predictions, plain_name(job.select), _sliced(job, rows))
    if job.machine.first:
        run.write("scores.json", judged(scores))
        run.append_event("score", seconds=round(time.perf_counter() - started, 3))
    job.machine.gather(None)
    return judgement


def scored(
    predictions: Predictions, names: Sequence[str], select: str, own: Sequence[intervals.Own] = ()
) -> dict[str, Any]:
    """metric -> interval, `classes`, and where there is a threshold `default_threshold`: what `select` is without."""
    result = intervals.score(predictions, names, own)
    name = plain_name(select)
    if predictions.target.thresholds and name in result:
        mine = [metric for metric in own if metric.__name__ == name]
        default = intervals.score(predictions.at(()), [] if mine else [name], mine, classes=False)
        result["default_threshold"] = default
    return result


def _sliced(job: Job, rows: np.ndarray) -> Judged:
    """The rows as slices are made of them."""
    parts = (job.rows.table, rows, job.rows.inputs, job.rows.modality, job.encoded.lengths)
    return Judged(*parts, job.recipe.evaluate.slices)


def _keep_threshold(job: Job, run: Run, predictions: Predictions, scores: dict[str, Any], tell: Tell) -> None:
    """Write the chosen thresholds into measured.json, and say what they are, what chose them and what they brought."""
    assert predictions.codes is not None
    target, name = predictions.target, plain_name(job.select)
    codes = predictions.codes[intervals.known_rows(predictions.codes)]
    has = codes > 0.5 if codes.ndim == 2 else (codes == target.positive)[:, None]
    num_rows = {label: int(count) for label, count in zip(decided(target), has.sum(0), strict=True)}
    before, after = scores["default_threshold"][name]["value"], scores[name]["value"]
    rows = "cross-validated" if job.rows.cross_validated else "valid"
    rule = job.recipe.evaluate.threshold
    assert isinstance(rule, str)
    asked = name if rule == "auto" else rule
    kept: dict[str, Any] = {
        "metric": name,
        "asked": asked,
        "thresholds": by_label(target),
        "chosen_on": rows,
        "rows": len(codes),
        "rows_with_label": num_rows,
        "value": after,
        "default_value": before,
    }
    if rule != "auto":
        reached = dict(zip(decided(target), reaching(predictions, rule), strict=True))
        kept["reached"] = {label: asdict(each) for label, each in reached.items()}
    run.write("measured.json", run.measured | {"threshold": kept})
    tell(f"threshold, chosen for {asked} on {len(codes)} {rows} rows: {told(target)}")
    shown = ["-" if value is None else f"{value:.3f}" for value in (after, before)]
    tell(f"  {rows} {name} {shown[0]}, without it {shown[1]}; optimistic, for the same rows chose the threshold")
    for label, best in kept.get("reached", {}).items():
        if not best["reached"]:
            tell(
                f'  no threshold has {rule} for "{label}" on these rows; taken is the best, which has precision '
                f"{best['precision']:.3f} and recall {best['recall']:.3f}"
            )
    few = {label: min(count, len(codes) - count) for label, count in num_rows.items()}
    least = min(few, key=lambda label: few[label])
    if few[least] < FEW:
        kind = f'have "{least}"' if num_rows[least] == few[least] else f'do not have "{least}"'
        tell(f"  few rows chose it: {few[least]} of the {len(codes)} {kind}; other rows would choose another threshold")


def save_folds(job: Job, run: Run, outputs: np.ndarray) -> None:
    """Keep the held-out outputs of the cross-validation, brought to the target's unit, until the run is finished, for
    it may be scored again."""
    path, target = run.path / FOLDS_FILE, job.rows.target
    path.parent.mkdir(exist_ok=True)
    np.save(path, outputs * target.std + target.mean)


def folds_of(job: Job, run: Run) -> tuple[np.ndarray, np.ndarray]:
    """The training rows that a fold held out, and what they were answered by one that did not train on them."""
    outputs = np.load(run.path / FOLDS_FILE)
    there = ~np.isnan(outputs).any(1)
    return job.rows.split.train[there], outputs[there]
