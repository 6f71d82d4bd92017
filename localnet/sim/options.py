"""Options that several commands of `rota sim` share."""

import os
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
