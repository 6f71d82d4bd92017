"""Every durable write of a node is a moment at which it dies once, on either side."""

import pytest

from localnet.sim.bounds import WRITES
from localnet.sim.crash_points import (
    ANY_WRITE,
    BaseRun,
    count_writes,
    generate_points,
    make_base_runs,
)
from localnet.sim.faults import CrashAtPersistFault
from localnet.sim.scenario import run_schedule

EVERY = 7
"""Of the crash points, so many to one that is run here; a campaign runs them all."""


def test_a_node_may_die_at_each_of_its_writes() -> None:
    quiet, *_ = make_base_runs(1, views=8)
    points = list(generate_points(quiet))
    faults = [each.faults[0] for each in points]
    assert all(isinstance(each, CrashAtPersistFault) and each.host == 1 for each in faults)
    writes = {(each.skip, each.is_durable) for each in faults}
    assert writes == {
        (number, side) for number in range(len(points) // 2) for side in (False, True)
    }
    assert len(points) > 100
    for point in points[::EVERY]:
        outcome = run_schedule(point)
        assert outcome.violation is None, point.name
        assert outcome.coverage["fault.crash_at_persist"] == 1, point.name


@pytest.mark.parametrize("base", make_base_runs(1, views=8)[1:], ids=lambda base: base.write)
def test_a_node_may_die_at_what_it_writes_seldom(base: BaseRun) -> None:
    points = list(generate_points(base))
    assert points, "its base run comes to such a write"
    for point in points:
        outcome = run_schedule(point)
        assert outcome.violation is None, point.name
        assert outcome.coverage["fault.crash_at_persist"] == 1, point.name


def test_every_kind_of_write_is_a_crash_point_of_some_base_run() -> None:
    quiet, *troubled = make_base_runs(1, views=30)
    assert quiet.write == ANY_WRITE
    assert quiet.points_max is None
    met = set(count_writes(quiet.schedule, quiet.host)) - {ANY_WRITE}
    # The quiet run may meet some of them as well, which hangs on what its traders draw.
    assert met | {base.write for base in troubled} == WRITES
    for base in troubled:
        assert count_writes(base.schedule, base.host)[base.write], base.write


def test_the_writes_of_the_attack_are_counted_and_no_others() -> None:
    quiet, *_ = make_base_runs(2, views=3)
    last = list(generate_points(quiet))[-1]
    assert last.name.startswith("after write ")
    assert run_schedule(last).coverage["fault.crash_at_persist"] == 1
    fault = last.faults[0]
    assert isinstance(fault, CrashAtPersistFault)
    assert count_writes(last, 2)[ANY_WRITE] >= fault.skip
