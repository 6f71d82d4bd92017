"""Everything that this member signs, from the decision to the message.

A decision changes the safety state, makes one `Persist` and one `Sign`, and its message leaves
when both are done (P1). The rules that allow a decision are in `consensus.safety`; when it is
time for one is the core's to say. After a restart the same contents are signed again: signatures
are deterministic, so the bytes are the ones that left before, if they left.
"""

from typing import NamedTuple

from committee.schedule import LeaderSchedule
from consensus.chain import Chain
from consensus.effects import Put, Sign, Store, Token
from consensus.messages import Proposal, Timeout, Vote, proposal_signing_bytes
from consensus.outbox import Outbox
from consensus.proposals import Proposals
from consensus.safety import (
    SafetyState,
    TimeoutRecord,
    apply_proposal,
    apply_qc,
    apply_tc,
    apply_timeout,
    apply_vote,
    compute_timeout,
    compute_view,
    is_safe_to_time_out,
    make_proposal_puts,
    make_timeout_puts,
    make_vote_puts,
)
from consensus.types import QC, TC, Block, VoteData
from consensus.votes import VIEW_BEHIND_MAX


class _Decision(NamedTuple):
    """What is on its way through the signer, and the record that its message waits for."""

    subject: VoteData | TimeoutRecord | Block
    after: tuple[Token, ...]


class _SentTimeout(NamedTuple):
    """A timeout, and the record without which it must not leave, however often it is sent."""

    timeout: Timeout
    after: tuple[Token, ...]


class Voter:
    """One member's safety state and the messages that follow from it."""

    def __init__(
        self,
        chain_id: bytes,
        member_count: int,
        me: int | None,
        schedule: LeaderSchedule,
        state: SafetyState,
        chain: Chain,
        outbox: Outbox,
        proposals: Proposals,
    ) -> None:
        self.state = state
        self._chain_id = chain_id
        self._me = me
        self._everyone = tuple(range(member_count))
        self._others = tuple(index for index in self._everyone if index != me)
        self._schedule = schedule
        self._chain = chain
        self._out = outbox
        self._proposals = proposals
        self._decisions: dict[Token, _Decision] = {}
        self._timeout: _SentTimeout | None = None

    # ---- certificates ------------------------------------------------------------------------

    def add_qc(self, qc: QC) -> None:
        """Take a verified QC."""
        self.state = apply_qc(self.state, qc)

    def add_tc(self, tc: TC) -> None:
        """Take a verified TC."""
        self.state = apply_tc(self.state, tc)

    # ---- decisions ---------------------------------------------------------------------------

    def vote(self, block: Block, block_id: bytes) -> None:
        """Vote for a block in the current view."""
        data = VoteData(block.epoch, compute_view(self.state), block.height, block_id)
        self.state = apply_vote(self.state, block, data)
        self._decide(data, make_vote_puts(self.state, block, data))

    def time_out(self) -> None:
        """Give the current view up."""
        assert is_safe_to_time_out(self.state), "the high QC is never below the lock"
        timeout = compute_timeout(self.state)
        self.state = apply_timeout(self.state, timeout)
        self._decide(timeout, make_timeout_puts(self.state, timeout))

    def propose(self, block: Block, block_id: bytes) -> None:
        """Propose a block in the current view."""
        self.state = apply_proposal(self.state, block.view, block_id)
        self._decide(block, make_proposal_puts(self.state, block.view, block, block_id))

    def _decide(self, subject: VoteData | TimeoutRecord | Block, puts: tuple[Put, ...]) -> None:
        record = self._out.persist(Store.SAFETY, puts, self._chain.take_prune_deletes())
        self._sign(subject, (record,))

    def _sign(self, subject: VoteData | TimeoutRecord | Block, after: tuple[Token, ...]) -> None:
        match subject:
            case VoteData():
                message = subject.signing_bytes(self._chain_id)
            case TimeoutRecord(data=data):
                message = data.signing_bytes(self._chain_id)
            case Block(epoch=epoch, view=view):
                block_id = subject.block_id(self._chain_id)
                message = proposal_signing_bytes(self._chain_id, epoch, view, block_id)
        token = self._out.token()
        self._decisions[token] = _Decision(subject, after)
        self._out.add(Sign(token, message))

    # ---- messages ----------------------------------------------------------------------------

    def send_signed(self, token: Token, signature: bytes) -> None:
        """A signature is there: its message leaves once its record is durable."""
        decision = self._decisions.pop(token)
        assert self._me is not None, "an observer signs nothing"
        match decision.subject:
            case VoteData() as data:
                collectors = self._schedule.collectors(data.view)
                self._out.send(collectors, Vote(data, self._me, signature), decision.after)
            case TimeoutRecord(data=data, high_qc=high_qc, last_tc=last_tc):
                shown = self._proposals.show(data.view)
                timeout = Timeout(data, high_qc, last_tc, self._me, signature, shown)
                self._timeout = _SentTimeout(timeout, decision.after)
                self._out.send(self._everyone, timeout, decision.after)
            case Block() as block:
                # The own proposal needs no way through the network.
                proposal = Proposal(block, block.view, self._me, signature)
                self._out.send(self._others, proposal, decision.after)

    def repeat_timeout(self) -> None:
        """Broadcast the timeout of the current view again, in the same bytes (T5)."""
        sent = self._timeout
        if sent is not None and sent.timeout.data.view == compute_view(self.state):
            # On a slow disk, or after a step of the clock, its record may not be durable yet.
            self._out.send(self._everyone, sent.timeout, sent.after)

    def resume(self) -> Block | None:
        """After a restart: say again what was said last, for it may never have left (R3).

        Returns the block that was proposed in the current view, if one was.
        """
        if self._me is None:
            return None
        state, view = self.state, compute_view(self.state)
        proposed: Block | None = None
        if state.last_proposed_view == view:
            proposed = self._chain.tree.find_block(state.last_proposed_id)
            assert proposed is not None, "a proposal and its block are one record"
            self._sign(proposed, ())
        vote, timeout = state.last_vote, state.last_timeout
        if vote is not None and vote.view >= view - VIEW_BEHIND_MAX:
            self._sign(vote, ())
        if timeout is not None and timeout.data.view == view:
            self._sign(timeout, ())
        return proposed
