"""A timeout that is sent again waits for its record, as it did when it was sent first.

A view's timer fires again while the view lasts, and the timeout is broadcast again. Where writing
the record takes longer than that, or the clock is set forward meanwhile, the second broadcast left
before the record was durable: a crash then forgot a timeout that others had heard.
"""

from localnet.sim.node_world import NodeConditions
from localnet.sim.nodes import NodeCluster


def test_no_timeout_leaves_a_slow_disk_before_its_record() -> None:
    cluster = NodeCluster(1, conditions=NodeConditions(persist_ms=(700, 900)))
    cluster.start()
    # The oracle `SignedOnce` asserts that whatever leaves is durable.
    cluster.run(6_000)
    assert cluster.core(0).statistics().consensus.timeouts_by_timer > 0
