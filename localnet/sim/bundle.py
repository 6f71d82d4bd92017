"""What a failure leaves behind: its schedule, a minimal one, a trace and a timeline."""

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Final, NamedTuple

import typer

from localnet.sim.campaign import DETERMINISM, Finding
from localnet.sim.recorder import Recorder, write_trace
from localnet.sim.scenario import Outcome, run_schedule
from localnet.sim.schedule import Schedule, save_schedule
from localnet.sim.shrink import NothingToShrinkError, Shrunk, shrink
from localnet.sim.timeline import render_timeline
from localnet.sim.watchdog import WATCHDOG
from node.exit_codes import ExitCode, OperatorError

UNSHRUNK: Final = {
    DETERMINISM: "It was not cut down: only two runs together show it.",
    WATCHDOG: "It was not cut down: each run that shows it hangs.",
}
"""Rules that one run cannot show to be broken, or only by hanging, and what a bundle says so."""

BUNDLE_SHRINK_RUNS_MAX: Final = 200
"""Runs for one bundle; `rota sim shrink` goes further."""

PROBE_BYTES: Final = 64 << 10
"""Written to see that there is room: a small bundle."""

KEEP_DEFAULT: Final = Path("sim-failures")
BUNDLES_MAX: Final = 5
"""Findings that are written down; all are named."""

FILES: Final = ("schedule.json", "minimal.json", "trace.txt", "timeline.html", "README.md")
"""Of a bundle; behaviours of somebody's own come besides."""

SLUG_MAX: Final = 60
"""Characters of a schedule's name in the name of its folder."""

HERE: Final = "in this folder"
"""Where the commands hold that a bundle names: it may be moved, and mailed."""

ONCE_A_RULE: Final = (
    "It was not cut down: that is done for the first failure of each rule, and not after an"
    " interruption. Do it here: `rota sim shrink schedule.json`."
)
FAILED_ONCE: Final = "It was not cut down: it did not fail when it was run again."

KeepOption = Annotated[
    Path, typer.Option("--keep", metavar="DIR", help="Where failures leave their folders.")
]


class KeepError(OperatorError):
    """A run cannot be written down."""

    code = "sim.unwritable"
    exit_code = ExitCode.STORAGE


class Bundle(NamedTuple):
    """The folder of one failure."""

    folder: Path
    smallest: Path
    """The smallest schedule there on which it fails."""

    @property
    def replay_line(self) -> str:
        """The command that shows the failure again."""
        return make_replay_line(self.smallest)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while writing into `KeepError`."""
    try:
        yield
    except OSError as error:
        raise KeepError(
            f"cannot write {path}: {error.strerror or error}",
            advice="name a place with room that you may write to",
        ) from error


def probe_keep(directory: Path) -> None:
    """See that failures can be written down there, before looking for any. Leaves nothing behind.
    Raises `KeepError`."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=directory, buffering=0) as file:
            file.write(bytes(PROBE_BYTES))
        for each in missing:
            each.rmdir()


def probe_file(path: Path) -> None:
    """See that this file can be written, before working for what goes there. Leaves nothing
    behind, and what there is as it is. Raises `KeepError`."""
    is_new = not path.exists()
    with writing(path):
        path.open("ab").close()
        if is_new:
            path.unlink()


def keep_findings(
    directory: Path,
    findings: Sequence[Finding],
    note: Callable[[str], None],
    shrink_runs_max: int = BUNDLE_SHRINK_RUNS_MAX,
) -> Iterator[Bundle]:
    """Leave a bundle for the first findings; the first of each oracle is shrunk, too. Raises
    `KeepError`."""
    oracles: set[str] = set()
    for finding in findings[:BUNDLES_MAX]:
        oracle = finding.violation.oracle
        note(f"seed {finding.schedule.seed}: {oracle}; writing down what happened")
        with writing(directory):
            bundle = write_bundle(directory, finding, 0 if oracle in oracles else shrink_runs_max)
        yield bundle
        oracles.add(oracle)


def make_replay_line(file: Path | str) -> str:
    """The command that runs a schedule file again, as a shell takes it."""
    return shlex.join(["rota", "sim", "replay", str(file)])


def make_shrink_line(file: Path) -> str:
    """The command that cuts a schedule file down."""
    return shlex.join(["rota", "sim", "shrink", str(file)])


def make_hunt_line(mutant: str) -> str:
    """The command that switches one rule off and shows it again."""
    return shlex.join(["rota", "sim", "mutants", "--only", mutant])


def record_run(schedule: Schedule) -> tuple[Outcome, Recorder]:
    """Run a schedule and write down what happens."""
    recorder = Recorder()
    return run_schedule(schedule, recorder), recorder


def write_timeline(path: Path, schedule: Schedule) -> Outcome:
    """Run a schedule and draw it. Raises `OSError`."""
    outcome, recorder = record_run(schedule)
    path.write_text(render_timeline(schedule, outcome, recorder), encoding="utf-8")
    return outcome


def write_bundle(
    directory: Path,
    finding: Finding,
    shrink_runs_max: int = BUNDLE_SHRINK_RUNS_MAX,
    mutant: str = "",
) -> Bundle:
    """Make a folder for one finding. What an earlier one of the same name left there goes; what
    is not of a bundle stays. `mutant` names the rule that is off in this process. Raises
    `OSError`."""
    schedule = finding.schedule
    folder = directory / make_folder_name(schedule)
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    file = folder / "schedule.json"
    save_schedule(file, schedule)
    shrunk: Shrunk | None = None
    uncut = ONCE_A_RULE
    if finding.violation.oracle in UNSHRUNK:
        uncut = UNSHRUNK[finding.violation.oracle]
    elif shrink_runs_max > 1:
        # What does not fail here again is told all the same.
        uncut = FAILED_ONCE
        with suppress(NothingToShrinkError):
            shrunk = shrink(schedule, shrink_runs_max)
            file = folder / "minimal.json"
            save_schedule(file, shrunk.schedule)
    smallest = schedule if shrunk is None else shrunk.schedule
    outcome, recorder = record_run(smallest)
    (folder / "trace.txt").write_text(write_trace(recorder, outcome), encoding="utf-8")
    again = make_hunt_line(mutant) if mutant else f"{make_replay_line(file.name)}  # {HERE}"
    page = render_timeline(smallest, outcome, recorder, is_minimal=shrunk is not None, again=again)
    (folder / "timeline.html").write_text(page, encoding="utf-8")
    text = _describe(finding, shrunk, uncut, mutant)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return Bundle(folder, file)


def make_folder_name(schedule: Schedule) -> str:
    """One plain word, whatever the schedule is called: its name as far as that is letters and
    digits, and its seed."""
    slug = "-".join(re.findall(r"[a-z0-9]+", schedule.name.lower()))[:SLUG_MAX].strip("-")
    return f"{slug}-{schedule.seed}" if slug else f"{schedule.seed}"


def _describe(finding: Finding, shrunk: Shrunk | None, uncut: str, mutant: str) -> str:
    violation = finding.violation
    lines = [
        f"# Seed {finding.schedule.seed}: {violation.oracle}",
        "",
        f"{violation.detail}",
        "",
        f"At {violation.at_ms} ms of virtual time, in the phase `{violation.phase}`.",
        "",
    ]
    if mutant:
        lines += [
            f"The rule `{mutant}` was off: `{make_hunt_line(mutant)}` shows it again. With"
            " all rules in place the schedule breaks nothing:",
            "",
        ]
    lines += ["```sh", f"{make_replay_line('schedule.json')}  # {HERE}"]
    if shrunk is not None:
        lines.append(f"{make_replay_line('minimal.json')}  # {HERE}")
    lines += ["```", ""]
    if shrunk is None and not mutant:
        lines += [uncut, ""]
    if shrunk is not None:
        small = shrunk.schedule
        lines += [
            f"The minimal schedule has {len(small.faults)} faults, {len(small.liars)} liars,"
            f" {len(small.twin_links)} twin links, {small.views} views and {len(small.powers)}"
            f" members; it took {shrunk.runs} runs"
            + ("." if shrunk.is_complete else ", and `rota sim shrink` may go further."),
            f"There it says: {shrunk.violation.detail}",
            "",
        ]
    lines += [
        "`trace.txt` and `timeline.html` show the smallest schedule that there is here. The trace"
        " of `schedule.json` has the hash",
        f"`{finding.trace_hash}`.",
        "",
    ]
    return "\n".join(lines)
