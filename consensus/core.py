"""The consensus core: `step(now_ms, event) -> list[Effect]`, and nothing else happens.

For maintainers:

- A message goes receive > validate > verify > apply. Before *apply* it has changed no state.
- Every step ends in `_settle`, which tries all that the node might do next: enter a view, propose,
  vote, aggregate, fetch. Each `_maybe_*` is idempotent and looks at the whole state, so no event
  has to remember what it unblocks.
- The safety state changes through `consensus.safety` alone, and each decision makes one `Persist`
  that its `Send` waits for (P1).
- The rules named in comments (V1, C1, ...) stand in the package docstring.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from committee.committee import Committee
from committee.schedule import LeaderSchedule
from consensus.block_tree import COMMITTED_BLOCKS_KEPT, BlockTree, Node, make_root, make_tip
from consensus.certificates import CertificateCache
from consensus.config import ConsensusConfig
from consensus.effects import (
    Aggregated,
    Committed,
    Delete,
    Effect,
    Event,
    EvidenceFound,
    Halt,
    Misbehaviour,
    Persist,
    Put,
    Received,
    Send,
    ServeCommitted,
    SetTimer,
    Sign,
    Signed,
    Store,
    TimerFired,
    Token,
    Verified,
)
from consensus.evidence import (
    DoubleProposal,
    DoubleTimeout,
    DoubleVote,
    compute_evidence_claims,
    make_double_proposal,
    make_double_timeout,
    make_double_vote,
)
from consensus.intake import Intake
from consensus.messages import (
    BLOCKS_MAX_PER_RESPONSE,
    Advance,
    BlockRequest,
    BlockResponse,
    CommittedRequest,
    CommittedResponse,
    Message,
    Proposal,
    Timeout,
    Vote,
    proposal_signing_bytes,
)
from consensus.pacemaker import Pacemaker
from consensus.payload import Contents, PayloadSource, validate_child
from consensus.recovery import Recovered, make_genesis_qc
from consensus.safety import (
    TimeoutRecord,
    apply_proposal,
    apply_qc,
    apply_tc,
    apply_timeout,
    apply_vote,
    compute_entry_tc,
    compute_key,
    compute_timeout,
    compute_view,
    is_safe_to_propose,
    is_safe_to_time_out,
    is_safe_to_vote,
    is_timed_out,
    make_proposal_puts,
    make_prune_deletes,
    make_state_put,
    make_timeout_puts,
    make_vote_puts,
)
from consensus.sync import (
    SERVE_BURST,
    SERVE_REFILL_MS,
    BlockSync,
    Target,
    TokenBucket,
    select_response_blocks,
)
from consensus.types import QC, TC, Block, VoteData
from consensus.validation import Check, ValidationError, Validator
from consensus.votes import VIEW_AHEAD_MAX, VIEW_BEHIND_MAX, Bans, TimeoutCollector, VoteCollector
from crypto.bitmap import decode_bitmap
from crypto.codec import encode

COMPONENT: Final = "consensus"
"""In every token and as the prefix of every timer name of this core."""

ARCHIVE_BLOCK_TABLE: Final = "block"
"""Height to committed block."""
ARCHIVE_COMMIT_TABLE: Final = "commit"
"""Height to the QC for the block committed there."""
ARCHIVE_TIP_TABLE: Final = "tip"
ARCHIVE_TIP_KEY: Final = b"tip"
"""The `CommittedTip`, overwritten with each commit: what `consensus.recovery.recover` asks for."""

PROPOSAL_VIEWS_BEHIND_MAX: Final = 64
"""A proposal this far below the current view is of no use any more."""

PRUNE_INTERVAL_HEIGHTS: Final = 16
"""Old safety records are dropped every so many heights."""

_VIEW_TIMER: Final = "consensus/view"
_PROPOSE_TIMER: Final = "consensus/propose"
_DEFERRED_TIMER: Final = "consensus/deferred-vote"
_STRAGGLER_TIMER: Final = "consensus/stragglers"
_SYNC_TIMER: Final = "consensus/sync"


class ConsensusStatistics(Struct, frozen=True):
    """A snapshot for operators and tests."""

    view: int
    leader: int
    high_qc_view: int
    high_tc_view: int
    last_voted_view: int
    committed_height: int
    tree_blocks: int
    orphan_blocks: int
    pending_messages: int
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


class _Counts:
    """What `ConsensusStatistics` counts."""

    def __init__(self) -> None:
        self.votes_signed = 0
        self.timeouts_by_timer = 0
        self.timeouts_by_amplification = 0
        self.proposals_signed = 0
        self.qcs_formed = 0
        self.tcs_formed = 0
        self.messages_refused = 0


class _Seen(NamedTuple):
    """The first verified proposal of a view."""

    block_id: bytes
    signature: bytes


class _ToSign(NamedTuple):
    """A decision on its way through the signer, and the record that its message waits for."""

    subject: VoteData | TimeoutRecord | Block
    after: tuple[Token, ...]


_Suspicion = DoubleVote | DoubleTimeout | DoubleProposal
_Subject = Message | _Suspicion


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
    ) -> None:
        """`me` is this node's index, None for an observer, who follows and never signs.
        `certificates` may be shared with other cores that verify the same certificates."""
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
        self._intake: Intake[_Subject] = Intake(self._certificates)
        self._safety = recovered.safety
        self._tree = BlockTree(make_root(recovered.tip))
        self._root_qc = recovered.tip.qc
        self._pacemaker = Pacemaker(config)
        bans = self._bans = Bans()
        self._votes = VoteCollector(chain_id, committee, bans, config.straggler_wait_ms)
        self._timeouts = TimeoutCollector(chain_id, committee, bans)
        self._sync = BlockSync(chain_id, config.sync_retry_ms)
        self._others = tuple(index for index in range(len(committee)) if index != me)
        self._everyone = tuple(range(len(committee)))
        self._proposals: dict[int, _Seen] = {}
        self._to_sign: dict[Token, _ToSign] = {}
        self._timeout_message: Timeout | None = None
        self._timers: dict[str, int] = {}
        self._buckets: dict[int, TokenBucket] = {}
        self._advance_buckets: dict[int, TokenBucket] = {}
        self._convicted: set[tuple[type, int]] = set()
        self._counts = _Counts()
        self._token_number = 0
        self._now_ms = 0
        self._out: list[Effect] = []
        self._frontier_id = recovered.tip.block_id
        self._archived_height = recovered.tip.height
        self._is_halted = False

    # ---- the interface -----------------------------------------------------------------------

    def start(self, now_ms: int) -> list[Effect]:
        """Begin, or go on after a crash, where the durable records say (R1 to R4). Once."""
        self._now_ms = now_ms
        if self._recovered.is_first_start:
            self._persist(Store.SAFETY, (make_state_put(self._safety),))
        self._restore_blocks(self._recovered.blocks)
        self._enter_view()
        self._resume_signing()
        self._settle()
        return self._take_effects()

    def step(self, now_ms: int, event: Event) -> list[Effect]:
        """Take one event; returns what the host has to do, in order."""
        if self._is_halted:
            return []
        self._now_ms = now_ms
        match event:
            case Received(sender, message):
                self._on_received(sender, message)
            case Verified(token, results):
                for verdict in self._intake.resolve(token, results):
                    if verdict.is_valid:
                        self._apply(verdict.sender, verdict.subject)
                    else:
                        self._refuse(verdict.sender, "signature.invalid")
            case Signed(token, signature):
                self._on_signed(token, signature)
            case Aggregated():
                self._on_aggregated(event)
            case TimerFired(name):
                self._on_timer(name)
            case _:
                raise AssertionError(f"{type(event).__name__} is for another core")
        self._settle()
        return self._take_effects()

    def on_payload(self, now_ms: int) -> list[Effect]:
        """There may be something new to order: idling ends if so."""
        self._now_ms = now_ms
        self._settle()
        return self._take_effects()

    def statistics(self) -> ConsensusStatistics:
        """Where the node stands."""
        safety, counts = self._safety, self._counts
        return ConsensusStatistics(
            view=self._pacemaker.view,
            leader=self._schedule.leader(self._pacemaker.view),
            high_qc_view=safety.high_qc.view,
            high_tc_view=safety.high_tc.view if safety.high_tc else 0,
            last_voted_view=safety.last_voted_view,
            committed_height=self._tree.root.height,
            tree_blocks=len(self._tree),
            orphan_blocks=self._tree.orphan_count,
            pending_messages=self._intake.pending_count,
            pending_votes=self._votes.pending_count,
            pending_timeouts=self._timeouts.pending_count,
            sync_targets=self._sync.target_count,
            sync_requests=self._sync.in_flight_count,
            banned_members=len(self._bans),
            **vars(counts),
        )

    # ---- receiving ---------------------------------------------------------------------------

    def _on_received(self, sender: int, message: Message) -> None:
        try:
            checks = self._validate(sender, message)
        except ValidationError as error:
            self._refuse(sender, error.code, error.detail)
            return
        if checks is None:
            return
        if not checks:
            self._apply(sender, message)
        elif not self._intake.has_room(sender):
            self._refuse(sender, "intake.full")
        else:
            self._submit(sender, message, checks)

    def _validate(self, sender: int, message: Message) -> list[Check] | None:
        """What must verify before the message counts; None if it is of no use any more."""
        view = self._pacemaker.view
        match message:
            case Vote(data=data):
                self._validator.check_vote(sender, message)
                if data.view < view - VIEW_BEHIND_MAX:
                    self._reply_advance(sender)
                    return None
                if data.view > view + VIEW_AHEAD_MAX:
                    # Not a fault: this node may be the one that is far behind.
                    return None
                if self._me not in self._collectors(data.view):
                    raise ValidationError("vote.not_for_me")
                return []
            case Timeout(data=data):
                if data.view < view:
                    self._reply_advance(sender)
                    return None
                return self._validator.check_timeout(sender, message)
            case Proposal():
                if self._is_proposal_stale(sender, message):
                    return None
                return self._validator.check_proposal(sender, message)
            case Advance(qc=qc, tc=tc):
                is_news = qc.view > self._safety.high_qc.view or (
                    tc is not None and tc.view >= view
                )
                return self._validator.check_advance(message) if is_news else None
            case BlockResponse():
                return [] if self._sync.is_solicited(sender, by_height=False) else None
            case CommittedResponse():
                if not self._sync.is_solicited(sender, by_height=True):
                    return None
                return self._validator.check_committed_response(message)
            case BlockRequest() | CommittedRequest():
                return []
            case _:
                raise AssertionError(f"{type(message).__name__} is for another core")

    def _is_proposal_stale(self, sender: int, proposal: Proposal) -> bool:
        view = self._pacemaker.view
        if proposal.view < view:
            self._reply_advance(sender)
        seen = self._proposals.get(proposal.view)
        if seen is not None and seen.signature == proposal.signature:
            return True
        return proposal.view < max(view - PROPOSAL_VIEWS_BEHIND_MAX, self._tree.root.view + 1)

    def _submit(self, sender: int, subject: _Subject, checks: Sequence[Check]) -> None:
        verify = self._intake.submit(sender, subject, checks, self._token())
        if verify is not None:
            self._out.append(verify)

    def _apply(self, sender: int, subject: _Subject) -> None:
        """All signatures hold: let the message act."""
        match subject:
            case Vote():
                self._apply_vote_message(subject)
            case Timeout():
                self._apply_timeout_message(subject)
            case Proposal():
                self._apply_proposal_message(sender, subject)
            case Advance(qc=qc, tc=tc):
                self._on_qc(qc)
                if tc is not None:
                    self._on_tc(tc)
            case BlockRequest():
                self._serve_blocks(sender, subject)
            case CommittedRequest(from_height=from_height):
                self._serve_committed(sender, from_height)
            case BlockResponse():
                self._on_block_response(sender, subject)
            case CommittedResponse():
                self._on_committed_response(sender, subject)
            case DoubleVote() | DoubleTimeout() | DoubleProposal():
                self._convict(subject)
            case _:
                raise AssertionError("only messages that were validated are applied")

    # ---- certificates ------------------------------------------------------------------------

    def _on_qc(self, qc: QC) -> None:
        """A verified QC: it may commit, raise the high QC and open the next view."""
        if (
            qc.view > self._root_qc.view
            and qc.height <= self._tree.root.height
            and (qc.block_id != self._tree.root.block_id)
        ):
            self._halt("consensus.conflicting_certificate", f"view {qc.view}, height {qc.height}")
            return
        self._maybe_commit(qc)
        self._safety = apply_qc(self._safety, qc)
        self._enter_view()

    def _on_tc(self, tc: TC) -> None:
        """A verified TC: its QC counts first, then it may open the next view."""
        self._on_qc(tc.high_qc)
        self._safety = apply_tc(self._safety, tc)
        self._enter_view()

    def _enter_view(self) -> None:
        view = compute_view(self._safety)
        if view == self._pacemaker.view:
            return
        self._pacemaker.enter_view(self._now_ms, view)
        self._timeouts.clear()
        self._timeout_message = None
        self._votes.prune(view - VIEW_BEHIND_MAX)
        self._proposals = {
            key: seen
            for key, seen in self._proposals.items()
            if key >= view - PROPOSAL_VIEWS_BEHIND_MAX
        }

    # ---- the block tree ----------------------------------------------------------------------

    def _add_block(self, block: Block, block_id: bytes, *, is_certified: bool = False) -> None:
        """Connect a block whose certificates were verified, and the orphans that waited for it."""
        if self._tree.get(block_id) is not None or block.height <= self._tree.root.height:
            return
        parent = self._tree.get(block.parent_id)
        if parent is None:
            self._tree.add_orphan(block, block_id)
            return
        try:
            validate_child(self._config, self._tree, parent, block)
        except ValidationError as error:
            if is_certified:
                self._halt("consensus.certified_block_invalid", f"{block_id.hex()}: {error}")
            else:
                self._refuse(block.author, error.code, error.detail)
            return
        self._tree.insert(block, block_id)
        self._maybe_commit(block.qc)
        if self._safety.high_qc.block_id == block_id:
            self._maybe_commit(self._safety.high_qc)
        for orphan_id, orphan in self._tree.pop_orphans(block_id):
            self._add_block(orphan, orphan_id)

    def _maybe_commit(self, qc: QC) -> None:
        """C1: a QC for a block commits the parent iff the parent's own QC is of the view before."""
        node = self._tree.get(qc.block_id)
        if node is None or node.block is None or qc.view != node.block.qc.view + 1:
            return
        parent = self._tree.get(node.block.parent_id)
        if parent is None or parent.block is None:
            return
        self._commit(parent, node.block.qc)
        self._pacemaker.record_commit(max(self._pacemaker.view, qc.view + 1))

    def _commit(self, node: Node, qc: QC) -> None:
        """C2: everything up to `node` is final, oldest first, each height once, without gaps."""
        chain = self._tree.commit(node)
        children = [child.block for child in chain[1:] if child.block is not None]
        certificates = [*(child.qc for child in children), qc]
        self._root_qc = qc
        puts: list[Put] = []
        for committed, certificate in zip(chain, certificates, strict=True):
            assert committed.block is not None, "only the root has no block"
            key = compute_key(committed.height)
            puts.append(Put(ARCHIVE_BLOCK_TABLE, key, encode(committed.block)))
            puts.append(Put(ARCHIVE_COMMIT_TABLE, key, encode(certificate)))
            self._out.append(Committed(committed.block_id, committed.block, certificate))
        puts.append(Put(ARCHIVE_TIP_TABLE, ARCHIVE_TIP_KEY, encode(make_tip(node, qc))))
        self._persist(Store.ARCHIVE, tuple(puts))

    # ---- everything that may be due ------------------------------------------------------------

    def _settle(self) -> None:
        if self._is_halted:
            return
        self._maybe_aggregate_votes()
        self._maybe_aggregate_timeouts()
        self._maybe_amplify()
        self._maybe_propose()
        self._maybe_vote()
        self._maybe_fetch()
        self._set_timer(_VIEW_TIMER, self._pacemaker.deadline_ms)

    def _on_timer(self, name: str) -> None:
        deadline_ms = self._timers.pop(name, None)
        if deadline_ms is None or deadline_ms > self._now_ms:
            # Stale or early; `_settle` sets what is still due again.
            return
        if name == _VIEW_TIMER:
            self._on_view_expired()
        elif name == _SYNC_TIMER:
            self._sync.expire(self._now_ms)
        # The other timers only bring about the `_settle` that follows.

    # ---- votes ---------------------------------------------------------------------------------

    def _collectors(self, view: int) -> tuple[int, ...]:
        """Who collects the votes of a view (A1): its leader and the next one."""
        leaders = {self._schedule.leader(view), self._schedule.leader(view + 1)}
        return tuple(sorted(leaders))

    def _apply_proposal_message(self, sender: int, proposal: Proposal) -> None:
        block = proposal.block
        self._on_qc(block.qc)
        if block.tc is not None:
            self._on_tc(block.tc)
        block_id = block.block_id(self._chain_id)
        seen = self._proposals.setdefault(proposal.view, _Seen(block_id, proposal.signature))
        if seen.block_id != block_id:
            # The block itself is not kept: should a quorum certify it, it is fetched by its id.
            first = (seen.block_id, seen.signature)
            second = (block_id, proposal.signature)
            view = proposal.view
            self._suspect(make_double_proposal(sender, block.epoch, view, first, second))
        elif not self._tree.is_full:
            self._add_block(block, block_id)
            self._want(block.qc)

    def _maybe_vote(self) -> None:
        """Sign a vote for the current view's proposal if safe (V1 to V3) and timely (V4)."""
        view = self._pacemaker.view
        block = self._find_votable(view)
        timely_at_ms = None if block is None else block.time_ms - self._config.clock_drift_ms
        if block is not None and timely_at_ms is not None and timely_at_ms <= self._now_ms:
            self._vote(block, self._proposals[view].block_id, view)
            timely_at_ms = None
        self._set_timer(_DEFERRED_TIMER, timely_at_ms)

    def _find_votable(self, view: int) -> Block | None:
        """The block to vote for in this view, now or once the clock reaches it."""
        seen = self._proposals.get(view)
        node = None if seen is None else self._tree.get(seen.block_id)
        if self._me is None or node is None or node.block is None:
            return None
        is_fresh = self._now_ms - node.time_ms <= self._config.block_age_max_ms
        return node.block if is_fresh and is_safe_to_vote(self._safety, node.block, view) else None

    def _vote(self, block: Block, block_id: bytes, view: int) -> None:
        vote = VoteData(block.epoch, view, block.height, block_id)
        self._safety = apply_vote(self._safety, block, vote)
        puts = make_vote_puts(self._safety, block, vote)
        self._counts.votes_signed += 1
        self._sign(vote, vote.signing_bytes(self._chain_id), puts)

    def _apply_vote_message(self, vote: Vote) -> None:
        conflicting = self._votes.add(self._now_ms, vote)
        if conflicting is not None:
            self._suspect(make_double_vote(conflicting, vote))

    def _maybe_aggregate_votes(self) -> None:
        while (view := self._votes.find_due_view(self._now_ms)) is not None:
            self._out.append(self._votes.start(view, self._token()))
        self._set_timer(_STRAGGLER_TIMER, self._votes.compute_deadline_ms())

    def _on_aggregated(self, result: Aggregated) -> None:
        for culprit in result.culprits:
            self._refuse(culprit, "signature.poison")
        qc = self._votes.finish(result)
        if qc is not None:
            self._counts.qcs_formed += 1
            self._certificates.add(qc)
            self._on_qc(qc)
            if self._me == self._schedule.leader(qc.view):
                # A dead next leader then costs one timeout, not two (A2).
                self._send(self._others, Advance(qc, None))
        tc = self._timeouts.finish(result)
        if tc is not None:
            self._counts.tcs_formed += 1
            self._certificates.add(tc)
            self._on_tc(tc)
            self._send(self._others, Advance(self._safety.high_qc, tc))

    # ---- timeouts ------------------------------------------------------------------------------

    def _on_view_expired(self) -> None:
        self._pacemaker.rearm(self._now_ms)
        if self._me is None:
            return
        if self._timeout_message is not None:
            self._send(self._everyone, self._timeout_message)
        elif not is_timed_out(self._safety):
            self._counts.timeouts_by_timer += 1
            self._time_out()

    def _time_out(self) -> None:
        """Give the view up (T1, T2)."""
        assert is_safe_to_time_out(self._safety), "the high QC is never below the lock"
        timeout = compute_timeout(self._safety)
        self._safety = apply_timeout(self._safety, timeout)
        self._pacemaker.rearm(self._now_ms)
        puts = make_timeout_puts(self._safety, timeout)
        self._sign(timeout, timeout.data.signing_bytes(self._chain_id), puts)

    def _apply_timeout_message(self, timeout: Timeout) -> None:
        self._on_qc(timeout.high_qc)
        if timeout.last_tc is not None:
            self._on_tc(timeout.last_tc)
        if timeout.data.view != self._pacemaker.view:
            return
        conflicting = self._timeouts.add(timeout)
        if conflicting is not None:
            self._suspect(make_double_timeout(conflicting, timeout))

    def _maybe_amplify(self) -> None:
        """T4: an honest member has given the view up, so everybody does."""
        if self._me is None or is_timed_out(self._safety):
            return
        if self._timeouts.power >= self._committee.honest_power:
            self._counts.timeouts_by_amplification += 1
            self._time_out()

    def _maybe_aggregate_timeouts(self) -> None:
        if self._timeouts.is_due:
            tokens = [self._token() for _ in range(self._timeouts.count_contents())]
            self._out.extend(self._timeouts.start(tokens))

    # ---- proposals -----------------------------------------------------------------------------

    def _maybe_propose(self) -> None:
        """Propose a block if this node leads the view, once, when the pace allows (L1, L2)."""
        view = self._pacemaker.view
        high_qc = self._safety.high_qc
        parent = self._tree.get(high_qc.block_id)
        is_mine = self._me is not None and self._schedule.leader(view) == self._me
        due_ms: int | None = None
        if is_mine and parent is not None and is_safe_to_propose(self._safety, view):
            contents = Contents(self._config, self._tree, parent, self._payload)
            due_ms = self._pacemaker.compute_proposal_time_ms(
                self._now_ms, parent.time_ms, contents.has_work
            )
            if due_ms <= self._now_ms or compute_entry_tc(self._safety) is not None:
                self._propose(contents, view, parent.time_ms)
                due_ms = None
        self._set_timer(_PROPOSE_TIMER, due_ms)

    def _propose(self, contents: Contents, view: int, parent_time_ms: int) -> None:
        assert self._me is not None, "an observer leads no view"
        block = contents.make_block(
            epoch=self._committee.epoch,
            view=view,
            author=self._me,
            time_ms=max(self._now_ms, parent_time_ms + 1),
            qc=self._safety.high_qc,
            tc=compute_entry_tc(self._safety),
        )
        block_id = block.block_id(self._chain_id)
        self._safety = apply_proposal(self._safety, view, block_id)
        puts = make_proposal_puts(self._safety, view, block, block_id)
        self._counts.proposals_signed += 1
        message = proposal_signing_bytes(self._chain_id, block.epoch, view, block_id)
        self._sign(block, message, puts)
        # The own proposal needs no way through the network: it can be voted for at once.
        self._proposals[view] = _Seen(block_id, b"")
        self._add_block(block, block_id)

    # ---- signing -------------------------------------------------------------------------------

    def _sign(
        self, subject: VoteData | TimeoutRecord | Block, message: bytes, puts: tuple[Put, ...]
    ) -> None:
        """Persist a decision and sign it; `_on_signed` sends it after the records (P1)."""
        after: tuple[Token, ...] = ()
        if puts:
            after = (self._persist(Store.SAFETY, puts, self._make_prune_deletes()),)
        token = self._token()
        self._to_sign[token] = _ToSign(subject, after)
        self._out.append(Sign(token, message))

    def _on_signed(self, token: Token, signature: bytes) -> None:
        decision = self._to_sign.pop(token)
        me = self._me
        assert me is not None, "an observer signs nothing"
        match decision.subject:
            case VoteData() as data:
                vote = Vote(data, me, signature)
                self._send(self._collectors(data.view), vote, decision.after)
            case TimeoutRecord(data=data, high_qc=high_qc, last_tc=last_tc):
                timeout = Timeout(data, high_qc, last_tc, me, signature)
                if data.view == self._pacemaker.view:
                    self._timeout_message = timeout
                self._send(self._everyone, timeout, decision.after)
            case Block() as block:
                proposal = Proposal(block, block.view, me, signature)
                self._send(self._others, proposal, decision.after)

    # ---- evidence ------------------------------------------------------------------------------

    def _suspect(self, suspicion: _Suspicion) -> None:
        """Two contents compete: verify both signatures, once for each kind and member."""
        offender = suspicion.offender
        if (type(suspicion), offender) in self._convicted or not self._intake.has_room(offender):
            return
        claims = compute_evidence_claims(suspicion, self._committee, self._chain_id)
        self._submit(offender, suspicion, [Check(None, claims)])

    def _convict(self, evidence: _Suspicion) -> None:
        key = (type(evidence), evidence.offender)
        if key not in self._convicted:
            self._convicted.add(key)
            self._out.append(EvidenceFound(evidence.offender, encode(evidence)))

    # ---- serving and fetching --------------------------------------------------------------------

    def _serve_blocks(self, sender: int, request: BlockRequest) -> None:
        if not self._take_permit(self._buckets, sender):
            return
        blocks: list[Block] = []
        block_id = request.block_id
        while len(blocks) < BLOCKS_MAX_PER_RESPONSE:
            block = self._tree.find_block(block_id)
            if block is None or block.height <= request.above_height:
                break
            blocks.append(block)
            block_id = block.parent_id
        self._send((sender,), BlockResponse(select_response_blocks(blocks)))

    def _serve_committed(self, sender: int, from_height: int) -> None:
        if not self._take_permit(self._buckets, sender):
            return
        committed_height = self._tree.root.height
        if 1 <= from_height <= committed_height:
            self._out.append(ServeCommitted(sender, from_height, committed_height))
        else:
            self._send((sender,), CommittedResponse((), None, committed_height))

    def _reply_advance(self, sender: int) -> None:
        """A1 of old views: tell a member that lags which certificates ended its view."""
        if sender != self._me and self._take_permit(self._advance_buckets, sender):
            self._send((sender,), Advance(self._safety.high_qc, compute_entry_tc(self._safety)))

    def _take_permit(self, buckets: dict[int, TokenBucket], sender: int) -> bool:
        # All who are not members share one bucket.
        key = min(sender, len(self._committee))
        bucket = buckets.get(key)
        if bucket is None:
            bucket = buckets[key] = TokenBucket(SERVE_BURST, SERVE_REFILL_MS)
        return bucket.take(self._now_ms)

    def _maybe_fetch(self) -> None:
        """Ask for what the newest certificate needs and the tree lacks (S1, S2)."""
        self._want(self._safety.high_qc)
        for target in self._sync.targets():
            self._fetch(target)
        self._set_timer(_SYNC_TIMER, self._sync.compute_deadline_ms())

    def _want(self, qc: QC) -> None:
        if self._tree.get(qc.block_id) is None and qc.height > self._tree.root.height:
            self._sync.want(qc, self._compute_sync_peers(qc))

    def _fetch(self, target: Target) -> None:
        missing_id = self._tree.find_missing_ancestor(target.qc.block_id)
        if missing_id is None or target.qc.height <= self._tree.root.height:
            self._sync.drop(target.qc.block_id)
            return
        root_height = self._tree.root.height
        frontier = self._tree.get(self._frontier_id)
        from_height = (root_height if frontier is None else frontier.height) + 1
        request = self._sync.next_request(
            self._now_ms, target, missing_id, root_height, from_height
        )
        if request is not None:
            peer, message = request
            self._send((peer,), message)

    def _compute_sync_peers(self, qc: QC) -> list[int]:
        """The signers, who hold the block durably, starting elsewhere for each of us."""
        signers = decode_bitmap(qc.signers, len(self._committee))
        peers = [index for index in signers if index != self._me]
        start = (self._me or 0) % max(len(peers), 1)
        return peers[start:] + peers[:start]

    def _on_block_response(self, sender: int, response: BlockResponse) -> None:
        if not self._sync.is_solicited(sender, by_height=False):
            return
        request = self._sync.take_answer(sender)
        try:
            chain = self._sync.compute_chain(request, response)
        except ValidationError as error:
            self._refuse(sender, error.code, error.detail)
            return
        if chain:
            self._sync.record_progress(sender)
        for block_id, block in chain:
            self._add_block(block, block_id, is_certified=True)

    def _on_committed_response(self, sender: int, response: CommittedResponse) -> None:
        if response.proof is None or not self._sync.is_solicited(sender, by_height=True):
            return
        self._sync.take_answer(sender)
        try:
            chain = self._sync.compute_committed_chain(response.blocks, response.proof)
        except ValidationError as error:
            self._refuse(sender, error.code, error.detail)
            return
        if self._tree.get(chain[0][1].parent_id) is None:
            # It does not continue what is here; go on from the root.
            self._frontier_id = self._tree.root.block_id
            return
        last_id = chain[-1][0]
        if self._tree.get(last_id) is None:
            self._sync.record_progress(sender)
        for block_id, block in chain:
            self._add_block(block, block_id, is_certified=True)
        self._frontier_id = last_id
        self._on_qc(response.proof)

    # ---- restart -------------------------------------------------------------------------------

    def _restore_blocks(self, blocks: Sequence[Block]) -> None:
        """R1: rebuild the tree; the commit rule runs over its certificates again."""
        for block in blocks:
            block_id = block.block_id(self._chain_id)
            if block.height <= self._tree.root.height:
                self._tree.keep_committed(block, block_id)
                continue
            # Each was verified before it was voted for, its certificates included.
            self._certificates.add(block.qc)
            self._safety = apply_qc(self._safety, block.qc)
            self._add_block(block, block_id)

    def _resume_signing(self) -> None:
        """R3, R4: say again what was said last, in the same bytes; it may never have left."""
        if self._me is None:
            return
        safety, view = self._safety, self._pacemaker.view
        vote, timeout = safety.last_vote, safety.last_timeout
        if safety.last_proposed_view == view:
            block = self._tree.find_block(safety.last_proposed_id)
            assert block is not None, "a proposal and its block are one record"
            self._proposals[view] = _Seen(safety.last_proposed_id, b"")
            message = proposal_signing_bytes(
                self._chain_id, block.epoch, view, safety.last_proposed_id
            )
            self._sign(block, message, ())
        if vote is not None and vote.view >= view - VIEW_BEHIND_MAX:
            self._sign(vote, vote.signing_bytes(self._chain_id), ())
        if timeout is not None and timeout.data.view == view:
            self._sign(timeout, timeout.data.signing_bytes(self._chain_id), ())

    # ---- effects -------------------------------------------------------------------------------

    def _token(self) -> Token:
        self._token_number += 1
        return Token(COMPONENT, self._token_number)

    def _persist(
        self, store: Store, puts: tuple[Put, ...], deletes: tuple[Delete, ...] = ()
    ) -> Token:
        token = self._token()
        self._out.append(Persist(token, store, puts, deletes))
        return token

    def _make_prune_deletes(self) -> tuple[Delete, ...]:
        """P3: drop safety records of heights that were archived in an earlier turn.

        Nothing waits for the archive, so the last `COMMITTED_BLOCKS_KEPT` heights stay in both
        stores: after a loss of power the archive may end a little below them.
        """
        root_height = self._tree.root.height
        if root_height < self._archived_height + PRUNE_INTERVAL_HEIGHTS:
            return ()
        below_height = min(self._archived_height, root_height - COMMITTED_BLOCKS_KEPT + 1)
        self._archived_height = root_height
        below_view = self._tree.find_view_at(below_height)
        return () if below_view is None else make_prune_deletes(below_height, below_view)

    def _send(self, to: tuple[int, ...], message: Message, after: tuple[Token, ...] = ()) -> None:
        if to:
            self._out.append(Send(to, message, after))

    def _set_timer(self, name: str, deadline_ms: int | None) -> None:
        if self._timers.get(name) == deadline_ms:
            return
        if deadline_ms is None:
            del self._timers[name]
        else:
            self._timers[name] = deadline_ms
        self._out.append(SetTimer(name, deadline_ms))

    def _refuse(self, member: int, code: str, detail: str = "") -> None:
        self._counts.messages_refused += 1
        self._out.append(Misbehaviour(member, code, detail))

    def _halt(self, code: str, detail: str) -> None:
        self._is_halted = True
        self._out.append(Halt(code, detail))

    def _take_effects(self) -> list[Effect]:
        effects, self._out = self._out, []
        return effects
