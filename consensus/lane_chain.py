"""One lane as this node holds it: links by digest, and the prefix that may be acknowledged.

A link is a batch header. It is *ready* once the batch is durably stored and has passed its check.
The *tip* is the newest ready link that a hash chain of ready links joins to the committed cursor.

**One batch a sequence.** A member must never acknowledge two batches at one (author, sequence),
not even across a restart. The stored batches are the durable record of that, so no further record
is written: of two batches at one sequence the node stores the second only if a certificate (hence
a digest) demands it, and from then on, in memory and after any restart alike, it finds two links
at that sequence and acknowledges nothing at or above it until the cursor has passed. Before the
second was stored only the first can have been acknowledged, since only a stored batch is ever
acknowledged. An author that is honest never meets this rule.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from consensus.types import SignedBatchHeader
from crypto.digest import ZERO_DIGEST


class LanePoint(NamedTuple):
    """A place in a lane."""

    sequence: int
    batch_id: bytes


LANE_START = LanePoint(0, ZERO_DIGEST)
"""Where every lane begins."""


@dataclass
class Link:
    """A known batch: its signed header, and what was done with its body."""

    batch_id: bytes
    signed_header: SignedBatchHeader
    is_stored: bool = False
    is_checked: bool = False
    sequence: int = field(init=False)
    """Its place in the lane."""

    def __post_init__(self) -> None:
        self.sequence = self.signed_header.header.sequence

    @property
    def is_ready(self) -> bool:
        return self.is_stored and self.is_checked


class LaneChain:
    """The links of one author."""

    def __init__(self, cursor: LanePoint) -> None:
        self.cursor = cursor
        """The newest committed tip."""
        self.tip = cursor
        self.uncommitted_size_bytes = 0
        """Bodies of all links above the cursor."""
        self._links: dict[bytes, Link] = {}
        self._at: dict[int, list[Link]] = {}
        self._forks: set[int] = set()

    def __contains__(self, batch_id: bytes) -> bool:
        return batch_id in self._links

    def __len__(self) -> int:
        return len(self._links)

    def find(self, batch_id: bytes) -> Link | None:
        """The link of this digest, or None."""
        return self._links.get(batch_id)

    def links_at(self, sequence: int) -> tuple[Link, ...]:
        """All links at a sequence: more than one only if the author equivocated."""
        return tuple(self._at.get(sequence, ()))

    def find_newest(self) -> LanePoint:
        """The highest link or the cursor, whichever is higher, whether ready or not."""
        newest = max(self._at, default=0)
        if newest <= self.cursor.sequence:
            return self.cursor
        return LanePoint(newest, self._at[newest][0].batch_id)

    def links_above_cursor(self) -> list[Link]:
        """All links above the cursor, by rising sequence."""
        above = sorted(sequence for sequence in self._at if sequence > self.cursor.sequence)
        return [link for sequence in above for link in self._at[sequence]]

    def add(self, link: Link) -> None:
        """Take up a link that is not here yet."""
        assert link.batch_id not in self._links, "a link is added once"
        self._links[link.batch_id] = link
        neighbours = self._at.setdefault(link.sequence, [])
        neighbours.append(link)
        if len(neighbours) > 1:
            self._forks.add(link.sequence)
        if link.sequence > self.cursor.sequence:
            self.uncommitted_size_bytes += link.signed_header.header.size_bytes

    def discard(self, link: Link) -> None:
        """Drop a link whose check failed: it was never ready, so nothing rests on it."""
        assert not link.is_checked, "a good batch is never discarded"
        self._remove(link)

    def _remove(self, link: Link) -> None:
        del self._links[link.batch_id]
        neighbours = self._at[link.sequence]
        neighbours.remove(link)
        if not neighbours:
            del self._at[link.sequence]
        if len(neighbours) < 2:
            self._forks.discard(link.sequence)
        if link.sequence > self.cursor.sequence:
            self.uncommitted_size_bytes -= link.signed_header.header.size_bytes

    def apply_ready(self) -> None:
        """Move the tip up over links that have become ready."""
        while True:
            following = self._at.get(self.tip.sequence + 1, ())
            for link in following:
                if link.is_ready and link.signed_header.header.parent == self.tip.batch_id:
                    self.tip = LanePoint(link.sequence, link.batch_id)
                    break
            else:
                return

    def apply_commit(self, cursor: LanePoint) -> None:
        """Move the cursor to a newly committed tip, held or not."""
        assert cursor.sequence > self.cursor.sequence, "a committed tip is above the cursor"
        for sequence in range(self.cursor.sequence + 1, cursor.sequence + 1):
            for link in self._at.get(sequence, ()):
                self.uncommitted_size_bytes -= link.signed_header.header.size_bytes
        self.cursor = cursor
        self.tip = cursor
        self.apply_ready()

    def find_ackable(self) -> LanePoint:
        """The newest point that may be acknowledged: the tip, or the last before a fork."""
        if not self._forks:
            return self.tip
        fork = min((each for each in self._forks if each > self.cursor.sequence), default=None)
        if fork is None or fork > self.tip.sequence:
            return self.tip
        return self.point_at(fork - 1)

    def point_at(self, sequence: int) -> LanePoint:
        """The point of the prefix at a sequence between cursor and `find_ackable`."""
        if sequence == self.cursor.sequence:
            return self.cursor
        links = self._at[sequence]
        assert len(links) == 1, "below the first fork a sequence has one link"
        return LanePoint(sequence, links[0].batch_id)

    def is_in_prefix(self, point: LanePoint) -> bool:
        """Does a point lie between cursor and tip, as far as that takes no walk? Where nothing was
        forked, the links between them are the prefix."""
        if self._forks or not self.cursor.sequence < point.sequence <= self.tip.sequence:
            return point == self.tip
        return self._at[point.sequence][0].batch_id == point.batch_id

    def is_above_cursor(self, point: LanePoint) -> bool:
        """Does a hash chain of known links lead from a point down to the cursor? No longer once a
        rival of what lies below it was committed."""
        if self.is_in_prefix(point):
            return point.sequence > self.cursor.sequence
        wanted = point
        while wanted.sequence > self.cursor.sequence:
            link = self._links.get(wanted.batch_id)
            if link is None:
                return False
            wanted = LanePoint(link.sequence - 1, link.signed_header.header.parent)
        return point.sequence > self.cursor.sequence and wanted == self.cursor

    def compute_chain(self, tip: bytes, above_sequence: int) -> tuple[bytes, ...] | None:
        """Batch ids from `above_sequence` + 1 up to `tip`, oldest first; None unless all are
        ready. Where to stop goes by sequence: if the author equivocated, what counts is the chain
        behind the certified tip, on every node alike."""
        found: list[bytes] = []
        wanted = tip
        while True:
            link = self._links.get(wanted)
            if link is None or not link.is_ready:
                return None
            found.append(wanted)
            if link.sequence <= above_sequence + 1:
                return tuple(reversed(found))
            wanted = link.signed_header.header.parent

    def find_hole(self, tip: LanePoint, above_sequence: int) -> LanePoint | None:
        """The highest missing link on the way from `tip` down to `above_sequence`."""
        wanted = tip
        is_prefix_enough = above_sequence >= self.cursor.sequence
        while wanted.sequence > above_sequence:
            if is_prefix_enough and self.is_in_prefix(wanted):
                return None
            link = self._links.get(wanted.batch_id)
            if link is None:
                return wanted
            wanted = LanePoint(link.sequence - 1, link.signed_header.header.parent)
        return None

    def prune(self, below_sequence: int) -> None:
        """Forget all links strictly below a sequence, which is at most the cursor's."""
        assert below_sequence <= self.cursor.sequence + 1
        for sequence in [each for each in self._at if each < below_sequence]:
            for link in list(self._at[sequence]):
                self._remove(link)
