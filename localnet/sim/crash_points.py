"""Every durable write of one node, one after the other, as the moment at which it dies.

A quiet run is repeated once for each write that a node makes in it, and for either side of it:
lost with whatever waits behind it in the same store, or durable with nothing told of it yet. Drawn
crashes meet the common writes again and again, and the rare ones hardly ever.

What is written only in trouble, or late, has base runs of its own, in which the node dies at the
first few of those writes alone.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from consensus.safety import TIMEOUT_TABLE
from localnet.sim.bounds import DROP_WRITE, DROPPING_VIEWS
from localnet.sim.faults import CrashAtPersistFault, name_write
from localnet.sim.network import CrashPoint
from localnet.sim.nodes import NodeCluster
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Liar, Schedule, Traffic
from node.offences import EVIDENCE_TABLE
from node.recovery import REFUSED_TABLE

DOWN_MS: Final = 100
"""How long the node stays away."""
POWERS: Final = (1, 1, 1, 1)
TRAFFIC_MS: Final = 80
CROWD_MS: Final = 20
"""From one order to the next where some shall wait until they have expired."""
TROUBLED_VIEWS: Final = 30
"""At least so many in a base run with trouble: it shows by then."""
RARE_WRITES_MAX: Final = 3
"""Crash points of one rare kind, for either side."""

ANY_WRITE: Final = ""
"""As the name of a kind of write (`localnet.sim.bounds.WRITES`): whatever it is."""


class BaseRun(NamedTuple):
    """A run without a crash, and at what its node is to die in it."""

    schedule: Schedule
    host: int
    write: str
    """The kind of write, or `ANY_WRITE`."""
    points_max: int | None = None
    """So many of them at most; None for all."""


def make_base_runs(
    seed: int, views: int, powers: tuple[int, ...] | None = None
) -> tuple[BaseRun, ...]:
    """A seed's quiet run, and one for each kind of write that is rare; which node dies depends on
    the seed."""
    chosen = POWERS if powers is None else powers
    host = seed % len(chosen)
    other = (host + 1) % len(chosen)
    quiet = Schedule(seed=seed, powers=chosen, views=views, traffic=Traffic(interval_ms=TRAFFIC_MS))
    troubled = replace(quiet, views=max(views, TROUBLED_VIEWS))
    silent = replace(troubled, liars=(Liar(member=other, behaviour="silent"),))
    double = replace(troubled, liars=(Liar(member=other, behaviour="double_vote"),))
    crowded = replace(troubled, traffic=Traffic(interval_ms=CROWD_MS))
    long = replace(quiet, views=max(views, DROPPING_VIEWS))
    return (
        BaseRun(quiet, host, ANY_WRITE),
        BaseRun(silent, host, TIMEOUT_TABLE, RARE_WRITES_MAX),
        BaseRun(double, host, EVIDENCE_TABLE, RARE_WRITES_MAX),
        BaseRun(crowded, host, REFUSED_TABLE, RARE_WRITES_MAX),
        BaseRun(long, host, DROP_WRITE, RARE_WRITES_MAX),
    )


def generate_crash_points(
    seed: int, views: int, powers: tuple[int, ...] | None = None
) -> Iterator[Schedule]:
    """The schedules of all crash points of a seed's base runs."""
    for base in make_base_runs(seed, views, powers):
        yield from generate_points(base)


def generate_points(base: BaseRun) -> Iterator[Schedule]:
    """The schedules of all crash points of one base run."""
    written = count_writes(base.schedule, base.host)[base.write]
    for number in range(written if base.points_max is None else min(written, base.points_max)):
        for is_durable in (False, True):
            fault = CrashAtPersistFault(
                at_ms=0,
                duration_ms=DOWN_MS,
                host=base.host,
                table=base.write,
                skip=number,
                is_durable=is_durable,
            )
            side = "after" if is_durable else "before"
            name = f"{side} {base.write or 'write'} {number + 1}"
            yield replace(base.schedule, name=name, faults=(fault,))


def count_writes(schedule: Schedule, host: int) -> Counter[str]:
    """Durable writes of a host in the attack of a run, by kind and in all (`ANY_WRITE`): what comes
    later is written when no trap is set any more."""
    counts: Counter[str] = Counter()

    def listen(cluster: NodeCluster) -> None:
        crash_at = cluster.world.crash_at

        def note(index: int, write: Any) -> CrashPoint | None:
            if index == host:
                counts.update((ANY_WRITE, *name_write(write)))
            return crash_at(index, write)

        cluster.world.crash_at = note

    run_schedule(schedule, listen)
    return counts
