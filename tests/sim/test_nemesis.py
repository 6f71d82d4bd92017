"""What the nemesis does with hosts that refuse to start."""

import pytest

from consensus.effects import Store
from localnet.sim.faults import CrashFault, Fault, Nemesis, WipeFault
from localnet.sim.nodes import NodeCluster

CRASH = CrashFault(at_ms=600, duration_ms=200, host=2)
WIPE_NEVER = WipeFault(at_ms=60_000, host=2)


def run_without_records(*faults: Fault) -> Nemesis:
    """Host 2 dies, and starts again with an archive that remembers more than its safety records."""
    cluster = NodeCluster(1, guilty=(2,))
    nemesis = Nemesis(cluster.world, faults)
    cluster.start()
    cluster.trade(40, 2_000)
    cluster.world.after(700, cluster.world.disk(2).stores[Store.SAFETY].clear)
    cluster.run(1_500)
    return nemesis


def test_a_host_that_lost_its_safety_records_alone_stays_down_for_good() -> None:
    nemesis = run_without_records(CRASH, WIPE_NEVER)
    assert nemesis.dead == {2}
    nemesis.heal()
    assert nemesis.dead == {2}


def test_a_host_that_refuses_to_start_though_no_fault_touched_its_memory_is_found() -> None:
    with pytest.raises(AssertionError, match="lost nothing"):
        run_without_records(CRASH)
