"""What `NodeCore` is set to, and what it tells of itself."""

from msgspec import Struct

from consensus.checkpoints import CheckpointStatistics
from consensus.config import ConsensusConfig
from consensus.lane_limits import LanesConfig
from consensus.lanes import LaneStatistics
from consensus.statistics import ConsensusStatistics
from mempool.admission import AdmissionConfig
from mempool.batcher import BatcherConfig
from node.delivery import QUEUED_BLOCKS_MAX, QUEUED_LOADED_BLOCKS_MAX
from node.execution import EXECUTION_AHEAD_MAX


class NodeCoreConfig(Struct, frozen=True):
    """The tunables of a node's parts."""

    consensus: ConsensusConfig
    lanes: LanesConfig = LanesConfig()
    admission: AdmissionConfig = AdmissionConfig()
    batcher: BatcherConfig = BatcherConfig()
    snapshot_interval_blocks: int = 1000
    """Order and market state are saved every so many heights; a restart replays the rest."""
    snapshot_interval_ms: int = 60_000
    """And whenever so much time has passed on the chain: a slow chain needs many minutes for those
    heights, and a node that is killed before each save would never come forward."""
    is_following: bool = False
    """Follow the chain, execute and serve it, and sign nothing: for a node without the record of
    what its keys signed. It takes no orders."""
    queued_blocks_max: int = QUEUED_BLOCKS_MAX
    queued_loaded_blocks_max: int = QUEUED_LOADED_BLOCKS_MAX
    execution_ahead_max: int = EXECUTION_AHEAD_MAX


class NodeStatistics(Struct, frozen=True):
    """What an operator wants to know first, and the parts' own statistics."""

    committed_height: int
    delivered_height: int
    executed_height: int
    certified_height: int
    state_root: bytes
    """Of `state_root_height`, this node's own newest checkpoint."""
    state_root_height: int
    pool_envelopes: int
    pool_bytes: int
    queued_blocks: int
    """Committed, and not delivered yet."""
    summaries_held: int
    """Checked batches that are not delivered yet."""
    is_catching_up: bool
    """So far behind its own commits that it takes no part in consensus."""
    is_following: bool
    """It signs nothing."""
    verifying_bytes: int
    """Clients' envelopes whose signatures are being verified."""
    convictions: tuple[tuple[int, str], ...]
    """(member, offence) of everybody who stands convicted."""
    consensus: ConsensusStatistics
    lanes: LaneStatistics
    checkpoints: CheckpointStatistics
