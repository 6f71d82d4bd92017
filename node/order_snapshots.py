"""Which order snapshots a restart may still need."""

from collections.abc import Iterable

from consensus.effects import Delete, compute_key
from node.recovery import ORDER_SNAPSHOT_TABLE, ORDER_SNAPSHOTS_KEPT


class OrderSnapshots:
    """The heights of those in the archive, as far as they count."""

    def __init__(self, heights: Iterable[int]) -> None:
        """`heights` are the newest that were found at start, rising."""
        self._heights = list(heights)

    def add(self, height: int, executed_height: int) -> tuple[Delete, ...]:
        """Note one that is written now, and return what may go with the same write."""
        self._heights.append(height)
        reached = sum(each <= executed_height for each in self._heights)
        if reached <= ORDER_SNAPSHOTS_KEPT:
            return ()
        del self._heights[: reached - ORDER_SNAPSHOTS_KEPT]
        return (Delete(ORDER_SNAPSHOT_TABLE, compute_key(self._heights[0])),)
