"""Cuts a failing schedule down to what its failure needs.

Delta debugging (Zeller and Hildebrandt 2002) over everything that a schedule lists: faults, twin
links and liars. Then fewer views, members, twins, less power, a plainer network and less traffic.
A smaller schedule counts only if the same oracle fails on it in the same phase and in the
same words but for their numbers, and if no more and no less may be asked of it: it stays within f,
or beyond.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from localnet.sim.interrupts import Interruption
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import (
    Disks,
    Network,
    Schedule,
    ScheduleError,
    Traffic,
    encode_schedule,
    validate_schedule,
)
from localnet.sim.violation import Violation

T = TypeVar("T")

RUNS_MAX: Final = 500
"""Runs that one shrinking may take; what it has by then is its result."""

MEMBERS_MIN: Final = 4

_VARIABLE: Final = re.compile(r"b'[^']*'|b\"[^\"]*\"|\b(?=[0-9a-f]*\d)[0-9a-f]{6,}\b|\d+")
"""Bytes, digests in hex, and numbers."""
TRAFFIC_SPARSEST_MS: Final = 1_000


class NothingToShrinkError(ValueError):
    """The schedule breaks no rule."""


class InterruptedEarlyError(Exception):
    """A signal came before the first run ended: nothing is known to fail."""


Item = tuple[str, Any]
"""Something that a schedule lists: the field's name, and the entry."""


@dataclass
class Shrunk:
    """A smaller schedule, and what fails on it."""

    schedule: Schedule
    violation: Violation
    runs: int = 0
    is_complete: bool = True
    """False if `runs_max` or a signal ended it before nothing more could be left out."""


@dataclass
class _Shrinker:
    found: tuple[Schedule, Violation]
    """The best so far and what fails on it: one value, since a signal may come at any moment."""
    runs_max: int
    on_progress: Callable[[Schedule, int], Any]
    runs: int = 1
    _tried: dict[bytes, bool] = field(default_factory=dict)

    @property
    def best(self) -> Schedule:
        return self.found[0]

    @property
    def is_spent(self) -> bool:
        return self.runs >= self.runs_max

    def run(self) -> None:
        """Leave out and simplify until nothing helps any more."""
        while not self.is_spent:
            before = self.best
            _shrink_items(self)
            _shrink_rest(self)
            if self.best == before:
                break

    def accept(self, candidate: Schedule) -> bool:
        """Does the same fail on it? Then it is the best so far."""
        key = encode_schedule(candidate)
        if self.is_spent or key in self._tried:
            return False
        self._tried[key] = False
        try:
            validate_schedule(candidate)
        except ScheduleError:
            return False
        if candidate.is_within_f() != self.best.is_within_f():
            return False
        self.runs += 1
        violation = run_schedule(candidate).violation
        if violation is None or name_failure(violation) != name_failure(self.found[1]):
            return False
        self.found = candidate, violation
        self.on_progress(candidate, self.runs)
        return True


def name_failure(violation: Violation) -> tuple[str, str, str]:
    """What two violations have in common that are one. Numbers and digests differ, and so does how
    many nodes there are of which the same is said."""
    words = dict.fromkeys(_VARIABLE.sub("", violation.detail).split("; "))
    return violation.oracle, violation.phase, "; ".join(words)


def shrink(
    schedule: Schedule,
    runs_max: int = RUNS_MAX,
    on_progress: Callable[[Schedule, int], Any] = lambda schedule, runs: None,
    interruption: Interruption | None = None,
) -> Shrunk:
    """The smallest schedule that can be found from this one, or until it is interrupted;
    `on_progress` hears of each smaller one and of how many runs it took. Raises
    `NothingToShrinkError`, `ScheduleError` and `InterruptedEarlyError`."""
    interruption = Interruption() if interruption is None else interruption
    first: list[Violation | None] = []
    if not interruption.attempt(lambda: first.append(run_schedule(schedule).violation)):
        raise InterruptedEarlyError("interrupted before the schedule was run once")
    (violation,) = first
    if violation is None:
        raise NothingToShrinkError("the schedule breaks no rule")
    shrinker = _Shrinker((schedule, violation), runs_max, on_progress)
    is_done = interruption.attempt(shrinker.run)
    return Shrunk(*shrinker.found, shrinker.runs, is_done and not shrinker.is_spent)


# ---- lists ------------------------------------------------------------------------------------


def _list_items(schedule: Schedule) -> list[Item]:
    names = ("faults", "twin_links", "liars")
    return [(name, entry) for name in names for entry in getattr(schedule, name)]


def _keep_items(schedule: Schedule, items: Sequence[Item]) -> Schedule:
    def pick(name: str) -> tuple[Any, ...]:
        return tuple(entry for owner, entry in items if owner == name)

    return replace(
        schedule, faults=pick("faults"), twin_links=pick("twin_links"), liars=pick("liars")
    )


def _shrink_items(shrinker: _Shrinker) -> None:
    """Leave out ever smaller pieces, as long as anything can be left out."""
    items = _list_items(shrinker.best)
    if shrinker.accept(_keep_items(shrinker.best, ())):
        return
    pieces = 2
    while items and not shrinker.is_spent:
        for rest in leave_one_out(items, pieces):
            if shrinker.accept(_keep_items(shrinker.best, rest)):
                items, pieces = rest, max(pieces - 1, 2)
                break
        else:
            if pieces >= len(items):
                return
            pieces = min(2 * pieces, len(items))


def leave_one_out(items: list[T], pieces: int) -> Iterator[list[T]]:
    """The halves first, since a half may be enough; then all but one of the pieces."""
    bounds = [len(items) * number // pieces for number in range(pieces + 1)]
    for start, end in pairwise(bounds):
        yield items[:start] + items[end:]


# ---- everything else --------------------------------------------------------------------------


def _shrink_rest(shrinker: _Shrinker) -> None:
    """Simplify one thing after the other, each as far as it goes. Views come last: with hardly
    enough of them nothing else could be left out that slows a run down."""
    for simplify in (_no_twins, _fewer_members, _plain_network, _less_traffic, _fewer_views):
        _simplify(shrinker, simplify)


def _simplify(shrinker: _Shrinker, simplify: Callable[[Schedule], Iterator[Schedule]]) -> None:
    is_smaller = True
    while is_smaller and not shrinker.is_spent:
        is_smaller = any(shrinker.accept(each) for each in simplify(shrinker.best))


def _fewer_views(schedule: Schedule) -> Iterator[Schedule]:
    views = schedule.views
    for fewer in (1, views // 8, views // 4, views // 2, views * 3 // 4, views - 1):
        if 0 < fewer < views:
            yield replace(schedule, views=fewer)


def _no_twins(schedule: Schedule) -> Iterator[Schedule]:
    if schedule.twins:
        yield replace(schedule, twins=(), twin_links=())


def _fewer_members(schedule: Schedule) -> Iterator[Schedule]:
    """Those with the highest numbers go; a schedule that names them then is not valid."""
    powers = schedule.powers
    if not schedule.twins:
        for count in range(MEMBERS_MIN, len(powers)):
            yield replace(schedule, powers=powers[:count])
    if set(powers) != {1}:
        yield replace(schedule, powers=(1,) * len(powers))


def _plain_network(schedule: Schedule) -> Iterator[Schedule]:
    """Disks of the usual pace, and a network that loses and doubles nothing."""
    network, plain = schedule.network, Network()
    if schedule.disks != Disks():
        yield replace(schedule, disks=Disks())
    if network == plain:
        return
    yield replace(schedule, network=plain)
    if network.drop_permille:
        yield replace(schedule, network=replace(network, drop_permille=0))
    if network.duplicate_permille:
        yield replace(schedule, network=replace(network, duplicate_permille=0))


def _less_traffic(schedule: Schedule) -> Iterator[Schedule]:
    if schedule.traffic is None:
        return
    yield replace(schedule, traffic=None)
    if schedule.traffic.interval_ms < TRAFFIC_SPARSEST_MS:
        sparser = min(schedule.traffic.interval_ms * 4, TRAFFIC_SPARSEST_MS)
        yield replace(schedule, traffic=Traffic(interval_ms=sparser))
