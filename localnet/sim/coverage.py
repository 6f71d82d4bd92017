"""What a run went through: which rules fired, which faults struck, and whether a lock existed then.

A campaign that never locks, never gives a view up and never syncs shows nothing by passing, so a
run counts what it did by name, and a campaign prints the sums.
"""

from collections import Counter
from typing import Any

from consensus.effects import (
    Aggregate,
    CheckBatch,
    Halt,
    Misbehaviour,
    ServeBatches,
    ServeCommitted,
)
from consensus.messages import (
    Advance,
    BlockRequest,
    CommittedRequest,
    LaneRequest,
    Message,
    Proposal,
    Timeout,
)
from localnet.sim.oracles.watchers import Watcher
from node.events import BlockNotice, CertifiedNotice, OpenBatches, SaveState


class Coverage(Watcher):
    """Counts by name."""

    effects = (
        BlockNotice,
        CertifiedNotice,
        Misbehaviour,
        Halt,
        ServeCommitted,
        ServeBatches,
        SaveState,
        Aggregate,
        CheckBatch,
        OpenBatches,
    )
    messages = (Proposal, Timeout, Advance, BlockRequest, CommittedRequest, LaneRequest)

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.committed_views: dict[int, int] = {}
        """The view of the newest block that each host committed."""
        self._starts: Counter[int] = Counter()

    def on_start(self, index: int) -> None:
        self._starts[index] += 1
        if self._starts[index] > 1:
            self.counts["node.restarted"] += 1

    def on_effect(self, index: int, effect: Any) -> None:
        match effect:
            case BlockNotice(_, block):
                self.counts["block.committed"] += 1
                self.committed_views[index] = block.view
                if block.tc is not None:
                    self.counts["block.after_timeouts"] += 1
                if block.evidence:
                    self.counts["block.with_evidence"] += 1
            case CertifiedNotice():
                self.counts["state.certified"] += 1
            case Misbehaviour(_, code, _):
                self.counts[f"refused.{code}"] += 1
            case Halt(code, _):
                self.counts[f"halted.{code}"] += 1
            case ServeCommitted():
                self.counts["sync.committed_served"] += 1
            case ServeBatches():
                self.counts["sync.batches_served"] += 1
            case SaveState():
                self.counts["engine.saved"] += 1
            case Aggregate():
                self.counts["votes.aggregated"] += 1
            case CheckBatch(body=None):
                self.counts["batch.rechecked"] += 1
            case OpenBatches():
                self.counts["batch.reopened"] += 1
            case _:
                pass

    def on_sent(self, index: int, message: Message) -> None:
        match message:
            case Proposal():
                self.counts["proposal.sent"] += 1
            case Timeout():
                self.counts["timeout.sent"] += 1
            case Advance(tc=tc):
                self.counts["advance.with_qc" if tc is None else "advance.with_tc"] += 1
            case BlockRequest():
                self.counts["sync.block_requested"] += 1
            case CommittedRequest():
                self.counts["sync.committed_requested"] += 1
            case LaneRequest():
                self.counts["sync.lane_requested"] += 1
            case _:
                pass
