"""Nothing that grows with messages grows beyond its named bound, whatever is sent."""

from typing import Final

from consensus.accuser import SUSPICIONS_MAX_PER_MEMBER
from consensus.block_tree import ORPHANS_MAX, TREE_BLOCKS_MAX
from consensus.checkpoints import CERTIFIED_HEADERS_MAX, OWN_HEADERS_MAX, VOTE_WINDOW_HEIGHTS
from consensus.intake import PENDING_MAX_PER_PEER
from consensus.lane_limits import (
    ACKS_PENDING_MAX_PER_MEMBER,
    FAILED_BATCHES_MAX_PER_LANE,
    RECHECKS_PENDING_MAX,
)
from consensus.state_signer import VOTES_RESENT_MAX
from consensus.sync import REQUESTS_IN_FLIGHT_MAX, TARGETS_MAX
from consensus.votes import VIEW_AHEAD_MAX, VIEW_BEHIND_MAX
from localnet.sim.nodes import NodeCluster
from localnet.sim.violation import BrokenRuleError
from localnet.verdicts import Verdict
from node.core import NodeCore
from node.core_config import NodeCoreConfig

CHECK_INTERVAL_MS: Final = 100
"""Of virtual time, between two looks at all nodes."""


class BoundExceededError(BrokenRuleError):
    """Something holds more than it may."""

    oracle = "MemoryBounds"
    verdict = Verdict.SAFETY


class MemoryBounds:
    """Looks at every honest node's statistics at regular times. Takes no part in the run: it draws
    no random number and tells nobody anything."""

    def __init__(self, cluster: NodeCluster) -> None:
        self._cluster = cluster
        self.bounds = compute_bounds(cluster.config, len(cluster.members))
        self.highest: dict[str, int] = {}
        """The most that any node ever held, by name."""
        cluster.world.after(CHECK_INTERVAL_MS, self._look)

    def _look(self) -> None:
        self.check()
        self._cluster.world.after(CHECK_INTERVAL_MS, self._look)

    def check(self) -> None:
        """Compare everything with its bound now. Raises `BoundExceededError`."""
        for index in self._cluster.running():
            for name, size in measure(self._cluster.core(index)).items():
                if size > self.highest.get(name, 0):
                    self.highest[name] = size
                if size > self.bounds[name]:
                    bound = self.bounds[name]
                    raise BoundExceededError(f"node {index} holds {size} {name}, bound {bound}")


def compute_bounds(config: NodeCoreConfig, members: int) -> dict[str, int]:
    """What a node of such a committee may hold of each thing."""
    lanes = config.lanes
    return {
        "tree_blocks": TREE_BLOCKS_MAX,
        "orphan_blocks": ORPHANS_MAX,
        "pending_messages": (PENDING_MAX_PER_PEER + SUSPICIONS_MAX_PER_MEMBER) * members,
        "pending_votes": (VIEW_BEHIND_MAX + VIEW_AHEAD_MAX + 1) * members,
        "pending_timeouts": members,
        "sync_targets": TARGETS_MAX,
        "sync_requests": REQUESTS_IN_FLIGHT_MAX,
        "banned_members": members,
        # Above the cursors each author has its room; certificates may name a little more.
        "links": lanes.links_retained_max + 2 * members * lanes.uncommitted_batches_max,
        "checks_pending": members * lanes.checks_pending_max_per_author + RECHECKS_PENDING_MAX,
        "fetches": 2 * lanes.fetches_in_flight_max,
        "failed_copies": members * FAILED_BATCHES_MAX_PER_LANE,
        "acks_pending": members * ACKS_PENDING_MAX_PER_MEMBER,
        # One under verification and one behind it for each sender and lane: from each author, and
        # for the own lane from everybody.
        "certificates_pending": 4 * members,
        "blocks_owed": config.queued_blocks_max,
        "queued_blocks": config.queued_blocks_max,
        "summaries_held": 2 * members * lanes.uncommitted_batches_max,
        "pool_envelopes": config.admission.pool_count,
        "pool_bytes": config.admission.pool_size_bytes,
        "state_votes": (2 * VOTE_WINDOW_HEIGHTS + 1) * members,
        "state_votes_repeated": VOTES_RESENT_MAX,
        "own_headers": OWN_HEADERS_MAX,
        "certified_headers": CERTIFIED_HEADERS_MAX,
    }


def measure(core: NodeCore) -> dict[str, int]:
    """How much a node holds of each bounded thing."""
    node = core.statistics()
    consensus, lanes, checkpoints = node.consensus, node.lanes, node.checkpoints
    return {
        "tree_blocks": consensus.tree_blocks,
        "orphan_blocks": consensus.orphan_blocks,
        "pending_messages": consensus.pending_messages,
        "pending_votes": consensus.pending_votes,
        "pending_timeouts": consensus.pending_timeouts,
        "sync_targets": consensus.sync_targets,
        "sync_requests": consensus.sync_requests,
        "banned_members": consensus.banned_members,
        "links": lanes.links,
        "checks_pending": lanes.checks_pending,
        "fetches": lanes.fetches,
        "failed_copies": lanes.failed_copies,
        "acks_pending": lanes.acks_pending,
        "certificates_pending": lanes.certificates_pending,
        "blocks_owed": lanes.blocks_owed,
        "queued_blocks": node.queued_blocks,
        "summaries_held": node.summaries_held,
        "pool_envelopes": node.pool_envelopes,
        "pool_bytes": node.pool_bytes,
        "state_votes": checkpoints.votes,
        "state_votes_repeated": checkpoints.votes_repeated,
        "own_headers": checkpoints.own_headers,
        "certified_headers": checkpoints.certified_headers,
    }
