"""Fetching links that a node misses.

A node needs the chain behind every committed tip (to execute), behind every certified tip (so that
it is there when committed) and behind the newest batch that an author sent (to acknowledge it).
`LaneFetcher` walks from such a target down to the first hole and asks for it: the signers of the
certificate in turn, or the author when there is no certificate. One request a lane is in flight.
Answers come newest first; each is accepted only if its digest is the one wanted, and makes its
parent the next one wanted, so that a responder can neither add nor replace anything.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from consensus.effects import Effect, Send
from consensus.lane_chain import LaneChain, LanePoint
from consensus.lane_limits import LanesConfig, compute_backoff_ms
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


@dataclass(slots=True)
class _Fetch:
    """One lane's request in flight."""

    wanted: LanePoint
    above_sequence: int
    target: Target
    attempt: int
    """Counts requests without an answer; chooses the source."""
    deadline_ms: int
    count: int = 0
    size_bytes: int = 0

    def is_answer_complete(self) -> bool:
        """Has the responder reached its own limits? Both sides know them."""
        return self.count >= BATCHES_MAX_PER_REQUEST or self.size_bytes >= SYNC_RESPONSE_MAX_BYTES


@dataclass(slots=True)
class LaneFetcher:
    """What is being fetched, by lane."""

    config: LanesConfig
    _fetches: dict[int, _Fetch] = field(default_factory=dict)
    _noticed: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    """The hole last seen in a lane, and since when."""

    def __len__(self) -> int:
        return len(self._fetches)

    def is_wanted(self, author: int, point: LanePoint) -> bool:
        """Is this the batch that a request in flight asks for?"""
        fetch = self._fetches.get(author)
        return fetch is not None and fetch.wanted == point

    def poll(
        self, now_ms: int, author: int, chain: LaneChain, targets: list[Target]
    ) -> list[Effect]:
        """Start, repeat or end the fetching of one lane. `targets` by falling importance."""
        found = _find_first_hole(chain, targets)
        fetch = self._fetches.get(author)
        if found is None:
            self._fetches.pop(author, None)
            self._noticed.pop(author, None)
            return []
        hole, target = found
        if fetch is None:
            if not (target.is_urgent or self._may_start(now_ms, author, hole.batch_id)):
                return []
            return [self._request(now_ms, author, chain, hole, target, 0)]
        if fetch.wanted.batch_id in chain:
            return [self._request(now_ms, author, chain, hole, target, fetch.attempt)]
        if target.is_urgent and not fetch.target.is_urgent:
            # A gap that only the author vouches for must not hold up what was committed.
            return [self._request(now_ms, author, chain, hole, target, 0)]
        if now_ms < fetch.deadline_ms:
            return []
        return [self._request(now_ms, author, chain, hole, target, fetch.attempt + 1)]

    def _may_start(self, now_ms: int, author: int, hole: bytes) -> bool:
        noticed = self._noticed.get(author)
        if noticed is None or noticed[0] != hole:
            self._noticed[author] = (hole, now_ms)
            return False
        if now_ms - noticed[1] < self.config.fetch_delay_ms:
            return False
        return len(self._fetches) < self.config.fetches_in_flight_max

    def _request(
        self,
        now_ms: int,
        author: int,
        chain: LaneChain,
        hole: LanePoint,
        target: Target,
        attempt: int,
    ) -> Effect:
        """The wait doubles only when every source has been asked once more."""
        count = len(target.sources)
        above = target.above_sequence
        if chain.tip.sequence < hole.sequence:
            above = max(above, chain.tip.sequence)
        wait_ms = compute_backoff_ms(self.config.fetch_retry_ms, attempt // count)
        self._fetches[author] = _Fetch(hole, above, target, attempt, now_ms + wait_ms)
        source = target.sources[attempt % count]
        if hole.sequence == above + 1:
            return Send((source,), BatchRequest((hole.batch_id,)))
        return Send((source,), LaneRequest(hole.batch_id, above))

    def on_accepted(self, now_ms: int, author: int, chain: LaneChain, header: BatchHeader) -> bool:
        """A wanted batch came in. Returns whether `poll` should look for the next hole now;
        otherwise the rest of the answer is awaited."""
        fetch = self._fetches[author]
        fetch.count += 1
        fetch.size_bytes += header.size_bytes
        parent = LanePoint(header.sequence - 1, header.parent)
        is_chain_closed = parent.sequence <= fetch.above_sequence or parent.batch_id in chain
        if is_chain_closed or fetch.is_answer_complete():
            return True
        fetch.wanted = parent
        fetch.deadline_ms = now_ms + self.config.fetch_retry_ms
        return False


def _find_first_hole(chain: LaneChain, targets: list[Target]) -> tuple[LanePoint, Target] | None:
    for target in targets:
        hole = chain.find_hole(target.tip, target.above_sequence)
        if hole is not None:
            return hole, target
    return None
