"""The consensus core: `step(now_ms, event) -> list[Effect]`, and nothing else happens.

For maintainers:

- A message goes receive > validate > verify > apply. Before *apply* it has changed no state.
- Every step ends in `_settle`, which tries all that the node might do next: enter a view, propose,
  vote, aggregate, fetch. Each `_maybe_*` is idempotent and looks at the whole state, so no event
  has to remember what it unblocks. It is left out where it would find what it found before.
- The safety state changes through `consensus.safety` alone, and each decision makes one `Persist`
  that its `Send` waits for (P1).
- The rules named in comments (V1, C1, ...) stand in the package docstring.
"""

from collections.abc import Sequence
from typing import Final

from committee.committee import Committee
from committee.schedule import LeaderSchedule
from consensus.accuser import Accuser, Subject
from consensus.bans import Bans
from consensus.certificates import CertificateCache
from consensus.chain import Chain
from consensus.config import ConsensusConfig
from consensus.effects import (
    Aggregated,
    Effect,
    Event,
    Received,
    Signed,
    Store,
    TimerFired,
    Verified,
)
from consensus.evidence import (
    DoubleProposal,
    DoubleTimeout,
    DoubleVote,
    make_double_timeout,
    make_double_vote,
)
from consensus.exchange import SYNC_TIMER, Exchange
from consensus.intake import Intake
from consensus.messages import (
    Advance,
    BlockRequest,
    BlockResponse,
    CommittedRequest,
    CommittedResponse,
    Message,
    Proposal,
    ShownProposal,
    Timeout,
    Vote,
)
from consensus.outbox import Outbox
from consensus.ownership import Component, make_timer_name
from consensus.pacemaker import Pacemaker
from consensus.payload import Contents, PayloadSource
from consensus.proposals import PROPOSAL_VIEWS_BEHIND_MAX, Proposals
from consensus.recovery import Recovered
from consensus.safety import (
    compute_entry_tc,
    compute_view,
    is_safe_to_propose,
    is_safe_to_vote,
    is_timed_out,
    make_state_put,
)
from consensus.statistics import ConsensusStatistics, Counts
from consensus.types import QC, TC, Block, make_genesis_qc
from consensus.validation import Check, ValidationError, Validator
from consensus.voter import Voter
from consensus.votes import VIEW_AHEAD_MAX, VIEW_BEHIND_MAX, TimeoutCollector, VoteCollector
from crypto.bitmap import is_member_set

_VIEW_TIMER: Final = make_timer_name(Component.CONSENSUS, "view")
_PROPOSE_TIMER: Final = make_timer_name(Component.CONSENSUS, "propose")
_DEFERRED_TIMER: Final = make_timer_name(Component.CONSENSUS, "deferred-vote")
_STRAGGLER_TIMER: Final = make_timer_name(Component.CONSENSUS, "stragglers")


class ConsensusCore:
    """Two-chain HotStuff for one member of one epoch's committee; see the package docstring."""

    def __init__(
        self,
        config: ConsensusConfig,
        chain_id: bytes,
        committee: Committee,
        me: int | None,
        payload: PayloadSource,
        recovered: Recovered,
        certificates: CertificateCache | None = None,
        seat: int | None = None,
    ) -> None:
        """`me` is this node's index, None for an observer, who follows and never signs. `seat` is
        the index by which the others know an observer that is in the committee.
        `certificates` may be shared with other cores that verify the same certificates."""
        seat = seat if me is None else me
        self._config = config
        self._chain_id = chain_id
        self._committee = committee
        self._me = me
        self._payload = payload
        self._recovered = recovered
        self._schedule = LeaderSchedule(committee, config.leader_seed)
        self._certificates = certificates if certificates is not None else CertificateCache()
        self._validator = Validator(
            chain_id,
            committee,
            self._schedule,
            make_genesis_qc(chain_id, committee),
            self._certificates,
        )
        self._intake: Intake[Subject] = Intake(self._certificates)
        self._out = Outbox()
        self._chain = Chain(config, recovered.tip, self._out)
        self._proposals = Proposals()
        self._voter = Voter(
            chain_id,
            len(committee),
            me,
            self._schedule,
            recovered.safety,
            self._chain,
            self._out,
            self._proposals,
        )
        self._pacemaker = Pacemaker(config)
        bans = self._bans = Bans()
        self._votes = VoteCollector(chain_id, committee, bans, self._compute_vote_wait_ms)
        self._timeouts = TimeoutCollector(chain_id, committee, bans)
        self._exchange = Exchange(
            chain_id, len(committee), seat, self._chain, self._out, config.sync_retry_ms, bans
        )
        self._others = tuple(index for index in range(len(committee)) if index != seat)
        self._unannounced_qc: QC | None = None
        self._accuser = Accuser(
            chain_id,
            committee,
            seat,
            self._schedule,
            self._validator,
            self._pacemaker,
            self._proposals,
            self._intake,
            self._out,
        )
        self._counts = Counts()
        self._now_ms = 0
        self._has_acted = True
        """Did anything that `_settle` looks at change since it last looked?"""
        self._may_propose = False
        """Is there still a block to propose in this view? What it would carry changes elsewhere."""
        self._settled_at_ms = 0

    # ---- the interface -----------------------------------------------------------------------

    def start(self, now_ms: int) -> list[Effect]:
        """Begin, or go on after a crash, where the durable records say (R1 to R4). Once."""
        self._now_ms = now_ms
        if self._recovered.is_first_start:
            self._out.persist(Store.SAFETY, (make_state_put(self._voter.state),))
        self._restore_blocks()
        self._enter_view()
        proposed = self._voter.resume()
        if proposed is not None:
            self._proposals.add_own(proposed.view, proposed.block_id(self._chain_id))
        return self._settle()

    def step(self, now_ms: int, event: Event) -> list[Effect]:
        """Take one event; returns what the host has to do, in order."""
        if self._out.is_halted:
            return []
        self._now_ms = now_ms
        match event:
            case Received(sender, message):
                self._on_received(sender, message)
            case Verified(token, results):
                for verdict in self._intake.resolve(token, results):
                    self._accuser.note_verified(verdict.sender, verdict.subject)
                    if verdict.is_valid:
                        self._apply(verdict.sender, verdict.subject)
                    else:
                        # An honest member sends nothing that it has not verified itself, so one
                        # such message is enough: each costs milliseconds, it must not be repeated.
                        self._has_acted = True
                        self._bans.add(verdict.sender)
                        self._out.refuse(verdict.sender, "signature.invalid")
            case Signed(token, signature):
                self._voter.send_signed(token, signature)
            case Aggregated():
                self._on_aggregated(event)
            case TimerFired(name):
                self._on_timer(name)
            case _:
                raise AssertionError(f"{type(event).__name__} is for another core")
        return self._settle()

    def on_payload(self, now_ms: int) -> list[Effect]:
        """There may be something new to order: idling ends if so."""
        self._now_ms = now_ms
        return self._settle()

    @property
    def view(self) -> int:
        """The current view."""
        return self._pacemaker.view

    @property
    def committed_height(self) -> int:
        """The highest committed block's height."""
        return self._chain.tree.root.height

    def statistics(self) -> ConsensusStatistics:
        """Where the node stands."""
        safety, tree = self._voter.state, self._chain.tree
        return ConsensusStatistics(
            view=self.view,
            leader=self._schedule.leader(self._pacemaker.view),
            high_qc_view=safety.high_qc.view,
            high_tc_view=safety.high_tc.view if safety.high_tc else 0,
            last_voted_view=safety.last_voted_view,
            committed_height=self.committed_height,
            tree_blocks=len(tree),
            orphan_blocks=tree.orphan_count,
            pending_messages=self._intake.pending_count,
            pending_votes=self._votes.pending_count,
            pending_timeouts=self._timeouts.pending_count,
            sync_targets=self._exchange.sync.target_count,
            sync_requests=self._exchange.sync.in_flight_count,
            banned_members=len(self._bans),
            messages_refused=self._out.refused_count,
            **vars(self._counts),
        )

    # ---- receiving ---------------------------------------------------------------------------

    def _on_received(self, sender: int, message: Message) -> None:
        if sender in self._bans:
            return
        try:
            checks = self._validate(sender, message)
        except ValidationError as error:
            if isinstance(message, CommittedResponse):
                self._has_acted = True
                self._exchange.sync.refute(sender)
            self._out.refuse(sender, error.code, error.detail)
            return
        if checks is None:
            return
        if not checks:
            self._apply(sender, message)
        elif self._intake.has_room(sender):
            self._submit(sender, message, checks)
        else:
            # Nobody's fault: a slow verifier fills the intake with what honest members send.
            self._counts.messages_dropped += 1

    def _validate(self, sender: int, message: Message) -> list[Check] | None:
        """What must verify before the message counts; None if it is of no use any more."""
        view = self._pacemaker.view
        match message:
            case Vote() if self._me is None:
                # Whoever sends it takes this node for a leader, rightly.
                return None
            case Vote(data=data):
                self._validator.check_vote(sender, message)
                if data.view < view - VIEW_BEHIND_MAX:
                    self._exchange.tell_news(self._now_ms, sender, self._voter.state)
                    return None
                if data.view > view + VIEW_AHEAD_MAX:
                    # Not a fault: this node may be the one that is far behind.
                    return None
                if self._me not in self._schedule.collectors(data.view):
                    raise ValidationError("vote.not_for_me")
                return []
            case Timeout(data=data):
                if message.proposal is not None:
                    self._accuser.compare_proposal(sender, message.proposal)
                if data.view < view:
                    self._exchange.tell_news(self._now_ms, sender, self._voter.state)
                    return None
                return self._validator.check_timeout(sender, message)
            case Proposal():
                if self._is_proposal_stale(sender, message):
                    return None
                return self._validator.check_proposal(sender, message)
            case ShownProposal():
                self._accuser.compare_proposal(sender, message)
                return None
            case Advance(qc=qc, tc=tc):
                is_news = qc.view > self._voter.state.high_qc.view or (
                    tc is not None and tc.view >= view
                )
                return self._validator.check_advance(message) if is_news else None
            case BlockResponse() | CommittedResponse():
                if not self._exchange.sync.is_solicited(sender, message):
                    self._has_acted = True
                    self._exchange.sync.pass_over(sender)
                    return None
                if isinstance(message, BlockResponse):
                    return []
                return self._validator.check_committed_response(message)
            case BlockRequest() | CommittedRequest():
                return []
            case _:
                raise AssertionError(f"{type(message).__name__} is for another core")

    def _is_proposal_stale(self, sender: int, proposal: Proposal) -> bool:
        view = self._pacemaker.view
        if proposal.view < view:
            self._exchange.tell_news(self._now_ms, sender, self._voter.state)
        seen = self._proposals.find(proposal.view)
        if seen is not None and (
            seen.signature == proposal.signature
            or self._accuser.is_convicted(DoubleProposal, sender)
        ):
            return True
        return proposal.view < max(view - PROPOSAL_VIEWS_BEHIND_MAX, self._chain.tree.root.view + 1)

    def _submit(self, sender: int, subject: Message, checks: Sequence[Check]) -> None:
        verify = self._intake.submit(sender, subject, checks, self._out.token())
        if verify is not None:
            self._out.add(verify)

    def _apply(self, sender: int, subject: Subject) -> None:
        """All signatures hold: let the message act."""
        if isinstance(subject, Vote):
            self._apply_vote(subject)
            return
        self._has_acted = True
        match subject:
            case Timeout():
                self._apply_timeout(subject)
            case Proposal():
                self._apply_proposal(sender, subject)
            case Advance(qc=qc, tc=tc):
                self._on_qc(qc)
                if tc is not None:
                    self._on_tc(tc)
            case BlockRequest() | CommittedRequest():
                self._exchange.serve(self._now_ms, sender, subject)
            case BlockResponse() | CommittedResponse():
                self._apply_response(sender, subject)
            case ShownProposal():
                self._accuser.apply_shown(sender, subject)
            case DoubleVote() | DoubleTimeout() | DoubleProposal():
                self._accuser.convict(subject)
            case _:
                raise AssertionError("only messages that were validated are applied")

    # ---- certificates ------------------------------------------------------------------------

    def _on_qc(self, qc: QC) -> None:
        """A verified QC: it may commit (C1), and it may open the next view (V2)."""
        if self._is_forgotten_vote(qc):
            detail = f"certified vote of view {qc.view} is above the last one remembered"
            self._out.halt("safety.amnesia", detail)
            return
        self._accuser.note_certified(qc)
        self._chain.add_qc(qc)
        self._voter.add_qc(qc)
        self._votes.note_certified(qc.view)
        self._enter_view()

    def _is_forgotten_vote(self, qc: QC) -> bool:
        """R5: is this node's vote certified that it does not remember having given?"""
        is_signer = self._me is not None and is_member_set(qc.signers, self._me)
        return is_signer and qc.view > self._voter.state.last_voted_view

    def _on_tc(self, tc: TC) -> None:
        """A verified TC: its QC counts first, then it may open the next view (V2)."""
        self._on_qc(tc.high_qc)
        self._voter.add_tc(tc)
        self._enter_view()

    def _enter_view(self) -> None:
        view = compute_view(self._voter.state)
        self._pacemaker.record_commit(self._chain.tree.root.height)
        if view == self._pacemaker.view:
            return
        is_after_loss = compute_entry_tc(self._voter.state) is not None
        self._pacemaker.enter_view(self._now_ms, view, is_after_loss=is_after_loss)
        self._timeouts.clear()
        self._votes.prune(view - VIEW_BEHIND_MAX)
        self._proposals.prune(view)

    # ---- everything that may be due ----------------------------------------------------------

    def _settle(self) -> list[Effect]:
        if self._is_anything_new() and not self._out.is_halted:
            self._has_acted = False
            self._settled_at_ms = self._now_ms
            self._enter_view()
            self._maybe_aggregate()
            self._maybe_time_out()
            self._maybe_propose()
            self._maybe_announce()
            self._maybe_vote()
            self._exchange.fetch(self._now_ms, self._voter.state.high_qc)
            self._out.set_timer(_VIEW_TIMER, self._pacemaker.deadline_ms)
        return self._out.take()

    def _is_anything_new(self) -> bool:
        """Could a look find more than the last one? Messages that wait for their signatures, or
        are refused, and signatures that leave change nothing that it looks at."""
        return (
            self._has_acted
            or self._may_propose
            # Whom to ask changes with each look, also while nobody is willing.
            or self._exchange.sync.is_busy
            # A clock may be put back.
            or not self._settled_at_ms <= self._now_ms < self._out.find_next_deadline_ms()
        )

    def _on_timer(self, name: str) -> None:
        self._has_acted = True
        if not self._out.take_timer(self._now_ms, name):
            return
        if name == _VIEW_TIMER:
            self._on_view_expired()
        elif name == SYNC_TIMER:
            self._exchange.sync.expire(self._now_ms)
        # The other timers only bring about the `_settle` that follows.

    # ---- proposals ---------------------------------------------------------------------------

    def _maybe_propose(self) -> None:
        """Propose a block if this node leads the view, once, when the pace allows (L1, L2)."""
        state, view = self._voter.state, self._pacemaker.view
        is_mine = self._schedule.leader(view) == self._me
        due_ms: int | None = None
        self._may_propose = is_mine and is_safe_to_propose(state, view)
        if self._may_propose:
            parent = self._chain.tree.get(state.high_qc.block_id)
            if parent is not None:
                contents = Contents(self._config, self._chain.tree, parent, self._payload)
                due_ms = self._pacemaker.compute_proposal_time_ms(
                    self._now_ms, parent.time_ms, contents.urgency
                )
                if due_ms <= self._now_ms or compute_entry_tc(state) is not None:
                    self._propose(contents, view, parent.time_ms)
                    due_ms = None
        self._out.set_timer(_PROPOSE_TIMER, due_ms)

    def _maybe_announce(self) -> None:
        """A2: a dead next leader then costs one timeout, not two."""
        qc, self._unannounced_qc = self._unannounced_qc, None
        # A proposal made in this very step carries the certificate to everybody.
        if qc is not None and self._voter.state.last_proposed_view <= qc.view:
            self._out.send(self._others, Advance(qc, None))

    def _propose(self, contents: Contents, view: int, parent_time_ms: int) -> None:
        assert self._me is not None, "an observer leads no view"
        block = contents.make_block(
            epoch=self._committee.epoch,
            view=view,
            author=self._me,
            time_ms=max(self._now_ms, parent_time_ms + 1),
            qc=self._voter.state.high_qc,
            tc=compute_entry_tc(self._voter.state),
        )
        block_id = block.block_id(self._chain_id)
        self._has_acted = True
        self._counts.proposals_signed += 1
        self._voter.propose(block, block_id)
        self._proposals.add_own(view, block_id)
        self._chain.add_block(block, block_id)

    def _apply_proposal(self, sender: int, proposal: Proposal) -> None:
        block = proposal.block
        self._on_qc(block.qc)
        if block.tc is not None:
            self._on_tc(block.tc)
        block_id = block.block_id(self._chain_id)
        shown = ShownProposal(proposal.view, block_id, proposal.signature)
        self._accuser.find_contradiction(sender, shown)
        seen = self._proposals.add(proposal.view, block_id, proposal.signature)
        if seen.block_id != block_id:
            # The block itself is not kept: should a quorum certify it, it is fetched by its id.
            return
        self._accuser.show_rival(proposal.view)
        if not self._chain.tree.is_full:
            self._chain.add_block(block, block_id)
            self._exchange.sync.want(block.qc)

    # ---- votes -------------------------------------------------------------------------------

    def _maybe_vote(self) -> None:
        """Vote for the current view's proposal if that is safe (V1 to V3) and timely (V4)."""
        timely_at_ms: int | None = None
        votable = self._find_votable()
        if votable is not None:
            block, block_id = votable
            timely_at_ms = block.time_ms - self._config.clock_drift_ms
            if timely_at_ms <= self._now_ms:
                self._has_acted = True
                self._counts.votes_signed += 1
                self._voter.vote(block, block_id)
                timely_at_ms = None
        self._out.set_timer(_DEFERRED_TIMER, timely_at_ms)

    def _find_votable(self) -> tuple[Block, bytes] | None:
        """The block to vote for in this view, now or once the clock reaches it, and its id."""
        view = self._pacemaker.view
        seen = self._proposals.find(view)
        node = None if seen is None else self._chain.tree.get(seen.block_id)
        if self._me is None or node is None or node.block is None:
            return None
        is_recent = self._now_ms - node.time_ms <= self._config.block_age_max_ms
        is_safe = is_safe_to_vote(self._voter.state, node.block, view)
        return (node.block, node.block_id) if is_recent and is_safe else None

    def _apply_vote(self, vote: Vote) -> None:
        conflicting = self._votes.add(self._now_ms, vote)
        if conflicting is not None:
            self._accuser.suspect(make_double_vote(conflicting, vote), vote.author)
        # One of too few votes brings nothing about.
        self._has_acted |= self._votes.has_quorum(vote.data.view)

    # ---- timeouts ----------------------------------------------------------------------------

    def _on_view_expired(self) -> None:
        self._pacemaker.rearm(self._now_ms)
        if self._me is None:
            self._exchange.poll(self._now_ms)
        elif is_timed_out(self._voter.state):
            self._voter.repeat_timeout()
        else:
            self._counts.timeouts_by_timer += 1
            self._voter.time_out()

    def _maybe_time_out(self) -> None:
        """T4: an honest member has given the view up, so everybody does."""
        if self._me is None or self._timeouts.power < self._committee.honest_power:
            return
        if not is_timed_out(self._voter.state):
            self._has_acted = True
            self._counts.timeouts_by_amplification += 1
            self._pacemaker.rearm(self._now_ms)
            self._voter.time_out()

    def _apply_timeout(self, timeout: Timeout) -> None:
        self._on_qc(timeout.high_qc)
        if timeout.last_tc is not None:
            self._on_tc(timeout.last_tc)
        if timeout.data.view != self._pacemaker.view:
            return
        conflicting = self._timeouts.add(timeout)
        if conflicting is not None:
            self._accuser.suspect(make_double_timeout(conflicting, timeout), timeout.author)

    # ---- aggregation -------------------------------------------------------------------------

    def _maybe_aggregate(self) -> None:
        due_ms = self._votes.compute_due_ms()
        for view in sorted(due_ms):
            if due_ms[view] <= self._now_ms:
                self._out.add(self._votes.start(view, self._out.token()))
                del due_ms[view]
        self._out.set_timer(_STRAGGLER_TIMER, min(due_ms.values(), default=None))
        if self._timeouts.is_due:
            tokens = [self._out.token() for _ in range(self._timeouts.count_contents())]
            self._out.add(*self._timeouts.start(tokens))

    def _compute_vote_wait_ms(self, view: int, is_complete: bool) -> int:
        """A2: the view's leader waits for stragglers only; the next leader waits for its QC."""
        if self._me != self._schedule.leader(view):
            return self._config.next_leader_wait_ms
        return 0 if is_complete else self._config.straggler_wait_ms

    def _on_aggregated(self, result: Aggregated) -> None:
        self._has_acted = True
        for culprit in result.culprits:
            self._out.refuse(culprit, "signature.poison")
        qc = self._votes.finish(result)
        if qc is not None:
            self._counts.qcs_formed += 1
            self._certificates.add(qc)
            self._on_qc(qc)
            if self._me == self._schedule.leader(qc.view):
                self._unannounced_qc = qc
        tc = self._timeouts.finish(result)
        if tc is not None:
            self._counts.tcs_formed += 1
            self._certificates.add(tc)
            self._on_tc(tc)
            self._out.send(self._others, Advance(self._voter.state.high_qc, tc))

    # ---- fetching ----------------------------------------------------------------------------

    def _apply_response(self, sender: int, response: BlockResponse | CommittedResponse) -> None:
        count = self._exchange.take(sender, response)
        if count:
            # A certificate that this node never got, because a later one came first.
            for block in response.blocks:
                self._accuser.note_certified(block.qc)
        if count is None or isinstance(response, BlockResponse) or response.proof is None:
            return
        self._on_qc(response.proof)
        if self._me is None and count:
            self._exchange.poll(self._now_ms)

    # ---- restart -----------------------------------------------------------------------------

    def _restore_blocks(self) -> None:
        """R1: rebuild the tree; the commit rule runs over its certificates again."""
        for block in self._recovered.blocks:
            block_id = block.block_id(self._chain_id)
            if block.height <= self._chain.tree.root.height:
                self._chain.tree.keep_committed(block, block_id)
                continue
            # Each was verified before it was voted for, its certificates included.
            self._certificates.add(block.qc)
            self._voter.add_qc(block.qc)
            self._chain.add_block(block, block_id)
        self._chain.add_qc(self._voter.state.high_qc)
