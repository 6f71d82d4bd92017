"""`rota sim fuzz`: bent inputs for everything that reads outside bytes."""

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from localnet.fuzz.campaign import Finding, Tally
from localnet.fuzz.contract import Target, find_target, judge
from localnet.fuzz.saved import KEEP_DEFAULT, Saved, SavedError, decode_saved, save_findings
from localnet.fuzz.targets import TARGETS, prepare_corpus
from localnet.fuzz.workers import Block, run_blocks
from localnet.sim.interrupts import Interruption
from localnet.sim.options import JobsOption, choose_jobs, parse_seeds
from localnet.sim.report import describe_times
from localnet.verdicts import Verdict, find_gravest
from node.cli.output import JsonOption, Output, current_output, record, table
from node.exit_codes import ExitCode, OperatorError

SEEDS_DEFAULT: Final = "1..4"
CODES_SHOWN: Final = 3


class UnknownTargetError(OperatorError):
    """No target has this name."""

    code = "sim.fuzz_target_unknown"
    exit_code = ExitCode.USAGE


class FindingFileError(OperatorError):
    """A file that holds no finding."""

    code = "sim.fuzz_file_invalid"
    exit_code = ExitCode.CONFIG


def fuzz(
    context: typer.Context,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="NAME", help="This target; may be given again."),
    ] = None,
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="A..B", help="The seeds, both included, or one seed.")
    ] = SEEDS_DEFAULT,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            min=1,
            max=7 * 86_400,
            help="Take seed after seed for so long instead, from the first of --seeds on.",
        ),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option("--replay", metavar="FILE", help="Try the input of one finding again."),
    ] = None,
    jobs: JobsOption = None,
    keep: Annotated[
        Path, typer.Option("--keep", metavar="DIR", help="Where findings leave their files.")
    ] = KEEP_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Give bent messages, records and files to everything that reads outside bytes.

    A decoder returns a value that encodes to the very same bytes, or raises its own error, in
    bounded time and memory. The targets `peer` and `client` feed a whole cluster, which every
    oracle watches. Exit code 20 if a rule of safety was broken, 21 for liveness, 1 for everything
    else that was found, and if the fuzzer itself broke. Each finding is cut down and leaves a file
    below --keep. Ctrl-C and SIGTERM end it with what was found until then, and exit code 130 or 143
    if nothing was.

    \b
    Examples:
      rota sim fuzz --seeds 1..20
      rota sim fuzz --target peer --target envelope --seconds 300
      rota sim fuzz --replay fuzz-failures/genesis.json
    """
    output = current_output(context)
    if replay is not None:
        _replay(output, replay)
    chosen = [_find(name) for name in target] if target else list(TARGETS)
    first_to_last = parse_seeds(seeds)
    start_s = time.monotonic()
    tallies = {each.name: Tally(each.name) for each in chosen}
    blocks = _list_blocks(chosen, first_to_last, seconds)
    with Interruption() as interruption:
        for done in interruption.until(run_blocks(blocks, choose_jobs(jobs))):
            tallies[done.target].add(done)
        findings = [finding for tally in tallies.values() for finding in tally.findings]
        paths = save_findings(keep, findings)
    verdict = find_gravest(tally.verdict() for tally in tallies.values())
    own_errors = [each for tally in tallies.values() for each in tally.own_errors]
    broken = ExitCode.UNEXPECTED if own_errors else None
    exit_code = verdict.exit_code or broken or interruption.exit_code or ExitCode.OK
    document = _make_document(list(tallies.values()), paths, verdict, time.monotonic() - start_s)
    document |= {
        "own_errors": own_errors,
        "exit_code": int(exit_code),
        "interrupted": interruption.received is not None,
    }
    _print(output, list(tallies.values()), document)
    raise typer.Exit(int(exit_code))


def _list_blocks(targets: Sequence[Target], seeds: range, seconds: float | None) -> Iterator[Block]:
    """Seed by seed, so that every target has its turn."""
    if seconds is None:
        yield from (Block(each.name, seed) for seed in seeds for each in targets)
        return
    end_s = time.monotonic() + seconds
    for seed in itertools.count(seeds.start):
        for each in targets:
            if time.monotonic() >= end_s:
                return
            yield Block(each.name, seed)


def _find(name: str) -> Target:
    try:
        return find_target(TARGETS, name)
    except KeyError as error:
        known = ", ".join(each.name for each in TARGETS)
        raise UnknownTargetError(f"no target {name!r}", advice=f"there are: {known}") from error


# ---- what is printed -------------------------------------------------------------------------


def _print(output: Output, tallies: list[Tally], document: dict[str, Any]) -> None:
    findings = [finding for tally in tallies for finding in tally.findings]
    executions = sum(tally.executions for tally in tallies)
    cpu_s = sum(tally.cpu_s for tally in tallies)
    rows = [
        (
            tally.target,
            f"{tally.executions:,}",
            f"{tally.accepted:,}",
            f"{sum(tally.rejected.values()):,}",
            len(tally.signatures),
            len(tally.findings),
            _describe_codes(tally.rejected),
        )
        for tally in tallies
    ]
    columns = ["target", "tried>", "taken>", "refused>", "different>", "found>", "most often"]
    nothing = "interrupted: nothing found so far" if document["interrupted"] else "nothing found"
    lines = [_describe_finding(each) for each in findings] or [nothing]
    lines += [f"BROKEN the fuzzer itself: {each}" for each in document["own_errors"]]
    commands = [f"repeat: rota sim fuzz --replay {path}" for path in document["files"]]
    output.data(
        document,
        table(columns, rows),
        "",
        record(
            [
                ("executions", f"{executions:,}"),
                ("time", describe_times(document["wall_s"], cpu_s)),
            ]
        ),
        "",
        *lines,
        *commands,
    )


def _describe_codes(rejected: dict[str, int]) -> str:
    most = sorted(rejected.items(), key=lambda item: (-item[1], item[0]))[:CODES_SHOWN]
    rest = len(rejected) - len(most)
    return ", ".join(f"{code} {count:,}" for code, count in most) + (f", {rest} more" * bool(rest))


def _describe_finding(finding: Finding) -> str:
    result = finding.result
    where = f" at {result.where}" if result.where else ""
    return (
        f"FOUND  {finding.target}  seed {finding.seed}  {result.kind}: {result.detail}{where}"
        f" ({len(finding.minimal):,} of {len(finding.data):,} bytes)"
    )


def _make_document(
    tallies: list[Tally], paths: list[Path], verdict: Verdict, wall_s: float
) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "wall_s": round(wall_s, 1),
        "targets": [
            {
                "name": tally.target,
                "blocks": tally.blocks,
                "executions": tally.executions,
                "accepted": tally.accepted,
                "rejected": dict(sorted(tally.rejected.items())),
                "distinct": len(tally.signatures),
                "cpu_s": round(tally.cpu_s, 1),
            }
            for tally in tallies
        ],
        "findings": [
            {
                "target": each.target,
                "seed": each.seed,
                "kind": each.result.kind,
                "code": each.result.code,
                "where": each.result.where,
                "detail": each.result.detail,
                "verdict": each.result.verdict,
                "size_bytes": len(each.data),
                "minimal_size_bytes": len(each.minimal),
            }
            for tally in tallies
            for each in tally.findings
        ],
        "files": [str(path) for path in paths],
    }


# ---- repeating -------------------------------------------------------------------------------


def _replay(output: Output, path: Path) -> None:
    """Try the minimal input of a finding again, say what it comes to, and exit by it."""
    saved = _read(path)
    prepare_corpus()
    result = judge(_find(saved.target), saved.minimal)
    document = {
        "target": saved.target,
        "kind": result.kind,
        "code": result.code,
        "where": result.where,
        "detail": result.detail,
        "was": {"kind": saved.kind, "code": saved.code, "where": saved.where},
    }
    rows = [
        ("target", saved.target),
        ("size", f"{len(saved.minimal):,} bytes"),
        ("is", f"{result.kind} {result.code} {result.where}"),
        ("was", f"{saved.kind} {saved.code} {saved.where}"),
        ("detail", result.detail or None),
    ]
    output.data(document, record(rows))
    raise typer.Exit(int(result.verdict.exit_code))


def _read(path: Path) -> Saved:
    try:
        return decode_saved(path.read_bytes())
    except (OSError, SavedError) as error:
        raise FindingFileError(
            f"{path}: {getattr(error, 'strerror', None) or error}",
            advice="name a file that `rota sim fuzz` has left",
        ) from error
