"""What the consensus core reports of itself."""

from msgspec import Struct


class ConsensusStatistics(Struct, frozen=True):
    """A snapshot for operators and tests."""

    view: int
    leader: int
    """Of this view."""
    high_qc_view: int
    high_tc_view: int
    last_voted_view: int
    """No vote at or below it any more; timeouts raise it, too."""
    committed_height: int
    tree_blocks: int
    """Connected blocks above the committed one."""
    orphan_blocks: int
    pending_messages: int
    """Messages that wait for the verdict on their signatures."""
    pending_votes: int
    pending_timeouts: int
    sync_targets: int
    sync_requests: int
    banned_members: int
    votes_signed: int
    timeouts_by_timer: int
    timeouts_by_amplification: int
    proposals_signed: int
    qcs_formed: int
    tcs_formed: int
    messages_refused: int
    """Because they broke a rule."""
    messages_dropped: int
    """Because too many of the same peer waited for the verdict on their signatures."""


class Counts:
    """What `ConsensusStatistics` counts."""

    def __init__(self) -> None:
        self.votes_signed = 0
        self.timeouts_by_timer = 0
        self.timeouts_by_amplification = 0
        self.proposals_signed = 0
        self.qcs_formed = 0
        self.tcs_formed = 0
        self.messages_dropped = 0
