"""The arguments and options that several verbs of the command line share."""

# Without `from __future__ import annotations`: typer would compile every annotation.

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[str, typer.Argument(help="A file, a folder, a data set's name, or a recipe (.toml, .yaml).")]
OptionalData = Annotated[
    str | None, typer.Argument(help="A file, a folder, a data set's name, or a recipe (.toml, .yaml).")
]
ModelName = Annotated[
    str | None, typer.Option("--model", help="A folder, a hub name, package:NAME, torchvision:NAME, ..., or a Run.")
]
Target = Annotated[list[str] | None, typer.Option(help="The column to predict; give it twice for 0/1 columns.")]
Task = Annotated[str | None, typer.Option(help="classification, multilabel or regression.")]
Strategy = Annotated[str | None, typer.Option(help="full, head, last, lora, ...: see tunesmith list strategy.")]
Valid = Annotated[str | None, typer.Option(help="A file of validation rows.")]
Test = Annotated[str | None, typer.Option(help="A file of test rows.")]
Out = Annotated[Path | None, typer.Option(help="Where the Run goes; by default a new folder under runs/.")]
Seed = Annotated[int | None, typer.Option(help="The seed of everything random.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Any field of the recipe: --set train.lr=1e-4")]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Run Python code of the model's: model.trust = true.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")]
RunPath = Annotated[Path, typer.Argument(help="The folder that a fit left.")]
Rows = Annotated[str, typer.Argument(help="A file, a folder, or - for standard input.")]
