"""Mutants: the product with one rule switched off, to see that the campaign notices.

A mutant changes the source text of one or a few functions and puts the code compiled from it in
the place of theirs; the shipped files know nothing of this, and everything is restored afterwards.
A rule that the product holds in two places is switched off in both, since one alone changes
nothing that anybody could see.

Each mutant is hunted with the schedules of the campaign and judged by its oracles. It may name
kinds of schedule that are tried first; these say who lies or what breaks, as any schedule does, and
know nothing of the mutant. A kill counts only if the same schedule runs clean without it.
"""

import importlib
import inspect
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, cycle, islice
from random import Random
from types import CodeType, FunctionType
from typing import Any, Final

from msgspec import Struct

from localnet.byzantine import behaviours
from localnet.sim.faults import (
    ClockFault,
    CrashAtPersistFault,
    CrashFault,
    DuplicateFault,
    LossFault,
)
from localnet.sim.generator import generate
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Liar, Schedule, Traffic
from localnet.sim.twin_plans import generate_twins

VIEWS: Final = 16
"""Of each schedule."""

SCENARIOS_MAX: Final = 120
"""Schedules tried on one mutant before it counts as a survivor."""

FIRST_SHARE: Final = 2
"""Of three schedules so many are of the kinds to be tried first, as long as there are any."""


class Change(Struct, frozen=True):
    """Other source text for one function."""

    target: str
    """`module:function` or `module:Class.method`."""
    old: str
    """Occurs once in the function's source."""
    new: str


class Mutant(Struct, frozen=True):
    """One rule switched off."""

    name: str
    rule: str
    """What no longer holds."""
    changes: tuple[Change, ...]
    first: tuple[str, ...] = ()
    """Kinds of schedule to try first (`make_schedule`)."""


def make_mutant(name: str, rule: str, *parts: str, first: tuple[str, ...] = ()) -> Mutant:
    """`parts` are targets, each followed by the old and the new text."""
    changes = tuple(Change(*parts[place : place + 3]) for place in range(0, len(parts), 3))
    return Mutant(name, rule, changes, first)


class Hunt(Struct, frozen=True):
    """What became of a mutant."""

    name: str
    rule: str
    killed: bool
    seed: int | None
    """Of the schedule that killed it."""
    scenarios: int
    """Schedules run until then."""
    schedule: str
    """The kind of the schedule that killed it."""
    oracle: str
    detail: str
    cpu_s: float


class MutantError(Exception):
    """A change does not fit the code any more: the table must follow the product."""


# ---- changing code -----------------------------------------------------------------------------


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Run something with a mutant's changes in force. Raises `MutantError`."""
    originals: list[tuple[FunctionType, CodeType]] = []
    try:
        sources: dict[str, str] = {}
        for change in mutant.changes:
            function = find_function(change.target)
            source = sources.get(change.target)
            if source is None:
                source = textwrap.dedent(inspect.getsource(function))
                originals.append((function, function.__code__))
            if source.count(change.old) != 1:
                found = source.count(change.old)
                raise MutantError(f"{mutant.name}: {change.old!r} occurs {found} times")
            sources[change.target] = source = source.replace(change.old, change.new)
            function.__code__ = _compile(function, source)
        yield
    finally:
        for function, code in originals:
            function.__code__ = code


def find_function(target: str) -> FunctionType:
    """The function that a target names. Raises `MutantError`."""
    module_name, _, path = target.partition(":")
    found: Any = importlib.import_module(module_name)
    for name in path.split("."):
        found = inspect.getattr_static(found, name, None)
    if isinstance(found, property):
        found = found.fget
    if not isinstance(found, FunctionType):
        raise MutantError(f"{target} is no function")
    return found


def _compile(function: FunctionType, source: str) -> CodeType:
    """The code of a function with other source text, its names looked up where its own are."""
    namespace = dict(function.__globals__)
    body = source[source.index("def ") :] if source.startswith("@") else source
    exec(compile(body, f"<mutant of {function.__qualname__}>", "exec"), namespace)
    code: CodeType = namespace[function.__name__].__code__
    if code.co_freevars != function.__code__.co_freevars:
        raise MutantError(f"{function.__qualname__} closes over something")
    return code


# ---- schedules ---------------------------------------------------------------------------------


def make_schedule(kind: str, number: int) -> Schedule:
    """The schedule of a kind and a number: always the same one.

    Kinds: `generated`, `twins`, `quiet`, `crashes`, `losses`, `clocks`, `duplicates`, and
    `liar:NAME` or `liar:NAME+KIND`, where the last adds the faults of a kind.
    """
    if kind == "generated":
        return generate(number, VIEWS)
    if kind == "twins":
        return next(islice(generate_twins(number + 1), number, None))
    if kind.startswith("liar:"):
        name, _, faults = kind.removeprefix("liar:").partition("+")
        base = make_schedule(faults or "quiet", number)
        member = (number + 2) % len(base.powers)  # Member 2 leads the first views.
        return _rename(base, kind, liars=(Liar(member=member, behaviour=name),))
    random = Random(f"{kind} {number}")
    powers = (1, 1, 1, 1)
    faults_of: dict[str, Callable[[], Any]] = {
        "crashes": lambda: _crash(random),
        "losses": lambda: LossFault(
            at_ms=random.randrange(800), duration_ms=400, permille=random.choice((200, 500))
        ),
        "clocks": lambda: ClockFault(
            at_ms=random.randrange(600),
            duration_ms=random.choice((20, 100)),
            host=random.randrange(4),
            offset_ms=random.choice((-2_000, -400, 400, 2_000)),
        ),
        "duplicates": lambda: DuplicateFault(
            at_ms=random.randrange(400), duration_ms=1_000, permille=500, lag_max_ms=300
        ),
    }
    counts = {"quiet": 0, "clocks": 12}
    count = counts.get(kind, random.randint(3, 8))
    return Schedule(
        name=kind,
        seed=number,
        powers=powers,
        views=VIEWS,
        traffic=Traffic(interval_ms=30),
        faults=tuple(
            sorted((faults_of[kind]() for _ in range(count)), key=lambda fault: fault.at_ms)
        ),
    )


def _rename(schedule: Schedule, name: str, liars: tuple[Liar, ...]) -> Schedule:
    return Schedule(
        name=name,
        seed=schedule.seed,
        powers=schedule.powers,
        views=schedule.views,
        network=schedule.network,
        traffic=schedule.traffic,
        liars=liars,
        faults=schedule.faults,
    )


def _crash(random: Random) -> CrashFault | CrashAtPersistFault:
    at_ms, host = random.randrange(1_000), random.randrange(4)
    if random.random() < 0.4:
        return CrashFault(at_ms=at_ms, duration_ms=random.choice((20, 150, 400)), host=host)
    return CrashAtPersistFault(
        at_ms=at_ms,
        duration_ms=random.choice((20, 150, 400)),
        host=host,
        table=random.choice(("vote", "timeout", "proposal", "state_vote")),
        is_durable=random.random() < 0.5,
    )


def list_kinds(first: Sequence[str] = ()) -> Iterator[str]:
    """Kinds of schedule without end: the first ones, mixed with what the campaign runs anyway."""
    lies = [f"liar:{name}" for name in behaviours()]
    general = cycle(chain.from_iterable(("generated", "twins", lie) for lie in lies))
    preferred = cycle(first)
    while True:
        for _ in range(FIRST_SHARE):
            if first:
                yield next(preferred)
        yield next(general)


# ---- hunting -----------------------------------------------------------------------------------


def hunt(mutant: Mutant, scenarios_max: int = SCENARIOS_MAX) -> Hunt:
    """Run schedules on a mutant until one shows it up."""
    start_s = time.process_time()
    counts: dict[str, int] = {}
    tried = 0
    for kind in islice(list_kinds(mutant.first), scenarios_max):
        number = counts.get(kind, -1) + 1
        counts[kind] = number
        schedule = make_schedule(kind, number)
        tried += 1
        with planted(mutant):
            violation = run_schedule(schedule).violation
        if violation is None or run_schedule(schedule).violation is not None:
            continue
        return Hunt(
            mutant.name,
            mutant.rule,
            True,
            schedule.seed,
            tried,
            kind,
            violation.oracle,
            violation.detail,
            round(time.process_time() - start_s, 2),
        )
    cpu_s = round(time.process_time() - start_s, 2)
    return Hunt(mutant.name, mutant.rule, False, None, tried, "", "", "", cpu_s)
