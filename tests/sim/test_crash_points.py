"""Every durable write of a node is a moment at which it dies once, on either side."""

from localnet.sim.crash_points import count_writes, generate_crash_points
from localnet.sim.faults import CrashAtPersistFault
from localnet.sim.scenario import run_schedule

EVERY = 7
"""Of the crash points, so many to one that is run here; a campaign runs them all."""


def test_a_node_may_die_at_each_of_its_writes() -> None:
    points = list(generate_crash_points(1, views=8))
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


def test_the_writes_of_the_attack_are_counted_and_no_others() -> None:
    last = list(generate_crash_points(2, views=3))[-1]
    assert last.name.startswith("after write ")
    assert run_schedule(last).coverage["fault.crash_at_persist"] == 1
    fault = last.faults[0]
    assert isinstance(fault, CrashAtPersistFault)
    assert count_writes(last, 2) >= fault.skip
