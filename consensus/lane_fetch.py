"""Fetching links that a node misses.

A node needs the chain behind every committed tip (to execute), behind every certified tip (so that
it is there when committed) and behind the newest batch that an author sent (to acknowledge it).
`LaneFetcher` walks from such targets down to their first holes and asks for them: the signers of
the certificate in turn, or the author when there is no certificate. One request a lane is in
flight. Two kinds of request fill two kinds of gap:

- many known holes, as after a long sleep, when each missed block names a tip: `BatchRequest`;
- one hole with more behind it whose digests are not known: `LaneRequest`, answered newest first,
  where each batch accepted makes its parent wanted.

A batch is accepted only if its digest is wanted, so a responder can neither add nor replace any,
and only from a member that was asked, so nobody can outrun the one whose turn it is. A responder
that gives nothing makes the next wait longer once everybody was asked; one that gives too little is
not asked twice in a row. A copy fills its hole before its check has ended. If the check fails, that
member's copies of that batch are refused, and the next one is asked, until the batch is ready.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from consensus.backoff import compute_doubling_wait_ms
from consensus.effects import Effect, Send
from consensus.lane_chain import LaneChain, LanePoint
from consensus.lane_limits import FAILED_BATCHES_MAX_PER_LANE, LanesConfig
from consensus.messages import (
    BATCHES_MAX_PER_REQUEST,
    SYNC_RESPONSE_MAX_BYTES,
    BatchRequest,
    LaneRequest,
)
from consensus.types import BatchHeader


class Target(NamedTuple):
    """A tip whose chain is needed down to, not including, a sequence."""

    tip: LanePoint
    above_sequence: int
    sources: tuple[int, ...]
    """Members that are said to hold it; never empty, never the node itself."""
    is_urgent: bool
    """Committed: it is not on its way any more, so do not wait for it."""


@dataclass
class _Fetch:
    """One lane's request in flight."""

    target: Target
    wanted: set[LanePoint]
    above_sequence: int
    is_stretch: bool
    """A `LaneRequest`: the parent of what arrives is wanted next."""
    turn: int
    """Chooses the source."""
    asked: frozenset[int]
    """Members who were asked since the lane last missed nothing: any of them may still answer."""
    misses: int
    """Requests without any answer since the last one that brought something."""
    deadline_ms: int
    count: int = 0
    size_bytes: int = 0

    def drop_held(self, chain: LaneChain) -> None:
        """What has come in, by whichever way, is wanted no more."""
        self.wanted = {point for point in self.wanted if point.batch_id not in chain}

    def is_answer_complete(self) -> bool:
        """Has all arrived, or has the responder reached its own limits, which both sides know?"""
        return (
            not self.wanted
            or self.count >= BATCHES_MAX_PER_REQUEST
            or self.size_bytes >= SYNC_RESPONSE_MAX_BYTES
        )


@dataclass
class LaneFetcher:
    """What is being fetched, by lane."""

    config: LanesConfig
    _fetches: dict[int, _Fetch] = field(default_factory=dict)
    _noticed: dict[int, tuple[LanePoint, int]] = field(default_factory=dict)
    """The hole last seen in a lane, and since when."""
    _failed: dict[int, dict[bytes, set[int]]] = field(default_factory=dict)
    """By lane: batches that are not ready yet, and the members whose copy failed its check."""

    def __len__(self) -> int:
        return len(self._fetches)

    def count_failed(self) -> int:
        """Batches with a failed copy that are remembered."""
        return sum(len(failed) for failed in self._failed.values())

    def is_wanted(self, author: int, point: LanePoint) -> bool:
        """Does a request in flight ask for this batch?"""
        fetch = self._fetches.get(author)
        return fetch is not None and point in fetch.wanted

    def is_answer(self, author: int, point: LanePoint, sender: int) -> bool:
        """Was this member asked for this wanted batch, and did it give no bad copy of it yet?"""
        if not self.is_wanted(author, point):
            return False
        failed = self._failed.get(author, {}).get(point.batch_id, ())
        return sender in self._fetches[author].asked and sender not in failed

    def on_failed(self, author: int, batch_id: bytes, sender: int) -> None:
        """A member's copy of a fetched batch failed its check: let it be somebody else's turn."""
        failed = self._failed.setdefault(author, {})
        if batch_id in failed or len(failed) < FAILED_BATCHES_MAX_PER_LANE:
            failed.setdefault(batch_id, set()).add(sender)

    def poll(
        self, now_ms: int, author: int, chain: LaneChain, targets: list[Target]
    ) -> list[Effect]:
        """Start, repeat or end the fetching of one lane. `targets` by falling importance."""
        holes, target = _find_holes(chain, targets)
        fetch = self._fetches.get(author)
        self._forget_ready(author, chain, is_anything_wanted=target is not None)
        if target is None:
            self._fetches.pop(author, None)
            self._noticed.pop(author, None)
            return []
        if fetch is None:
            if not self._may_start(now_ms, author, holes[0], target.is_urgent):
                return []
            return [self._request(now_ms, author, chain, holes, target, 0, 0)]
        fetch.drop_held(chain)
        if fetch.is_answer_complete():
            return [self._request(now_ms, author, chain, holes, target, fetch.turn, 0)]
        if target.is_urgent and not fetch.target.is_urgent:
            # A gap that only the author vouches for must not hold up what was committed.
            return [self._request(now_ms, author, chain, holes, target, 0, 0)]
        if now_ms < fetch.deadline_ms:
            return []
        misses = 0 if fetch.count else fetch.misses + 1
        return [self._request(now_ms, author, chain, holes, target, fetch.turn + 1, misses)]

    def _may_start(self, now_ms: int, author: int, hole: LanePoint, is_urgent: bool) -> bool:
        others = sum(fetch.target.is_urgent == is_urgent for fetch in self._fetches.values())
        if not is_urgent:
            noticed = self._noticed.get(author)
            if noticed is None or noticed[0] != hole:
                self._noticed[author] = (hole, now_ms)
                return False
            if now_ms - noticed[1] < self.config.fetch_delay_ms:
                return False
        return others < self.config.fetches_in_flight_max

    def _request(
        self,
        now_ms: int,
        author: int,
        chain: LaneChain,
        holes: list[LanePoint],
        target: Target,
        turn: int,
        misses: int,
    ) -> Effect:
        above = target.above_sequence
        if chain.tip.sequence < holes[0].sequence:
            above = max(above, chain.tip.sequence)
        turn = self._pass_over_failed(author, holes[0], target.sources, turn)
        count = len(target.sources)
        source = target.sources[turn % count]
        wait_ms = compute_doubling_wait_ms(self.config.fetch_retry_ms, misses // count)
        is_stretch = len(holes) == 1 and holes[0].sequence > above + 1
        earlier = self._fetches.get(author)
        asked = frozenset({source}) if earlier is None else earlier.asked | {source}
        self._fetches[author] = _Fetch(
            target, set(holes), above, is_stretch, turn, asked, misses, now_ms + wait_ms
        )
        if is_stretch:
            return Send((source,), LaneRequest(holes[0].batch_id, above))
        return Send((source,), BatchRequest(tuple(hole.batch_id for hole in holes)))

    def _pass_over_failed(
        self, author: int, hole: LanePoint, sources: tuple[int, ...], turn: int
    ) -> int:
        """The first turn from this one on of a source that gave no bad copy of a batch yet."""
        failed = self._failed.get(author, {})
        bad = failed.get(hole.batch_id, ())
        for following in range(turn, turn + len(sources)):
            if sources[following % len(sources)] not in bad:
                return following
        # One of a certificate's signers is honest and holds a good copy, so this is no certificate,
        # or somebody mends a copy that was planted on it: begin again.
        failed.pop(hole.batch_id, None)
        return turn

    def _forget_ready(self, author: int, chain: LaneChain, is_anything_wanted: bool) -> None:
        """Forget the failed copies of batches that are ready, or gone and wanted no more."""
        failed = self._failed.get(author)
        if failed is None:
            return
        for batch_id in list(failed):
            link = chain.find(batch_id)
            is_done = not is_anything_wanted if link is None else link.is_ready
            if is_done:
                del failed[batch_id]
        if not failed:
            del self._failed[author]

    def on_accepted(self, now_ms: int, author: int, chain: LaneChain, header: BatchHeader) -> bool:
        """A wanted batch came in and its link was added. Returns whether `poll` should look for
        the next holes now; otherwise the rest of the answer is awaited."""
        fetch = self._fetches[author]
        fetch.drop_held(chain)
        fetch.count += 1
        fetch.size_bytes += header.size_bytes
        parent = LanePoint(header.sequence - 1, header.parent)
        if (
            fetch.is_stretch
            and parent.sequence > fetch.above_sequence
            and parent.batch_id not in chain
        ):
            fetch.wanted.add(parent)
        fetch.deadline_ms = now_ms + self.config.fetch_retry_ms
        return fetch.is_answer_complete()


def _find_holes(chain: LaneChain, targets: list[Target]) -> tuple[list[LanePoint], Target | None]:
    """The first target with a hole, and its hole; for a committed one also the first holes of
    the committed ones after it, as many as fit one request."""
    holes: list[LanePoint] = []
    first: Target | None = None
    for target in targets:
        if first is not None and not target.is_urgent:
            break
        hole = chain.find_hole(target.tip, target.above_sequence)
        if hole is None or hole in holes:
            continue
        holes.append(hole)
        first = first or target
        if not first.is_urgent or len(holes) == BATCHES_MAX_PER_REQUEST:
            break
    return holes, first
