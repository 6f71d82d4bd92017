"""The settings of the consensus core.

Those marked *chain-wide* decide which blocks are valid, so every member must have the same value;
the others shape one node's own pace and may differ.
"""

from typing import Annotated

from msgspec import Meta, Struct

Milliseconds = Annotated[int, Meta(ge=1, le=600_000)]


class ConsensusConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Plain numbers; the defaults suit a committee on one machine or in one region."""

    leader_seed: bytes = b""
    """Chain-wide: seeds the leader schedule of the epoch."""
    min_block_interval_ms: Milliseconds = 20
    """Pause between a parent's time and its child while there is work."""
    completion_interval_ms: Milliseconds = 5
    """The same pause before a block that orders nothing new and only completes the commit of its
    ancestors: it costs little, and somebody waits for it."""
    idle_interval_ms: Milliseconds = 200
    """The same pause while there is none; below the base view timeout."""
    base_view_timeout_ms: Milliseconds = 1_000
    """Time that a view has before its members give it up, without backoff."""
    straggler_wait_ms: Annotated[int, Meta(ge=0, le=1_000)] = 1
    """How long a vote quorum waits for the remaining votes, so that participation shows."""
    next_leader_wait_ms: Annotated[int, Meta(ge=0, le=1_000)] = 15
    """How long the next leader leaves it to the current one to turn a quorum of votes into a QC;
    two of them would cost every member a second verification."""
    clock_drift_ms: Milliseconds = 500
    """A fresh block further than this ahead of the local clock is voted for later."""
    block_age_max_ms: Milliseconds = 10_000
    """A fresh block further than this behind the local clock is not voted for."""
    execution_lag_max_blocks: Annotated[int, Meta(ge=3, le=100_000)] = 64
    """Chain-wide: a block this far above the newest state certificate in its ancestry (its own
    included) carries no lanes."""
    sync_retry_ms: Milliseconds = 500
    """Wait for an answer to a block request before another member is asked."""

    def __post_init__(self) -> None:
        """Refuse a pace at which an idle chain would time out."""
        if self.idle_interval_ms >= self.base_view_timeout_ms:
            raise ValueError("idle_interval_ms must be below base_view_timeout_ms")
