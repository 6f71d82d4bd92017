"""`rota replay`: repeat a chain from a node's data and compare every result."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.live import Live
from rich.text import Text

from node.cli.homes import open_home
from node.cli.output import JsonOption, Output, command_group, current_output, record, to_plain
from node.home import HomeError

if TYPE_CHECKING:
    from node.replay import ReplayReport

REFRESH_S: Final = 0.25

app = command_group("")


@app.command()
def replay(
    context: typer.Context,
    home: Annotated[Path, typer.Argument(help="A node's home; it may be running.")],
    check_roots: Annotated[
        bool,
        typer.Option(
            help="Compare every checkpoint and certificate with what comes out of the replay."
        ),
    ] = True,
    json: JsonOption = False,
) -> None:
    """Repeat a node's whole chain from its blocks and batches, and compare every root. The chain of
    a node that joined by a snapshot begins with that, whose certificate is checked first.

    Checks all certificates, batches and signatures, and executes every order again. Exit code 22
    if anything comes out differently.

    \b
    Examples:
      rota replay .localnet/node0
      rota replay ~/north --no-check-roots --json
    """
    # Imported here: the other commands start faster without the engine.
    from node.replay import replay as run_replay

    output = current_output(context)
    target = open_home(home)
    if not target.path.is_dir():
        raise HomeError(
            f"there is no home at {target.path}",
            advice="name the folder of a node, as .localnet/node0",
        )
    started_at = time.perf_counter()
    with _Progress(output) as progress:
        report = run_replay(target, check_roots=check_roots, on_progress=progress.show)
    elapsed_s = round(time.perf_counter() - started_at, 3)
    document = {**to_plain(report), "elapsed_s": elapsed_s}
    rows = {
        "envelopes refused" if name == "refused" else name: value
        for name, value in {**document, "refused": _refused(report)}.items()
        if name != "refused_codes"
    }
    output.data(document, _verdict(report, check_roots=check_roots), record(rows.items()))


def _verdict(report: "ReplayReport", *, check_roots: bool) -> str:
    """What was compared, in one line; a difference has raised before."""
    if not check_roots:
        return f"ok: {report.heights} heights repeated, their roots not compared"
    return (
        f"ok: {report.checkpoints_compared} checkpoints and {report.certificates_compared} "
        "certificates identical"
    )


def _refused(report: "ReplayReport") -> str:
    """How many envelopes the header ledger refused, and why."""
    codes = ", ".join(f"{count} {code}" for code, count in report.refused_codes.items())
    return f"{report.refused} ({codes})" if codes else str(report.refused)


class _Progress:
    """The height reached, on a terminal only."""

    def __init__(self, output: Output) -> None:
        moves = output.err.is_terminal and not output.is_json
        self._live = Live(console=output.err, auto_refresh=False, transient=True) if moves else None
        self._next_at = 0.0

    def __enter__(self) -> "_Progress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, height: int) -> None:
        now = time.monotonic()
        if self._live is not None and now >= self._next_at:
            self._next_at = now + REFRESH_S
            self._live.update(Text(f"replayed to height {height}"), refresh=True)
