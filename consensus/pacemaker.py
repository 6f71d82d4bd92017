"""How long a view may last, and when a block is due.

The timer backs off by half of itself for every third view lost since the last commit, not since the
last certificate: certificates without commits must not keep it short. Only a commit resets it.

A view is lost when a timeout certificate ends it. On a network too slow for the timer every view
is; a dead leader loses only its own, but without a commit until two living leaders follow each
other. Views that ended with a certificate say nothing against the timer and do not count. To count
them, or to let every lost view count in full, makes half a minute without a commit common while a
third of the leaders is dead.
"""

from enum import Enum
from typing import Final

from consensus.backoff import compute_growing_wait_ms
from consensus.config import ConsensusConfig

LOST_VIEWS_PER_GROWTH: Final = 3
"""With a quarter of the leaders dead, as computed, all but one in a thousand waits for a commit are
below 20 base times; a network that needs twice the base time pays four lost views more for it."""


class Urgency(Enum):
    """Why a block should come soon."""

    IDLE = "idle"
    """Nothing waits for it."""
    COMPLETION = "completion"
    """It orders nothing new, but its ancestors wait for it to be committed."""
    WORK = "work"
    """There is something new to order."""


class Pacemaker:
    """The current view's deadlines."""

    def __init__(self, config: ConsensusConfig) -> None:
        self._config = config
        self._intervals_ms = {
            Urgency.IDLE: config.idle_interval_ms,
            Urgency.COMPLETION: config.completion_interval_ms,
            Urgency.WORK: config.min_block_interval_ms,
        }
        self.view = 0
        """The view that was entered last."""
        self.deadline_ms = 0
        """When the view is given up, or the timeout is broadcast again."""
        self._lost_views = 0
        self._committed_height = 0

    def enter_view(self, now_ms: int, view: int, *, is_after_loss: bool) -> None:
        """Start the view's timer. `is_after_loss`: the view before ended without a certificate for
        a block of its own."""
        assert view > self.view, "views only rise"
        if is_after_loss and self.view != 0:
            self._lost_views += 1
        self.view = view
        self.deadline_ms = now_ms + self.compute_timeout_ms()

    def record_commit(self, committed_height: int) -> None:
        """Backoff starts anew if the committed height rose."""
        if committed_height > self._committed_height:
            self._committed_height = committed_height
            self._lost_views = 0

    def compute_timeout_ms(self) -> int:
        """The base time, grown with the views lost since the last commit."""
        growths = self._lost_views // LOST_VIEWS_PER_GROWTH
        return compute_growing_wait_ms(self._config.base_view_timeout_ms, growths)

    def rearm(self, now_ms: int) -> None:
        """The timer fired: broadcast the timeout again after the base time, while it lasts."""
        self.deadline_ms = now_ms + self._config.base_view_timeout_ms

    def compute_proposal_time_ms(self, now_ms: int, parent_time_ms: int, urgency: Urgency) -> int:
        """When a child of the parent is due. A parent time ahead of the clock counts as now."""
        return min(parent_time_ms, now_ms) + self._intervals_ms[urgency]
