"""What the pages have alike: sections in the same layout and look, in one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tunesmith.delivery.reporting.parts import Section
from tunesmith.delivery.words import Words
from tunesmith.files import no_space, write_text


def rendered(template: str, words: Words, sections: Sequence[Section | None], **values: Any) -> str:
    """A page as HTML, without the sections that have nothing to say; `values` are what its own blocks name."""
    environment = Environment(
        loader=PackageLoader("tunesmith.delivery.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        words=words,
        sections=[section for section in sections if section is not None],
        version=version("tunesmith"),
        style=resources.files("tunesmith.delivery.reporting").joinpath("templates", "page.css").read_text("utf-8"),
        **values,
    )


def written(path: Path, text: str) -> Path:
    """Write a page; where it lies. MachineError where the disk does not take it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise no_space(path, error) from None
    return path
