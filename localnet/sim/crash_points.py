"""Every durable write of one node, one after the other, as the moment at which it dies.

A quiet run is repeated once for each write that a node makes in it, and for either side of it:
lost with whatever waits behind it in the same store, or durable with nothing told of it yet. Drawn
crashes meet the common writes again and again, and the rare ones hardly ever.
"""

from collections.abc import Iterator
from typing import Final

from localnet.sim.faults import CrashAtPersistFault
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Schedule, Traffic

DOWN_MS: Final = 100
"""How long the node stays away."""
POWERS: Final = (1, 1, 1, 1)
TRAFFIC_MS: Final = 80


def generate_crash_points(
    seed: int, views: int, powers: tuple[int, ...] | None = None
) -> Iterator[Schedule]:
    """The schedules of all crash points of a seed's quiet run; which node it is depends on the
    seed."""
    chosen = POWERS if powers is None else powers
    host = seed % len(chosen)
    quiet = Schedule(seed=seed, powers=chosen, views=views, traffic=Traffic(interval_ms=TRAFFIC_MS))
    for number in range(count_writes(quiet, host)):
        for is_durable in (False, True):
            fault = CrashAtPersistFault(
                at_ms=0, duration_ms=DOWN_MS, host=host, skip=number, is_durable=is_durable
            )
            side = "after" if is_durable else "before"
            yield Schedule(
                name=f"{side} write {number + 1}",
                seed=seed,
                powers=chosen,
                views=views,
                traffic=quiet.traffic,
                faults=(fault,),
            )


def count_writes(schedule: Schedule, host: int) -> int:
    """Durable writes of a host in the attack of a run: what comes later is written when no trap
    is set any more."""
    return run_schedule(schedule).writes.get(host, 0)
