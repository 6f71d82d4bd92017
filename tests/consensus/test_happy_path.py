"""Four honest nodes on a good network."""

from consensus.config import ConsensusConfig
from crypto.bls import BLS
from localnet.sim.cluster import Cluster


def test_four_nodes_commit_one_chain() -> None:
    cluster = Cluster(seed=1)
    cluster.start()
    cluster.submit_every(interval_ms=30, until_ms=2_000)
    cluster.run_until_height(40, duration_max_ms=4_000)
    assert all(cluster.core(index).statistics().timeouts_by_timer == 0 for index in range(4))


def test_real_signatures_make_the_same_chain_as_simulated_ones() -> None:
    def run(cluster: Cluster) -> Cluster:
        cluster.start(0, 1, 3)
        cluster.submit_every(interval_ms=40, until_ms=2_000)
        cluster.run_until_height(4, duration_max_ms=20_000, indices=(0, 1, 3))
        return cluster

    # One node is dead, so that timeout certificates are made as well.
    config = ConsensusConfig(base_view_timeout_ms=250)
    real = run(Cluster(seed=6, scheme=BLS, config=config))
    simulated = run(Cluster(seed=6, config=config))
    assert sum(real.core(index).statistics().tcs_formed for index in (0, 1, 3)) > 0
    views = [
        {height: block.view for height, block in cluster.agreement.blocks.items()}
        for cluster in (real, simulated)
    ]
    assert views[0] == views[1]
