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
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from committee.committee import Committee
from consensus.effects import (
    Aggregate,
    Aggregated,
    Alarm,
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
    SetTimer,
    Sign,
    Signed,
    StateCertified,
    Store,
    TimerFired,
    Token,
    Verified,
    Verify,
)
from consensus.evidence import (
    DoubleStateVote,
    compute_evidence_claims,
    make_double_state_vote,
)
from consensus.messages import StateVote
from consensus.types import Block, CheckpointHeader, StateCertificate
from crypto.bitmap import encode_bitmap
from crypto.codec import encode

COMPONENT: Final = "checkpoints"
RESEND_TIMER: Final = "checkpoints.resend"
STATE_VOTE_TABLE: Final = "state_vote"
"""Safety table, write-once: height (8 bytes big-endian) to the encoded header voted for."""

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

VOTES_RESENT_MAX: Final = 8
"""Newest own votes that are repeated at once."""

VOTE_RETENTION_HEIGHTS: Final = 4096
"""Vote records this far below the newest certificate are deleted from the safety store. Votes are
given only above the newest certificate, and the archive never forgets that many blocks."""

RESEND_MS: Final = 500
"""First wait for a certificate; doubles up to `RESEND_MAX_MS`, and starts anew with a new vote."""

RESEND_MAX_MS: Final = 8000


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


class _Height:
    """The votes of one height."""

    __slots__ = ("is_split_reported", "votes")

    def __init__(self) -> None:
        self.votes: dict[int, StateVote] = {}
        self.is_split_reported = False

    def group_by_header(self) -> dict[CheckpointHeader, list[StateVote]]:
        """Votes by header, each group by rising author."""
        groups: dict[CheckpointHeader, list[StateVote]] = {}
        for author in sorted(self.votes):
            vote = self.votes[author]
            groups.setdefault(vote.header, []).append(vote)
        return groups


class _OwnVote(NamedTuple):
    """An own vote whose signature is awaited, and the record that must be durable first."""

    header: CheckpointHeader
    after: tuple[Token, ...]


class Checkpoints:
    """State votes and certificates of one epoch. Pure: results of slow work come as events."""

    def __init__(
        self,
        chain_id: bytes,
        committee: Committee,
        me: int,
        recovered: RecoveredCheckpoints = NO_CHECKPOINTS,
    ) -> None:
        self._chain_id = chain_id
        self._committee = committee
        self._me = me
        self._everybody = tuple(range(len(committee)))
        self._newest = recovered.certificate
        self._own = dict(recovered.votes)
        self._highest_own = max(self._own, default=0)
        self._certified: dict[int, CheckpointHeader] = {}
        self._heights: dict[int, _Height] = {}
        self._unexamined: set[int] = set()
        """Heights with votes that may have made a quorum since they were last looked at."""
        self._signing: dict[Token, _OwnVote] = {}
        self._own_votes: dict[int, Send] = {}
        self._aggregating: tuple[Token, CheckpointHeader] | None = None
        self._suspected: set[int] = set()
        """Members of whom one contradiction was looked into: more cost work and prove no more."""
        self._verifying: dict[Token, DoubleStateVote] = {}
        self._banned: set[int] = set()
        self._tokens_issued = 0
        self._resend_ms: int | None = None
        self._wait_ms = RESEND_MS
        self._is_halted = False

    # ---- what the composition asks ------------------------------------------------------------

    def newest(self) -> StateCertificate | None:
        """The newest verified state certificate."""
        return self._newest

    def votes_held(self) -> int:
        """Votes in memory, for metrics and for tests of the bounds."""
        return sum(len(height.votes) for height in self._heights.values())

    # ---- what the composition tells -----------------------------------------------------------

    def start(self, now_ms: int) -> list[Effect]:
        """Repeat recorded votes that no certificate covers; execution need not come by again."""
        effects: list[Effect] = []
        for height in sorted(self._own)[-VOTES_RESENT_MAX:]:
            if height > self._certified_height():
                effects.append(self._sign(self._own[height], ()))
        return effects + self._arm(now_ms)

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
        self._drop_outside_window()
        if header.height <= self._certified_height():
            return []
        return self._vote(header) + self._arm(now_ms)

    def on_block_certificate(self, now_ms: int, certificate: StateCertificate) -> list[Effect]:
        """A block carried this certificate, and the core verified it."""
        return self._on_certificate(now_ms, certificate)

    def step(self, now_ms: int, event: Event) -> list[Effect]:
        """Handle one event; what is not for the checkpoints is ignored."""
        if self._is_halted:
            return []
        match event:
            case Received(sender, StateVote() as vote):
                return self._on_vote(sender, vote)
            case Signed(token, signature):
                return self._on_signed(now_ms, token, signature)
            case Aggregated():
                return self._on_aggregated(now_ms, event)
            case Verified():
                return self._on_verified(event)
            case TimerFired(name) if name == RESEND_TIMER:
                return self._on_resend(now_ms)
            case _:
                return []

    # ---- own votes ----------------------------------------------------------------------------

    def _issue_token(self) -> Token:
        self._tokens_issued += 1
        return Token(COMPONENT, self._tokens_issued)

    def _vote(self, header: CheckpointHeader) -> list[Effect]:
        token = self._issue_token()
        forgotten = max(0, self._certified_height() - VOTE_RETENTION_HEIGHTS)
        persist = Persist(
            token,
            Store.SAFETY,
            (Put(STATE_VOTE_TABLE, header.height.to_bytes(8, "big"), encode(header)),),
            (Delete(STATE_VOTE_TABLE, forgotten.to_bytes(8, "big")),) if forgotten else (),
        )
        return [persist, self._sign(header, (token,))]

    def _sign(self, header: CheckpointHeader, after: tuple[Token, ...]) -> Effect:
        token = self._issue_token()
        self._signing[token] = _OwnVote(header, after)
        return Sign(token, header.signing_bytes(self._chain_id))

    def _on_signed(self, now_ms: int, token: Token, signature: bytes) -> list[Effect]:
        own = self._signing.pop(token, None)
        if own is None or own.header.height <= self._certified_height():
            return []
        vote = StateVote(own.header, self._me, signature)
        # The own vote counts when it loops back, so that no certificate holds it before it is
        # durable; for the same reason a repetition names the record again.
        send = Send(self._everybody, vote, own.after)
        self._own_votes[own.header.height] = send
        if len(self._own_votes) > VOTES_RESENT_MAX:
            del self._own_votes[min(self._own_votes)]
        self._wait_ms = RESEND_MS
        return [send, *self._arm(now_ms)]

    def _arm(self, now_ms: int) -> list[Effect]:
        if self._resend_ms is not None or not self._own_votes:
            return []
        self._resend_ms = now_ms + self._wait_ms
        return [SetTimer(RESEND_TIMER, self._resend_ms)]

    def _on_resend(self, now_ms: int) -> list[Effect]:
        if self._resend_ms is None or now_ms < self._resend_ms:
            return []
        self._resend_ms = None
        self._wait_ms = min(2 * self._wait_ms, RESEND_MAX_MS)
        repeated = [self._own_votes[height] for height in sorted(self._own_votes)]
        return [*repeated, *self._arm(now_ms)]

    # ---- others' votes ------------------------------------------------------------------------

    def _certified_height(self) -> int:
        return 0 if self._newest is None else self._newest.header.height

    def _window(self) -> range:
        """The heights whose votes are collected."""
        middle = max(self._certified_height(), self._highest_own)
        lowest = max(self._certified_height() + 1, middle - VOTE_WINDOW_HEIGHTS)
        return range(lowest, middle + VOTE_WINDOW_HEIGHTS + 1)

    def _drop_outside_window(self) -> None:
        window = self._window()
        for height in [each for each in self._heights if each not in window]:
            del self._heights[height]
        self._unexamined.intersection_update(self._heights)

    def _on_vote(self, sender: int, vote: StateVote) -> list[Effect]:
        if vote.author != sender:
            return [Misbehaviour(sender, "state.vote_forged")]
        header = vote.header
        if header.epoch != self._committee.epoch or sender in self._banned:
            return []
        if header.height not in self._window():
            return []
        slot = self._heights.setdefault(header.height, _Height())
        first = slot.votes.setdefault(sender, vote)
        if first.header != header:
            return self._suspect(first, vote)
        if first is not vote:
            return []
        self._unexamined.add(header.height)
        return self._check_split(header.height, slot) + self._aggregate()

    def _suspect(self, first: StateVote, second: StateVote) -> list[Effect]:
        """Verify both signatures of a contradiction: once a member."""
        if first.author in self._suspected:
            return []
        self._suspected.add(first.author)
        evidence = make_double_state_vote(first, second)
        token = self._issue_token()
        self._verifying[token] = evidence
        claims = compute_evidence_claims(evidence, self._committee, self._chain_id)
        return [Verify(token, claims)]

    def _on_verified(self, event: Verified) -> list[Effect]:
        evidence = self._verifying.pop(event.token, None)
        if evidence is None:
            return []
        if not all(event.results):
            self._ban(evidence.offender)
            return [Misbehaviour(evidence.offender, "state.vote_invalid")]
        return [EvidenceFound(evidence.offender, encode(evidence))]

    def _check_split(self, height: int, slot: _Height) -> list[Effect]:
        """Alarm once if even all the votes still out cannot bring one header to a quorum."""
        if slot.is_split_reported:
            return []
        powers = [
            self._committee.power_of(vote.author for vote in votes)
            for votes in slot.group_by_header().values()
        ]
        missing = self._committee.total_power - sum(powers)
        if max(powers) + missing >= self._committee.quorum_power:
            return []
        slot.is_split_reported = True
        detail = f"height {height}: {len(powers)} results, none can reach a quorum"
        return [Alarm("state.split", detail)]

    # ---- certificates -------------------------------------------------------------------------

    def _aggregate(self) -> list[Effect]:
        """Start on the highest quorum, one at a time: a higher certificate covers lower ones.

        A height whose votes have not changed since it had no quorum still has none, so a vote
        costs one look at its own height, however many heights somebody votes for in advance.
        """
        if self._aggregating is not None:
            return []
        for height in sorted(self._unexamined, reverse=True):
            for header, votes in self._heights[height].group_by_header().items():
                authors = [vote.author for vote in votes]
                if self._committee.power_of(authors) < self._committee.quorum_power:
                    continue
                token = self._issue_token()
                self._aggregating = (token, header)
                partials = tuple(
                    (
                        vote.author,
                        self._committee.members[vote.author].consensus_key,
                        vote.signature,
                    )
                    for vote in votes
                )
                # It stays unexamined: if bad signatures spoil it, the rest may be a quorum.
                return [Aggregate(token, header.signing_bytes(self._chain_id), partials)]
            self._unexamined.discard(height)
        return []

    def _ban(self, member: int) -> None:
        self._banned.add(member)
        for slot in self._heights.values():
            slot.votes.pop(member, None)

    def _on_aggregated(self, now_ms: int, event: Aggregated) -> list[Effect]:
        if self._aggregating is None or self._aggregating[0] != event.token:
            return []
        _, header = self._aggregating
        self._aggregating = None
        effects: list[Effect] = []
        for culprit in event.culprits:
            self._ban(culprit)
            effects.append(Misbehaviour(culprit, "state.vote_invalid"))
        if self._committee.power_of(event.signers) >= self._committee.quorum_power:
            signers = encode_bitmap(event.signers, len(self._committee))
            certificate = StateCertificate(header, signers, event.signature)
            effects += self._on_certificate(now_ms, certificate)
        return effects + ([] if self._is_halted else self._aggregate())

    def _find_certified(self, height: int) -> CheckpointHeader | None:
        if self._newest is not None and self._newest.header.height == height:
            return self._newest.header
        return self._certified.get(height)

    def _on_certificate(self, now_ms: int, certificate: StateCertificate) -> list[Effect]:
        """A verified certificate: compare it with the own result, keep it if it is the newest."""
        if self._is_halted:
            return []
        header = certificate.header
        own = self._own.get(header.height)
        if own is not None and own != header:
            return self._halt("state.diverged", header, own)
        if header.height > self._highest_own and len(self._certified) < CERTIFIED_HEADERS_MAX:
            self._certified[header.height] = header
        if header.height <= self._certified_height():
            return []
        self._newest = certificate
        self._drop_outside_window()
        for height in [each for each in self._own_votes if each <= header.height]:
            del self._own_votes[height]
        effects: list[Effect] = [StateCertified(certificate)]
        if not self._own_votes and self._resend_ms is not None:
            self._resend_ms = None
            effects.append(SetTimer(RESEND_TIMER, None))
        return effects + self._arm(now_ms)

    def _halt(self, code: str, expected: CheckpointHeader, own: CheckpointHeader) -> list[Effect]:
        self._is_halted = True
        detail = (
            f"height {own.height}: expected state {expected.state_root.hex()}"
            f" receipts {expected.receipts_root.hex()} block {expected.block_id.hex()},"
            f" own state {own.state_root.hex()} receipts {own.receipts_root.hex()}"
            f" block {own.block_id.hex()}"
        )
        return [Halt(code, detail)]
