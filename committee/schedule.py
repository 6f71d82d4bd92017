"""Which member leads which view.

Each view draws its leader independently: a hash of the epoch's seed and the view, reduced modulo
the total power, falls into one member's share of the power. So every member's long-run share of
views equals its share of power, every node computes the same leader with integers alone, and no
state is kept. Whoever knows the seed can predict the leaders of the epoch.

Nothing here depends on which leaders failed: reputation must be a function of the chain below the
certificate that a proposal carries, never of what one node happened to see commit, and is not
part of this schedule.
"""

from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import Final

from committee.committee import Committee
from crypto.digest import Domain, digest

LEADER_CACHE_MAX: Final = 4_096
"""Views whose leader is remembered; older ones are computed again."""


class LeaderSchedule:
    """The leaders of one epoch's views."""

    def __init__(self, committee: Committee, seed: bytes) -> None:
        self._seed = seed
        self._bounds = tuple(accumulate(committee.powers))
        self.leader = lru_cache(maxsize=LEADER_CACHE_MAX)(self._compute_leader)
        """`leader(view) -> int`: the index of the member who leads a view."""
        self.collectors = lru_cache(maxsize=LEADER_CACHE_MAX)(self._compute_collectors)
        """`collectors(view) -> tuple[int, ...]`: who collects the votes of a view, its leader and
        the next one, by rising index."""

    def _compute_leader(self, view: int) -> int:
        hashed = digest(Domain.LEADER, self._seed, view.to_bytes(8, "big"))
        # The bias of the reduction is below 2**-200: power sums stay under 2**47.
        return bisect_right(self._bounds, int.from_bytes(hashed, "big") % self._bounds[-1])

    def _compute_collectors(self, view: int) -> tuple[int, ...]:
        return tuple(sorted({self.leader(view), self.leader(view + 1)}))
