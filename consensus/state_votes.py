"""Everybody's state votes: collected by height, aggregated, and compared with each other.

Each member has one slot a height. Signatures are aggregated unverified, one aggregation at a time;
a member whose signature turns out wrong is not heard again. Which heights are open is the caller's
to say, so memory is bounded by that window times the committee.
"""

from committee.committee import Committee
from consensus.bans import Bans
from consensus.effects import (
    Aggregate,
    Aggregated,
    Alarm,
    Effect,
    EvidenceFound,
    Misbehaviour,
    Token,
    Verified,
    Verify,
)
from consensus.evidence import DoubleStateVote, compute_evidence_claims, make_double_state_vote
from consensus.messages import StateVote
from consensus.ownership import Tokens
from consensus.types import CheckpointHeader, StateCertificate
from crypto.bitmap import encode_bitmap
from crypto.codec import encode


class HeightVotes:
    """The votes of one height."""

    __slots__ = ("is_split_reported", "votes")

    def __init__(self) -> None:
        self.votes: dict[int, StateVote] = {}
        self.is_split_reported = False

    @property
    def is_unanimous(self) -> bool:
        """Is there one header at most?"""
        first: CheckpointHeader | None = None
        for vote in self.votes.values():
            if first is None:
                first = vote.header
            elif vote.header != first:
                return False
        return True

    def group_by_header(self) -> dict[CheckpointHeader, list[StateVote]]:
        """Votes by header, each group by rising author."""
        groups: dict[CheckpointHeader, list[StateVote]] = {}
        for author in sorted(self.votes):
            vote = self.votes[author]
            groups.setdefault(vote.header, []).append(vote)
        return groups


class StateVoteCollector:
    """Votes of one epoch's committee, by height."""

    def __init__(self, chain_id: bytes, committee: Committee, tokens: Tokens) -> None:
        self._chain_id = chain_id
        self._committee = committee
        self._tokens = tokens
        self._heights: dict[int, HeightVotes] = {}
        self._unexamined: set[int] = set()
        """Heights with votes that may have made a quorum since they were last looked at."""
        self._aggregating: tuple[Token, CheckpointHeader] | None = None
        self._suspected: set[int] = set()
        """Members of whom one contradiction was looked into: more cost work and prove no more."""
        self._verifying: dict[Token, DoubleStateVote] = {}
        self._bans = Bans()

    def __len__(self) -> int:
        """Votes in memory."""
        return sum(len(height.votes) for height in self._heights.values())

    def drop_outside(self, window: range) -> None:
        """Forget the votes of heights that are not open any more."""
        for height in [each for each in self._heights if each not in window]:
            del self._heights[height]
        self._unexamined.intersection_update(self._heights)

    def offer(self, vote: StateVote) -> list[Effect]:
        """Count a vote that its author itself sent, for a height that is open."""
        header = vote.header
        if vote.author in self._bans:
            return []
        slot = self._heights.setdefault(header.height, HeightVotes())
        first = slot.votes.setdefault(vote.author, vote)
        if first.header != header:
            return self._suspect(first, vote)
        if first is not vote:
            return []
        self._unexamined.add(header.height)
        return self._check_split(header.height, slot) + self.aggregate()

    # ---- contradictions -----------------------------------------------------------------------

    def _suspect(self, first: StateVote, second: StateVote) -> list[Effect]:
        """Verify both signatures of a contradiction: once a member."""
        if first.author in self._suspected:
            return []
        self._suspected.add(first.author)
        evidence = make_double_state_vote(first, second)
        token = self._tokens.issue()
        self._verifying[token] = evidence
        claims = compute_evidence_claims(evidence, self._committee, self._chain_id)
        return [Verify(token, claims)]

    def on_verified(self, event: Verified) -> list[Effect]:
        """The verdict on a contradiction: a conviction, or a bad signature."""
        evidence = self._verifying.pop(event.token, None)
        if evidence is None:
            return []
        if not all(event.results):
            self._ban(evidence.offender)
            return [Misbehaviour(evidence.offender, "state.vote_invalid")]
        return [EvidenceFound(evidence.offender, encode(evidence))]

    def _check_split(self, height: int, slot: HeightVotes) -> list[Effect]:
        """Alarm once if even all the votes still out cannot bring one header to a quorum."""
        if slot.is_split_reported or slot.is_unanimous:
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

    def aggregate(self) -> list[Effect]:
        """Start on the highest quorum, one at a time: a higher certificate covers lower ones.

        A height whose votes have not changed since it had no quorum still has none, so a vote
        costs one look at its own height, however many heights somebody votes for in advance.
        """
        if self._aggregating is not None:
            return []
        needed = self._committee.quorum_power
        for height in sorted(self._unexamined, reverse=True):
            slot = self._heights[height]
            if self._committee.power_of(slot.votes) < needed:
                self._unexamined.discard(height)
                continue
            for header, votes in slot.group_by_header().items():
                authors = [vote.author for vote in votes]
                if self._committee.power_of(authors) < needed:
                    continue
                token = self._tokens.issue()
                self._aggregating = (token, header)
                members = self._committee.members
                partials = tuple(
                    (vote.author, members[vote.author].consensus_key, vote.signature)
                    for vote in votes
                )
                # It stays unexamined: if bad signatures spoil it, the rest may be a quorum.
                return [Aggregate(token, header.signing_bytes(self._chain_id), partials)]
            self._unexamined.discard(height)
        return []

    def on_aggregated(self, event: Aggregated) -> tuple[StateCertificate | None, list[Effect]]:
        """A certificate if a quorum is left without the culprits, and their blame."""
        if self._aggregating is None or self._aggregating[0] != event.token:
            return None, []
        _, header = self._aggregating
        self._aggregating = None
        effects: list[Effect] = []
        for culprit in event.culprits:
            self._ban(culprit)
            effects.append(Misbehaviour(culprit, "state.vote_invalid"))
        if self._committee.power_of(event.signers) < self._committee.quorum_power:
            return None, effects
        signers = encode_bitmap(event.signers, len(self._committee))
        return StateCertificate(header, signers, event.signature), effects

    def _ban(self, member: int) -> None:
        self._bans.add(member)
        for slot in self._heights.values():
            slot.votes.pop(member, None)
