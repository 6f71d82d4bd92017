"""What decoders are tried on: one small cluster that has run, with its keys, disks and engines."""

from functools import lru_cache
from typing import Final, NamedTuple

from committee.schedule import LeaderSchedule
from consensus.certificates import CertificateCache
from consensus.types import make_genesis_qc
from consensus.validation import Validator
from crypto.mock import derive_test_secret
from engine.snapshots.whole import snapshot
from localnet.sim.nodes import NodeCluster
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Schedule

SCHEDULE: Final = Schedule(seed=5, views=40)
AUTHOR_SECRET: Final = derive_test_secret("author of batches")


class Ground(NamedTuple):
    """See the module docstring."""

    cluster: NodeCluster
    state: bytes
    """A snapshot of the engine's state."""
    author_key: bytes
    """Whose batches are checked."""


@lru_cache(maxsize=1)
def prepare_ground() -> Ground:
    """The same one every time."""
    clusters: list[NodeCluster] = []
    outcome = run_schedule(SCHEDULE, clusters.append)
    assert outcome.violation is None, f"no ground to stand on: {outcome.violation}"
    cluster = clusters[0]
    author_key = cluster.identity.public_key(AUTHOR_SECRET)
    return Ground(cluster, snapshot(cluster.world.engines[0].state), author_key)


def make_validator() -> Validator:
    """The stateless checks of the ground's epoch, with nothing verified before."""
    cluster = prepare_ground().cluster
    committee = cluster.keys.committee
    leaders = LeaderSchedule(committee, cluster.config.consensus.leader_seed)
    genesis = make_genesis_qc(cluster.chain_id, committee)
    return Validator(cluster.chain_id, committee, leaders, genesis, CertificateCache())
