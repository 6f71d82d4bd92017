"""Who watches the run of a schedule."""

from typing import Final

from consensus.messages import Message
from localnet.byzantine import LyingNode
from localnet.byzantine.malformed import Malformed
from localnet.sim.faults import amnesiacs
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.ancestry import Ancestry
from localnet.sim.oracles.bounds import MemoryBounds
from localnet.sim.oracles.certificates import Certificates
from localnet.sim.oracles.forms import Forms, SignedProposals
from localnet.sim.oracles.joining import Joining
from localnet.sim.oracles.restarts import Restarts
from localnet.sim.oracles.rulebook import Finality, LaneRules, SigningRules
from localnet.sim.oracles.signing import SignatureRequests
from localnet.sim.oracles.wire import Wire
from localnet.sim.schedule import Schedule

WIRE_EVERY: Final = 10
"""Of seeds, so many to one in whose run messages are encoded and decoded as on real connections."""


def watch(cluster: NodeCluster, schedule: Schedule) -> tuple[MemoryBounds, Joining]:
    """Add whatever oracle watches a run besides those that every committee has: those that know the
    protocol's rules by heart, those that know the schedule, and those that know the liars. Returns
    the two that a run asks at its end."""
    chain_id, judge, exempt = cluster.chain_id, cluster.judge, cluster.exempt
    speakers = [cluster.member_of(host) for host in cluster.hosts]
    config = cluster.config.consensus
    clock_ms = (config.clock_drift_ms, config.block_age_max_ms)
    cluster.world.observers += [
        Certificates(judge, exempt),
        SigningRules(cluster.world, judge, chain_id, *clock_ms, exempt),
        LaneRules(cluster.world, chain_id, exempt),
        SignatureRequests(chain_id, exempt=exempt),
        Ancestry(judge, chain_id, config.execution_lag_max_blocks, cluster.genesis.time_ms, exempt),
        Finality(judge, chain_id, speakers, schedule.byzantine(), exempt),
        Restarts(cluster.world, exempt),
    ]
    if cluster.guilty:
        cluster.world.observers.append(SignedProposals(cluster.guilty, exempt, judge))
    _watch_forms(cluster)
    if schedule.seed % WIRE_EVERY == 0:
        watch_wire(cluster)
    joining = Joining(cluster, amnesiacs(schedule.faults))
    cluster.world.observers.append(joining)
    return MemoryBounds(cluster), joining


def _watch_forms(cluster: NodeCluster) -> None:
    """Whoever breaks rules of form is refused under each of them."""

    def find_fault(member: int, message: Message) -> str | None:
        node = cluster.world.hosts[member].machine
        behaviour = node.behaviour if isinstance(node, LyingNode) else None
        return behaviour.faults.get(message) if isinstance(behaviour, Malformed) else None

    members = [member for member, kind in cluster.liars.items() if issubclass(kind, Malformed)]
    if members:
        cluster.world.observers.append(
            Forms(members, cluster.exempt, cluster.find_view, find_fault)
        )


def watch_wire(cluster: NodeCluster) -> None:
    """Ask of all that honest nodes say whether it can be said on a real connection."""
    cluster.world.observers.append(Wire(cluster.exempt))
