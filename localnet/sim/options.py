"""Options that several commands of `rota sim` share."""

import os
import re
from typing import Annotated

import typer

JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        max=256,
        help="Worker processes [default: one a core].",
        show_default=False,
    ),
]


def choose_jobs(jobs: int | None) -> int:
    """How many worker processes there shall be."""
    return jobs or len(os.sched_getaffinity(0))


def parse_seeds(text: str) -> range:
    """The seeds of an option such as `1..2000`."""
    found = re.fullmatch(r"(\d{1,18})(?:\.\.(\d{1,18}))?", text, re.ASCII)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no range such as 1..2000", param_hint="--seeds")
    first = int(found[1])
    last = int(found[2]) if found[2] is not None else first
    if last < first:
        raise typer.BadParameter(f"{text!r} ends before it begins", param_hint="--seeds")
    return range(first, last + 1)
