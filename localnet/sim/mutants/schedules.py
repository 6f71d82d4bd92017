"""The schedules with which mutants are hunted: the campaign's own, and kinds with one trouble each.

They say who lies or what breaks, as any schedule does, and know nothing of the mutant.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, cycle, islice
from random import Random
from typing import Final

from msgspec.structs import replace

from localnet.byzantine import behaviours
from localnet.sim.faults import (
    ClockFault,
    CrashAtPersistFault,
    CrashFault,
    CutFault,
    DelayFault,
    DuplicateFault,
    Fault,
    LossFault,
    WipeFault,
)
from localnet.sim.generator import generate
from localnet.sim.schedule import Liar, Schedule, Traffic
from localnet.sim.twin_plans import generate_twins

VIEWS: Final = 16
"""Of each schedule."""

LONG_VIEWS: Final = 80
"""Of those in which somebody falls far behind, or old records are dropped."""

FIRST_SHARE: Final = 2
"""Of three schedules so many are of the kinds to be tried first, as long as there are any."""


def make_schedule(kind: str, number: int) -> Schedule:
    """The schedule of a kind and a number: always the same one.

    Kinds: `generated`, `twins`, those of `_draw_faults`, `liar:NAME` or `liar:NAME+KIND`, where the
    last adds the faults of a kind, and `liars:NAME` for two of seven.
    """
    if kind == "generated":
        return generate(number, VIEWS)
    if kind == "twins":
        return next(islice(generate_twins(number + 1), number, None))
    if kind.startswith("liar:"):
        name, _, trouble = kind.removeprefix("liar:").partition("+")
        base = make_schedule(trouble or "quiet", number)
        member = (number + 2) % len(base.powers)  # Member 2 leads the first views.
        return replace(base, name=kind, liars=(Liar(member=member, behaviour=name),))
    if kind.startswith("liars:"):
        liar = Liar(member=number % 7, behaviour=kind.removeprefix("liars:"))
        liars = (liar, replace(liar, member=(number + 3) % 7))
        base = make_schedule("losses", number)
        return replace(base, name=kind, powers=(1,) * 7, liars=liars)
    random = Random(f"{kind} {number}")
    faults, views = _draw_faults(kind, number, random)
    return Schedule(
        name=kind,
        seed=number,
        powers=(1, 1, 1, 1),
        views=views,
        traffic=Traffic(interval_ms=30),
        faults=tuple(sorted(faults, key=lambda fault: fault.at_ms)),
    )


def _draw_faults(kind: str, number: int, random: Random) -> tuple[list[Fault], int]:
    """The faults of a kind, and how many views they take."""
    host = random.randrange(4)
    match kind:
        case "quiet":
            return [], VIEWS
        case "long":
            return [], LONG_VIEWS
        case "crashes":
            return [_crash(random) for _ in range(random.randint(3, 8))], VIEWS
        case "losses":
            return [_lose(random) for _ in range(random.randint(3, 8))], VIEWS
        case "duplicates":
            return [_double(random) for _ in range(random.randint(3, 8))], VIEWS
        case "clocks":
            return [_step_clock(random) for _ in range(12)], VIEWS
        case "far_clocks":
            offset_ms = random.choice((20_000, 60_000))
            at_ms = random.randrange(50, 400)
            return [ClockFault(at_ms=at_ms, duration_ms=100, host=host, offset_ms=offset_ms)], VIEWS
        case "hasty_clocks":
            # Steps close after each other: what is said again is said before it is written.
            return [
                ClockFault(at_ms=start_ms + step_ms, host=host, offset_ms=1_000)
                for start_ms in (100, 200, 300, 400)
                for step_ms in range(0, 12, 1)
            ], VIEWS
        case "absence":
            # Of another member than the one that may lie: see `make_schedule`.
            return [CrashFault(at_ms=50, host=(number + 3) % 4)], LONG_VIEWS
        case "deafness":
            # One member has to ask for every block. Another one than may lie, as above.
            deaf = (number + 3) % 4
            cut = CutFault(at_ms=50, duration_ms=1_500, receivers=(deaf,), kinds=("proposal",))
            return [cut], 2 * VIEWS
        case "blackouts":
            # Nobody's proposals arrive, and all die with their timeouts written and not sent.
            blackout = LossFault(at_ms=200, duration_ms=1_500, permille=1_000, kinds=("proposal",))
            return [blackout, *(_die_at(each, random) for each in range(4))], VIEWS
        case "restarts":
            return [
                CrashFault(at_ms=random.randrange(50, 900), duration_ms=10, host=each)
                for each in range(4)
                for _ in range(4)
            ], VIEWS
        case "amnesia":
            at_ms = random.randrange(100, 250)
            return [WipeFault(at_ms=at_ms, duration_ms=20, host=host, is_chain_kept=True)], VIEWS
        case "no_results":
            # Everything is executed, and nobody hears so.
            return [LossFault(at_ms=0, permille=1_000, kinds=("state_vote",))], 2 * LONG_VIEWS
        case "latecomers":
            # Commits what the others did, before it has signed anything.
            return [CrashFault(at_ms=1, host=host)], LONG_VIEWS
        case "delays":
            starts_ms = [random.randrange(400) for _ in range(3)]
            return [
                DelayFault(at_ms=at_ms, duration_ms=600, least_ms=0, most_ms=most_ms)
                for at_ms, most_ms in zip(starts_ms, (150, 400, 800), strict=True)
            ], VIEWS
        case _:
            raise ValueError(f"there is no kind of schedule {kind!r}")


def _lose(random: Random) -> LossFault:
    permille = random.choice((200, 500))
    return LossFault(at_ms=random.randrange(800), duration_ms=400, permille=permille)


def _double(random: Random) -> DuplicateFault:
    at_ms = random.randrange(400)
    return DuplicateFault(at_ms=at_ms, duration_ms=1_000, permille=500, lag_max_ms=300)


def _step_clock(random: Random) -> ClockFault:
    return ClockFault(
        at_ms=random.randrange(600),
        duration_ms=random.choice((20, 100)),
        host=random.randrange(4),
        offset_ms=random.choice((-2_000, -400, 400, 2_000)),
    )


def _die_at(host: int, random: Random) -> CrashAtPersistFault:
    return CrashAtPersistFault(
        at_ms=300 + random.randrange(5),
        duration_ms=400,
        host=host,
        table="timeout",
        is_durable=True,
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
