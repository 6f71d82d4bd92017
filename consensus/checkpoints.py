"""State certificates: a quorum signs the result of executing the chain to a height.

The protocol
============

1. Execution trails the order. When it reaches a checkpoint height (`is_checkpoint`), the node
   writes the checkpoint header to its safety store, signs it and broadcasts the vote. The write
   comes first and is write-once, so that no crash makes a node sign two results for one height.
2. Votes of one height are grouped by header. A group of quorum power Q is aggregated into a state
   certificate; a member whose signature turns out wrong is not heard again.
3. The newest certificate is kept for the next block. Blocks bring certificates to whoever missed
   the votes. Until a certificate at or above a height is known, the vote for it is repeated.

What can go wrong
=================

- A verified certificate contradicts the node's own result: the node halts (`state.diverged`),
  since it cannot know which of its answers are wrong. A bare vote never halts anybody.
- Re-execution after a restart gives another result than the one that was recorded: the node halts
  (`state.nondeterministic`) and never signs the second.
- The votes of a height are split so that no header can reach Q any more: an `Alarm`
  (`state.split`), once a height; ordering goes on, and a later height may heal it or the lag limit
  stops new orders.
- A member signs two headers for one height: evidence (`DoubleStateVote`), once a member.

The parts: `state_signer` records, signs and repeats the own votes; `state_votes` collects and
aggregates everybody's; here both meet, and certificates are compared with the own results.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from committee.committee import Committee
from consensus.effects import (
    Aggregated,
    Effect,
    Event,
    Halt,
    Misbehaviour,
    Received,
    Signed,
    StateCertified,
    TimerFired,
    Verified,
)
from consensus.messages import StateVote
from consensus.ownership import Component, Tokens
from consensus.state_signer import RESEND_TIMER, StateVoteSigner
from consensus.state_votes import StateVoteCollector
from consensus.types import Block, CheckpointHeader, StateCertificate

CHECKPOINT_INTERVAL: Final = 16
"""Blocks without batches are certified at multiples of this height only."""

VOTE_WINDOW_HEIGHTS: Final = 256
"""Votes are collected this many heights to either side of the newest certificate or own result,
whichever is higher. Whoever lags further behind learns certificates from blocks."""

OWN_HEADERS_MAX: Final = 1024
"""Own results kept for comparison with later certificates; the lowest is forgotten first."""

CERTIFIED_HEADERS_MAX: Final = 1024
"""Certified headers above the own execution kept for comparison; when full, none is added. Results
build on each other, so a divergence shows at every later height as well."""


def is_checkpoint(block: Block) -> bool:
    """Is the result of this block to be certified? It ordered something, or its height is due."""
    return bool(block.lanes) or block.height % CHECKPOINT_INTERVAL == 0


class RecoveredCheckpoints(NamedTuple):
    """What a node knew before it was restarted."""

    votes: Mapping[int, CheckpointHeader]
    """The `state_vote` table."""
    certificate: StateCertificate | None
    """The newest one in the archive, verified when it was archived."""


NO_CHECKPOINTS: Final = RecoveredCheckpoints({}, None)


class CheckpointStatistics(NamedTuple):
    """Sizes of everything that grows with messages or results."""

    votes: int
    votes_repeated: int
    own_headers: int
    certified_headers: int


class Checkpoints:
    """State votes and certificates of one epoch. Pure: results of slow work come as events."""

    def __init__(
        self,
        chain_id: bytes,
        committee: Committee,
        me: int,
        recovered: RecoveredCheckpoints = NO_CHECKPOINTS,
        *,
        is_signing: bool = True,
    ) -> None:
        """A node that is not signing compares its results with what others certify."""
        self._is_signing = is_signing
        self._committee = committee
        self._newest = recovered.certificate
        self._own = dict(recovered.votes)
        self._highest_own = max(self._own, default=0)
        self._certified: dict[int, CheckpointHeader] = {}
        tokens = Tokens(Component.CHECKPOINTS)
        self._signer = StateVoteSigner(chain_id, me, tuple(range(len(committee))), tokens)
        self._votes = StateVoteCollector(chain_id, committee, tokens)
        self._is_halted = False

    # ---- what the composition asks ------------------------------------------------------------

    def newest(self) -> StateCertificate | None:
        """The newest verified state certificate."""
        return self._newest

    def statistics(self) -> CheckpointStatistics:
        """Current sizes, for tests of the bounds."""
        return CheckpointStatistics(
            votes=len(self._votes),
            votes_repeated=len(self._signer),
            own_headers=len(self._own),
            certified_headers=len(self._certified),
        )

    # ---- what the composition tells -----------------------------------------------------------

    def start(self, now_ms: int) -> list[Effect]:
        """Repeat recorded votes that no certificate covers; execution need not come by again."""
        certified_height = self._certified_height()
        uncovered = (header for height, header in self._own.items() if height > certified_height)
        return self._signer.resume(uncovered)

    def on_executed(self, now_ms: int, header: CheckpointHeader) -> list[Effect]:
        """This node executed the chain to a checkpoint height, with this result."""
        assert header.epoch == self._committee.epoch
        if self._is_halted:
            return []
        recorded = self._own.get(header.height)
        if recorded is not None:
            if recorded != header:
                return self._halt("state.nondeterministic", recorded, header)
            return []
        certified = self._find_certified(header.height)
        if certified is not None and certified != header:
            return self._halt("state.diverged", certified, header)
        self._own[header.height] = header
        self._highest_own = max(self._highest_own, header.height)
        if len(self._own) > OWN_HEADERS_MAX:
            del self._own[min(self._own)]
        for height in [each for each in self._certified if each <= header.height]:
            del self._certified[height]
        self._votes.drop_outside(self._window())
        certified_height = self._certified_height()
        if header.height <= certified_height or not self._is_signing:
            return []
        return self._signer.vote(header, certified_height)

    def on_block_certificate(self, now_ms: int, certificate: StateCertificate) -> list[Effect]:
        """A block carried this certificate, and the core verified it."""
        return [] if self._is_halted else self._on_certificate(certificate)

    def step(self, now_ms: int, event: Event) -> list[Effect]:
        """Handle one event; what is not for the checkpoints is ignored."""
        if self._is_halted:
            return []
        match event:
            case Received(sender, StateVote() as vote):
                return self._on_vote(sender, vote)
            case Signed(token, signature):
                return self._signer.on_signed(now_ms, token, signature, self._certified_height())
            case Aggregated():
                return self._on_aggregated(event)
            case Verified():
                return self._votes.on_verified(event)
            case TimerFired(name) if name == RESEND_TIMER:
                return self._signer.on_timer(now_ms)
            case _:
                return []

    # ---- votes --------------------------------------------------------------------------------

    def _certified_height(self) -> int:
        return 0 if self._newest is None else self._newest.header.height

    def _window(self) -> range:
        """The heights whose votes are collected."""
        middle = max(self._certified_height(), self._highest_own)
        lowest = max(self._certified_height() + 1, middle - VOTE_WINDOW_HEIGHTS)
        return range(lowest, middle + VOTE_WINDOW_HEIGHTS + 1)

    def _on_vote(self, sender: int, vote: StateVote) -> list[Effect]:
        if vote.author != sender:
            return [Misbehaviour(sender, "state.vote_forged")]
        header = vote.header
        if header.epoch != self._committee.epoch or header.height not in self._window():
            return []
        return self._votes.offer(vote)

    # ---- certificates -------------------------------------------------------------------------

    def _on_aggregated(self, event: Aggregated) -> list[Effect]:
        certificate, effects = self._votes.on_aggregated(event)
        if certificate is not None:
            effects += self._on_certificate(certificate)
        return effects + ([] if self._is_halted else self._votes.aggregate())

    def _find_certified(self, height: int) -> CheckpointHeader | None:
        if self._newest is not None and self._newest.header.height == height:
            return self._newest.header
        return self._certified.get(height)

    def _on_certificate(self, certificate: StateCertificate) -> list[Effect]:
        """A verified certificate: compare it with the own result, keep it if it is the newest."""
        header = certificate.header
        own = self._own.get(header.height)
        if own is not None and own != header:
            return self._halt("state.diverged", header, own)
        if header.height > self._highest_own and len(self._certified) < CERTIFIED_HEADERS_MAX:
            self._certified[header.height] = header
        if header.height <= self._certified_height():
            return []
        self._newest = certificate
        self._votes.drop_outside(self._window())
        return [StateCertified(certificate), *self._signer.on_certified(header.height)]

    def _halt(self, code: str, expected: CheckpointHeader, own: CheckpointHeader) -> list[Effect]:
        self._is_halted = True
        detail = (
            f"height {own.height}: expected state {expected.state_root.hex()}"
            f" receipts {expected.receipts_root.hex()} block {expected.block_id.hex()},"
            f" own state {own.state_root.hex()} receipts {own.receipts_root.hex()}"
            f" block {own.block_id.hex()}"
        )
        return [Halt(code, detail)]
