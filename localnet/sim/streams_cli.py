"""`rota sim engine`: random streams of blocks for the engine alone, judged after each block."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from localnet.sim.bundle import probe_keep, writing
from localnet.sim.interrupts import Interruption
from localnet.sim.options import JobsOption, choose_jobs, parse_seeds
from localnet.sim.report import describe_times
from localnet.sim.streams.cut import RUNS_MAX, cut
from localnet.sim.streams.stream import (
    BLOCKS_MAX,
    Ran,
    Stream,
    StreamError,
    decode_stream,
    describe_block,
    run_seed,
    run_stream,
    save_stream,
)
from localnet.sim.violation import Violation
from localnet.sim.workers import run_all
from localnet.verdicts import find_gravest
from node.cli.output import JsonOption, Output, current_output, record, table
from node.exit_codes import ExitCode, OperatorError

SEEDS_DEFAULT: Final = "1..100"
BLOCKS_DEFAULT: Final = 100
KEEP_DEFAULT: Final = Path("stream-failures")
FINDINGS_MAX: Final = 20
"""Streams that break something; after so many the rest would tell nothing new."""
LINES_MAX: Final = 200
"""Of a stream that is shown; one that was cut down has a few."""


class StreamFileError(OperatorError):
    """A file that holds no stream of blocks."""

    code = "sim.stream_invalid"
    exit_code = ExitCode.CONFIG


class Task(NamedTuple):
    """One stream to be drawn and judged."""

    seed: int
    blocks: int


class Judged(NamedTuple):
    """What became of it."""

    ran: Ran
    runs: int
    """Of smaller streams, until nothing could be left out."""
    cpu_s: float


def engine(
    context: typer.Context,
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="A..B", help="The seeds, both included, or one seed.")
    ] = SEEDS_DEFAULT,
    blocks: Annotated[
        int, typer.Option("--blocks", min=1, max=BLOCKS_MAX, help="Blocks of each stream.")
    ] = BLOCKS_DEFAULT,
    replay: Annotated[
        Path | None,
        typer.Option("--replay", metavar="FILE", help="Judge the blocks of a saved stream again."),
    ] = None,
    jobs: JobsOption = None,
    keep: Annotated[
        Path, typer.Option("--keep", metavar="DIR", help="Where streams that fail leave a file.")
    ] = KEEP_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Give the engine random streams of everything at once, and judge it after each block.

    Every kind of instruction, with numbers at the ends of their ranges, in four markets with all
    that a genesis can switch on; prices leap and the clock jumps. After each block money adds up,
    an engine restored from before it comes to the same with the envelopes in another order, the
    root covers all that there is, and more. Exit code 20, 22 or 1 by what broke. Each stream that
    fails is cut down to the blocks and instructions that it needs, and leaves a file below --keep.

    \b
    Examples:
      rota sim engine --seeds 1..500
      rota sim engine --seeds 17 --blocks 1000 --json
      rota sim engine --replay stream-failures/17.json
    """
    output = current_output(context)
    if replay is not None:
        _replay(output, replay)
    tasks = [Task(seed, blocks) for seed in parse_seeds(seeds)]
    probe_keep(keep)
    start_s = time.monotonic()
    found: list[Judged] = []
    failed = 0
    with Interruption() as interruption:
        results = run_all(judge_seed, iter(tasks), choose_jobs(jobs), _describe_task)
        for judged in interruption.until(results):
            found.append(judged)
            failed += judged.ran.violation is not None
            if failed >= FINDINGS_MAX:
                break
        findings = [each for each in found if each.ran.violation is not None]
        findings.sort(key=lambda each: each.ran.seed)
        paths = _save(keep, findings)
    document = _make_document(found, findings, paths, time.monotonic() - start_s)
    verdict = find_gravest(each.ran.violation.verdict for each in findings if each.ran.violation)
    exit_code = verdict.exit_code or interruption.exit_code or ExitCode.OK
    document |= {
        "verdict": verdict,
        "exit_code": int(exit_code),
        "interrupted": interruption.received is not None,
    }
    _print(output, document)
    raise typer.Exit(int(exit_code))


def judge_seed(task: Task) -> Judged:
    """What a worker does: run a stream, and cut it down if it fails."""
    start_s = time.process_time()
    ran, runs = run_seed(*task), 0
    if ran.violation is not None and ran.stream is not None:
        smallest, violation, runs = cut(ran.stream, ran.violation, RUNS_MAX)
        ran = Ran(ran.seed, ran.blocks, ran.counts, violation, smallest)
    return Judged(ran, runs, time.process_time() - start_s)


def _describe_task(task: Task) -> str:
    return f"stream {task.seed}"


def _save(directory: Path, findings: Sequence[Judged]) -> list[Path]:
    paths = []
    for each in findings:
        assert each.ran.stream is not None, "of every stream that failed"
        path = directory / f"{each.ran.seed}.json"
        with writing(path):
            save_stream(path, each.ran.stream)
        paths.append(path)
    return paths


# ---- what is printed -----------------------------------------------------------------------------


def _make_document(
    found: Sequence[Judged], findings: Sequence[Judged], paths: Sequence[Path], wall_s: float
) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for each in found:
        counts.update(each.ran.counts)
    sums = {name: counts.pop(name, 0) for name in ("instructions", "fills")}
    return {
        "streams": len(found),
        "blocks": sum(each.ran.blocks for each in found),
        **sums,
        "wall_s": round(wall_s, 1),
        "cpu_s": round(sum(each.cpu_s for each in found), 1),
        "violations": [
            describe_violation(each.ran.violation)
            | {
                "seed": each.ran.seed,
                "blocks": each.ran.blocks,
                "blocks_left": len(each.ran.stream.blocks),
                "runs": each.runs,
            }
            for each in findings
            if each.ran.violation is not None and each.ran.stream is not None
        ],
        "files": [str(path) for path in paths],
        "coverage": dict(sorted(counts.items())),
    }


def describe_violation(violation: Violation) -> dict[str, Any]:
    """A violation for programs."""
    return {
        "verdict": violation.verdict,
        "oracle": violation.oracle,
        "detail": violation.detail,
        "at_ms": violation.at_ms,
    }


def _print(output: Output, document: dict[str, Any]) -> None:
    rows = [(name, f"{count:,}") for name, count in document["coverage"].items()]
    lines = [
        f"FOUND  stream {each['seed']}  {each['oracle']}: {each['detail']}"
        f" ({each['blocks_left']:,} of {each['blocks']:,} blocks)"
        for each in document["violations"]
    ]
    nothing = "interrupted: nothing found so far" if document["interrupted"] else "no violation"
    output.data(
        document,
        record(
            [
                ("streams", f"{document['streams']:,}"),
                ("blocks", f"{document['blocks']:,}"),
                ("instructions", f"{document['instructions']:,}"),
                ("fills", f"{document['fills']:,}"),
                ("time", describe_times(document["wall_s"], document["cpu_s"])),
            ]
        ),
        "",
        table(["what happened", "times>"], rows),
        "",
        *(lines or [nothing]),
        *(f"repeat: rota sim engine --replay {path}" for path in document["files"]),
    )


# ---- repeating -----------------------------------------------------------------------------------


def _replay(output: Output, path: Path) -> None:
    """Judge the blocks of a file, show them up to where something breaks, and exit by that."""
    stream = _read(path)
    violation, blocks = run_stream(stream)
    document = {
        "seed": stream.seed,
        "blocks": blocks,
        "was": stream.found,
        "violation": None if violation is None else describe_violation(violation),
    }
    lines = [line for block in stream.blocks[:blocks] for line in describe_block(block)]
    if len(lines) > LINES_MAX:
        lines = [f"... {len(lines) - LINES_MAX:,} lines before", *lines[-LINES_MAX:]]
    verdict = find_gravest([] if violation is None else [violation.verdict])
    said = "no violation" if violation is None else f"{violation.oracle}: {violation.detail}"
    rows = [("stream", stream.seed), ("blocks", blocks), ("is", said), ("was", stream.found)]
    output.data(document, *lines, "", record(rows))
    raise typer.Exit(int(verdict.exit_code))


def _read(path: Path) -> Stream:
    try:
        return decode_stream(path.read_bytes())
    except (OSError, StreamError) as error:
        raise StreamFileError(
            f"{path}: {getattr(error, 'strerror', None) or error}",
            advice="name a file that `rota sim engine` has left",
        ) from error
