"""Scenario files: a cluster, what goes wrong in it when, and what is expected of it. TOML, strict.

docs/faults.md has a table of the keys. The first comment of a file says what it shows.
"""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from localnet.byzantine import UnknownBehaviourError, find_behaviour
from localnet.crash import Crash
from localnet.faults.days import read_crash, read_options_day
from localnet.faults.expectations import NEED_CRASH, NEED_OPTIONS, Expectation
from localnet.faults.model import NEED_RUNNING, FaultError, decode_fault, parse_duration_s
from localnet.faults.words import describe_problem, fields_of, suggest
from localnet.network import NODES_DEFAULT, NODES_MAX, NODES_MIN, SEED_DEFAULT, SEED_MAX
from localnet.options_day import OptionsDay
from localnet.verdicts import Verdict
from node.exit_codes import ExitCode, OperatorError

RUN_MIN_S: Final = 5.0
"""In less, no order comes to its end: nothing could be judged."""
_KEYS: Final = "keys and their meaning: docs/faults.md"
SCENARIOS_DIR: Final = Path(__file__).parent.parent / "scenarios"
"""Those that come with the program."""
FILE_MAX_BYTES: Final = 32 << 10
"""A long dotted key takes time in the square of its length."""
ENTRIES_MAX: Final = 1_000
"""Of one kind in one file, and faults that a storm comes to."""

_Entries = Annotated[tuple[dict[str, Any], ...], Meta(max_length=ENTRIES_MAX)]


class ScenarioError(OperatorError):
    """The scenario file says something that makes no sense."""

    code = "scenario.invalid"
    exit_code = ExitCode.USAGE


class _Liar(Struct, frozen=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    node: str
    behaviour: str
    at: str = "0s"
    for_: str | None = None


class Twin(Struct, frozen=True, forbid_unknown_fields=True):
    """A member that runs two nodes."""

    node: str
    beside: Annotated[tuple[str, ...], Meta(min_length=1, max_length=NODES_MAX)]

    @property
    def name(self) -> str:
        """Of the second one's process and home."""
        return f"{self.node}twin"


class _Storm(
    Struct, frozen=True, forbid_unknown_fields=True, rename={"for_": "for", "from_": "from"}
):
    fault: Annotated[tuple[dict[str, Any], ...], Meta(min_length=1, max_length=ENTRIES_MAX)]
    until: str
    from_: str = "0s"
    for_: tuple[str, str] = ("2s", "8s")
    calm: tuple[str, str] = ("5s", "10s")


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    run_for: str
    nodes: Annotated[int, Meta(ge=NODES_MIN, le=NODES_MAX)] = NODES_DEFAULT
    traders: bool = True
    seed: Annotated[int, Meta(ge=0, le=SEED_MAX)] = SEED_DEFAULT
    heal_within: str = "15s"
    converge_within: str = "30s"
    verdict: Verdict = Verdict.PASS
    fault: _Entries = ()
    byz: Annotated[tuple[_Liar, ...], Meta(max_length=ENTRIES_MAX)] = ()
    twin: Annotated[tuple[Twin, ...], Meta(max_length=NODES_MAX)] = ()
    storm: Annotated[tuple[_Storm, ...], Meta(max_length=ENTRIES_MAX)] = ()
    expect: Annotated[tuple[Expectation, ...], Meta(max_length=ENTRIES_MAX)] = ()
    crash: dict[str, Any] | None = None
    options: dict[str, Any] | None = None


_TABLES: Final = {
    "byz": fields_of(_Liar),
    "twin": fields_of(Twin),
    "storm": fields_of(_Storm),
    "expect": fields_of(Expectation),
}
"""What each table takes; a fault's keys depend on its kind."""


class TimedFault(NamedTuple):
    """A fault at its time, in seconds from readiness."""

    at_s: float
    for_s: float | None
    document: dict[str, Any]
    """As `decode_fault` takes it; checked."""

    @property
    def is_there_from_the_start(self) -> bool:
        """At 0 it is there before the nodes start, unless it needs them to run: what does not run
        can neither be killed nor frozen."""
        return self.at_s == 0 and self.document["kind"] not in NEED_RUNNING


class TimedLiar(NamedTuple):
    """A node that begins to lie, or with no behaviour ends."""

    at_s: float
    node: str
    behaviour: str | None


class Scenario(NamedTuple):
    """A checked scenario."""

    name: str
    shows: str
    """The file's first comment."""
    nodes: int
    traders: bool
    seed: int
    run_for_s: float
    heal_within_s: float
    converge_within_s: float
    verdict: Verdict
    faults: tuple[TimedFault, ...]
    """By rising time; so below."""
    liars: tuple[TimedLiar, ...]
    twins: tuple[Twin, ...]
    expectations: tuple[Expectation, ...]
    crash: Crash | None = None
    """A fall of one market, which is then watched."""
    options: OptionsDay | None = None
    """Options that live for minutes, whose settlements are then checked."""


def find_scenario(name: str) -> Path:
    """A file as named, or one that comes with the program. Raises `ScenarioError`."""
    path, shipped = Path(name), SCENARIOS_DIR / f"{name}.toml"
    if path.is_file():
        return path
    if shipped.is_file():
        return shipped
    near = suggest(name, (each.stem for each in SCENARIOS_DIR.glob("*.toml")))
    raise ScenarioError(
        f"{name!r} is a folder"
        if path.is_dir()
        else f"there is no scenario and no file {name!r}{near}",
        advice="`rota fault scenarios` lists those that come with the program",
    )


def load_scenario(path: Path) -> Scenario:
    """Read and check a file. Raises `ScenarioError`."""
    try:
        data = path.read_bytes()
        if len(data) > FILE_MAX_BYTES:
            raise ScenarioError(f"{path} is too large", advice="a scenario is a short file")
        return parse_scenario(path.stem, data.decode())
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}",
            advice="examples: localnet/scenarios/",
        ) from error
    except (FaultError, ScenarioError) as error:
        raise ScenarioError(f"{path}: {error.message}", advice=error.advice) from error


def parse_scenario(name: str, text: str) -> Scenario:
    """Read and check a text. Raises `ScenarioError` or `FaultError`."""
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Also what is TOML but cannot be held: a number of 5,000 digits, a thousand brackets.
        raise ScenarioError(f"no TOML: {error}", advice=_KEYS) from error
    try:
        file = msgspec.convert(tree, _File)
    except msgspec.ValidationError as error:
        message = describe_problem(
            error, "a scenario", fields_of(_File), tables=_TABLES, values={"verdict": Verdict}
        )
        raise ScenarioError(message, advice=_KEYS) from error
    nodes = tuple(f"node{index}" for index in range(file.nodes))
    run_for_s = parse_duration_s(file.run_for)
    if run_for_s < RUN_MIN_S:
        raise ScenarioError(
            f"a run of {file.run_for} shows nothing", advice=f"run_for is {RUN_MIN_S:g}s or more"
        )
    _validate_rest(file, nodes)
    faults = []
    for number, entry in enumerate(file.fault, 1):
        with _within(f"[[fault]] {number}"):
            faults.append(_read_fault(entry, nodes))
    random = Random(file.seed)
    for number, storm in enumerate(file.storm, 1):
        with _within(f"[[storm]] {number}"):
            faults += _brew(storm, nodes, random)
    for fault in faults:
        if fault.at_s >= run_for_s:
            raise ScenarioError("a fault begins after the end", advice="raise run_for")
    liars = [turn for liar in file.byz for turn in _read_liar(liar)]
    crash, options = _read_days(file, run_for_s)
    return Scenario(
        name=name,
        shows=read_first_comment(text),
        nodes=file.nodes,
        traders=file.traders,
        seed=file.seed,
        run_for_s=run_for_s,
        heal_within_s=parse_duration_s(file.heal_within),
        converge_within_s=parse_duration_s(file.converge_within),
        verdict=file.verdict,
        faults=tuple(sorted(faults, key=lambda each: each.at_s)),
        liars=tuple(sorted(liars, key=lambda each: each.at_s)),
        twins=file.twin,
        expectations=file.expect,
        crash=crash,
        options=options,
    )


@contextmanager
def _within(place: str) -> Iterator[None]:
    """Say where in the file something makes no sense."""
    try:
        yield
    except (FaultError, ScenarioError, UnknownBehaviourError) as error:
        raise ScenarioError(f"{place}: {error.message}", advice=error.advice) from error


def read_first_comment(text: str) -> str:
    """The comment at the head of a file, as one paragraph."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def _validate_rest(file: _File, nodes: tuple[str, ...]) -> None:
    for number, liar in enumerate(file.byz, 1):
        with _within(f"[[byz]] {number}"):
            find_behaviour(liar.behaviour)
    twins = [twin.node for twin in file.twin]
    beside = {twin.beside for twin in file.twin}
    named = [*(liar.node for liar in file.byz), *twins, *(name for each in beside for name in each)]
    if len(beside) > 1 or len(set(named)) < len(named):
        raise ScenarioError(
            "a node is named twice, or twins hear different nodes",
            advice="all twins have the same `beside`, without twins and liars",
        )
    if {*(liar.node for liar in file.byz), *twins} >= set(nodes):
        raise ScenarioError(
            "every node lies or is a twin", advice="leave one honest: only such are judged"
        )
    for number, expectation in enumerate(file.expect, 1):
        given = msgspec.to_builtins(expectation)
        if len(given) != 1:
            raise ScenarioError(
                f"[[expect]] {number} has {' and '.join(given) or 'no key'}: each has one",
                advice=f"one of {', '.join(fields_of(Expectation))}",
            )
        if expectation.evidence_against is not None:
            named.append(expectation.evidence_against)
        for key in given:
            for keys, table, name, what in (
                (NEED_CRASH, file.crash, "crash", "there is no crash"),
                (NEED_OPTIONS, file.options, "options", "there are no options"),
            ):
                if key in keys and table is None:
                    raise ScenarioError(
                        f"[[expect]] {number} has {key}, and {what}",
                        advice=f"add a table [{name}]",
                    )
        for duration in (expectation.commits_within, expectation.pause_at_least):
            if duration is not None:
                parse_duration_s(duration)
    for name in named:
        if name not in nodes:
            raise ScenarioError(f"there is no {name!r}", advice=f"nodes: {', '.join(nodes)}")


def _read_days(file: _File, run_for_s: float) -> tuple[Crash | None, OptionsDay | None]:
    """What happens to a market, if anything."""
    crash = options = None
    if file.crash is not None and file.options is not None:
        raise ScenarioError(
            "a crash and options", advice="one scenario has one table of [crash] and [options]"
        )
    try:
        if file.crash is not None:
            crash = read_crash(file.crash, run_for_s, has_traders=file.traders)
        if file.options is not None:
            options = read_options_day(file.options, run_for_s, has_traders=file.traders)
    except FaultError as error:
        raise ScenarioError(error.message, advice=error.advice) from error
    return crash, options


def _read_fault(entry: dict[str, Any], nodes: tuple[str, ...]) -> TimedFault:
    document = dict(entry)
    at, length = document.pop("at", "0s"), document.pop("for", None)
    for_s = None if length is None else parse_duration_s(str(length))
    if for_s == 0:
        raise ScenarioError("a fault lasts no time", advice='as in for = "5s"')
    decode_fault(document, nodes)
    return TimedFault(parse_duration_s(str(at)), for_s, document)


def _read_liar(liar: _Liar) -> list[TimedLiar]:
    at_s = parse_duration_s(liar.at)
    turns = [TimedLiar(at_s, liar.node, liar.behaviour)]
    if liar.for_ is not None:
        turns.append(TimedLiar(at_s + parse_duration_s(liar.for_), liar.node, None))
    return turns


def _brew(storm: _Storm, nodes: tuple[str, ...], random: Random) -> list[TimedFault]:
    """The faults of a storm, one after another."""
    until_s = parse_duration_s(storm.until)
    lasts, calm = (tuple(map(parse_duration_s, each)) for each in (storm.for_, storm.calm))
    if not (0 < lasts[0] <= lasts[1] and 0 <= calm[0] <= calm[1]) or lasts[0] + calm[0] < 0.1:
        raise ScenarioError("a storm's ranges rise", advice='as in for = ["2s", "8s"]')
    templates = []
    for number, template in enumerate(storm.fault, 1):
        with _within(f"fault {number}"):
            templates.append(_read_choices(template, nodes))
    faults: list[TimedFault] = []
    at_s = parse_duration_s(storm.from_)
    while at_s < until_s and len(faults) < ENTRIES_MAX:
        for_s = round(random.uniform(*lasts), 3)
        faults.append(TimedFault(round(at_s, 3), for_s, random.choice(random.choice(templates))))
        at_s += for_s + random.uniform(*calm)
    return faults


def _read_choices(template: dict[str, Any], nodes: tuple[str, ...]) -> list[dict[str, Any]]:
    names = template.get("one_of")
    if names is not None and not (isinstance(names, list) and names):
        raise ScenarioError("one_of names no nodes", advice='as in one_of = ["node0", "node1"]')
    choices = [template] if names is None else [_settle(template, str(name)) for name in names]
    for choice in choices:
        decode_fault(choice, nodes)
    return choices


def _settle(template: dict[str, Any], name: str) -> dict[str, Any]:
    fault = {key: value for key, value in template.items() if key != "one_of"}
    return {**fault, "nodes": [name]}
