"""Four honest nodes on a good network."""

from localnet.sim.cluster import Cluster


def test_four_nodes_commit_one_chain() -> None:
    cluster = Cluster(seed=1)
    cluster.start()
    cluster.submit_every(interval_ms=30, until_ms=2_000)
    cluster.run_until_height(40, duration_max_ms=4_000)
    assert all(cluster.core(index).statistics().timeouts_by_timer == 0 for index in range(4))
