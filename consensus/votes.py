"""Collecting votes and timeouts into certificates.

Every member has one slot a view for each kind, so nobody is counted twice and memory is bounded by
the look-ahead times the committee. Signatures are aggregated first and verified once; a member
whose signature spoils an aggregate is evicted and banned until the restart, and the rest goes on.
A second, different vote or timeout in a taken slot is handed back: it may convict its author.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from committee.committee import Committee
from consensus.bans import Bans
from consensus.effects import Aggregate, Aggregated, Token
from consensus.messages import Timeout, Vote
from consensus.types import QC, TC, TimeoutData, TimeoutGroup, VoteData
from crypto.bitmap import encode_bitmap

VIEW_AHEAD_MAX: Final = 10
"""Votes further than this above the current view are refused."""

VIEW_BEHIND_MAX: Final = 1
"""Votes this far below the current view still count: a late QC shortens the chain's recovery."""


@dataclass
class _ViewVotes:
    """The votes of one view."""

    slots: dict[int, Vote] = field(default_factory=dict)
    quorum_at_ms: int | None = None
    """When a quorum first stood behind one block."""
    token: Token | None = None
    """The aggregation under way."""
    is_certified: bool = False


class VoteCollector:
    """Votes by view, for a member that leads one of two neighbouring views."""

    def __init__(
        self,
        chain_id: bytes,
        committee: Committee,
        bans: Bans,
        compute_wait_ms: Callable[[int, bool], int],
    ) -> None:
        """`compute_wait_ms(view, is_complete)`: how long a quorum of a view waits before it is
        aggregated, and whether all members have voted."""
        self._chain_id = chain_id
        self._committee = committee
        self._bans = bans
        self._compute_wait_ms = compute_wait_ms
        self._views: dict[int, _ViewVotes] = {}

    @property
    def pending_count(self) -> int:
        """Votes held."""
        return sum(len(votes.slots) for votes in self._views.values())

    def add(self, now_ms: int, vote: Vote) -> Vote | None:
        """Count a vote. Returns the author's earlier, different vote of the view if there is one;
        the earlier one stays."""
        if vote.author in self._bans:
            return None
        votes = self._views.setdefault(vote.data.view, _ViewVotes())
        held = votes.slots.setdefault(vote.author, vote)
        if held.data != vote.data:
            return held
        if votes.quorum_at_ms is None and self._find_quorum(votes) is not None:
            votes.quorum_at_ms = now_ms
        return None

    def has_quorum(self, view: int) -> bool:
        """Does a quorum stand, or did one stand, behind one block of a view?"""
        votes = self._views.get(view)
        return votes is not None and votes.quorum_at_ms is not None

    def compute_due_ms(self) -> dict[int, int]:
        """When to aggregate, by view, where a quorum waits for it."""
        return {
            view: votes.quorum_at_ms + self._compute_wait_ms(view, self._is_complete(votes))
            for view, votes in self._views.items()
            if votes.quorum_at_ms is not None and votes.token is None and not votes.is_certified
        }

    def _is_complete(self, votes: _ViewVotes) -> bool:
        return len(votes.slots) >= len(self._committee) - len(self._bans)

    def start(self, view: int, token: Token) -> Aggregate:
        """Begin to aggregate a due view."""
        votes = self._views[view]
        data = self._find_quorum(votes)
        assert data is not None, "only a quorum is aggregated"
        assert votes.token is None, "one aggregation of a view at a time"
        votes.token = token
        members = self._committee.members
        partials = tuple(
            (author, members[author].consensus_key, votes.slots[author].signature)
            for author in self._find_voters(votes, data)
        )
        return Aggregate(token, data.signing_bytes(self._chain_id), partials)

    def finish(self, result: Aggregated) -> QC | None:
        """Take an aggregation's outcome; returns the QC unless culprits broke the quorum."""
        view = next((view for view, v in self._views.items() if v.token == result.token), None)
        if view is None:
            return None
        votes = self._views[view]
        data = self._find_quorum(votes)
        assert data is not None, "votes stay until their aggregation ends"
        votes.token = None
        self._bans.add(*result.culprits)
        for culprit in result.culprits:
            del votes.slots[culprit]
        if self._committee.power_of(result.signers) < self._committee.quorum_power:
            if self._find_quorum(votes) is None:
                votes.quorum_at_ms = None
            return None
        votes.is_certified = True
        bitmap = encode_bitmap(result.signers, len(self._committee))
        return QC(data, bitmap, result.signature)

    def note_certified(self, view: int) -> None:
        """Somebody else's QC of the view is known: another one would tell nothing new."""
        if view in self._views:
            self._views[view].is_certified = True

    def prune(self, below_view: int) -> None:
        """Forget views that no longer matter."""
        self._views = {view: v for view, v in self._views.items() if view >= below_view}

    def _find_quorum(self, votes: _ViewVotes) -> VoteData | None:
        """What Q power voted for; at most one content can have it."""
        needed = self._committee.quorum_power
        if self._committee.power_of(votes.slots) < needed:
            return None
        for data in {vote.data: None for vote in votes.slots.values()}:
            if self._committee.power_of(self._find_voters(votes, data)) >= needed:
                return data
        return None

    def _find_voters(self, votes: _ViewVotes, data: VoteData) -> list[int]:
        return sorted(author for author, vote in votes.slots.items() if vote.data == data)


@dataclass
class _Group:
    """One content's aggregation within a TC attempt."""

    data: TimeoutData
    signers: tuple[int, ...] = ()
    signature: bytes = b""
    is_done: bool = False


class TimeoutCollector:
    """The timeouts of the current view.

    One view at a time suffices: a valid timeout for a later view carries the certificate that
    makes that view the current one first, so there is nothing to buffer, and timeouts of different
    views can never be counted together.
    """

    def __init__(self, chain_id: bytes, committee: Committee, bans: Bans) -> None:
        self._chain_id = chain_id
        self._committee = committee
        self._bans = bans
        self._slots: dict[int, Timeout] = {}
        self._groups: dict[Token, _Group] = {}
        self._is_certified = False

    @property
    def pending_count(self) -> int:
        """Timeouts held."""
        return len(self._slots)

    def clear(self) -> None:
        """A new view begins."""
        self._slots.clear()
        self._groups.clear()
        self._is_certified = False

    def add(self, timeout: Timeout) -> Timeout | None:
        """Count a timeout of the current view. Returns the author's earlier, different one if
        there is one; the earlier one stays."""
        if timeout.author in self._bans:
            return None
        held = self._slots.setdefault(timeout.author, timeout)
        return held if held.data != timeout.data else None

    @property
    def power(self) -> int:
        """Power of the members that gave the view up."""
        return self._committee.power_of(self._slots) if self._slots else 0

    @property
    def is_due(self) -> bool:
        """Is there a quorum to aggregate?"""
        is_idle = not self._groups and not self._is_certified
        return is_idle and self.power >= self._committee.quorum_power

    def count_contents(self) -> int:
        """How many aggregations `start` begins."""
        return len({timeout.data for timeout in self._slots.values()})

    def start(self, tokens: Iterable[Token]) -> list[Aggregate]:
        """Begin one aggregation for each content signed, under the tokens given."""
        assert self.is_due, "only a quorum is aggregated, once"
        contents: dict[TimeoutData, list[int]] = {}
        for author, timeout in sorted(self._slots.items()):
            contents.setdefault(timeout.data, []).append(author)
        aggregates: list[Aggregate] = []
        members = self._committee.members
        for token, (data, authors) in zip(tokens, contents.items(), strict=True):
            self._groups[token] = _Group(data)
            partials = tuple(
                (author, members[author].consensus_key, self._slots[author].signature)
                for author in authors
            )
            aggregates.append(Aggregate(token, data.signing_bytes(self._chain_id), partials))
        return aggregates

    def finish(self, result: Aggregated) -> TC | None:
        """Take one aggregation's outcome; returns the TC once all are in and a quorum is left."""
        group = self._groups.get(result.token)
        if group is None:
            return None
        group.signers, group.signature = result.signers, result.signature
        group.is_done = True
        self._bans.add(*result.culprits)
        for culprit in result.culprits:
            self._slots.pop(culprit, None)
        if not all(each.is_done for each in self._groups.values()):
            return None
        groups = [each for each in self._groups.values() if each.signers]
        self._groups.clear()
        signers = [signer for each in groups for signer in each.signers]
        if self._committee.power_of(signers) < self._committee.quorum_power:
            return None
        self._is_certified = True
        return self._make_tc(groups)

    def _make_tc(self, groups: list[_Group]) -> TC:
        groups.sort(key=lambda group: (group.data.high_qc_view, group.data.tip_view))
        newest = groups[-1]
        return TC(
            epoch=newest.data.epoch,
            view=newest.data.view,
            groups=tuple(
                TimeoutGroup(
                    group.data.high_qc_view,
                    group.data.tip_view,
                    encode_bitmap(group.signers, len(self._committee)),
                    group.signature,
                )
                for group in groups
            ),
            high_qc=self._slots[newest.signers[0]].high_qc,
        )
