"""How long a view may last, and when a block is due.

The timer backs off by half of itself for every view since the last commit, not since the last
view change: certificates without commits must not keep it short. Only a commit resets it.
"""

from enum import Enum

from consensus.backoff import compute_growing_wait_ms
from consensus.config import ConsensusConfig


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
        self._anchor_view = 0
        self._committed_height = 0

    def enter_view(self, now_ms: int, view: int) -> None:
        """Start the view's timer."""
        assert view > self.view, "views only rise"
        if self.view == 0:
            self._anchor_view = view
        self.view = view
        self.deadline_ms = now_ms + self.compute_timeout_ms()

    def record_commit(self, committed_height: int, view: int) -> None:
        """Backoff starts anew from `view` if the committed height rose."""
        if committed_height > self._committed_height:
            self._committed_height = committed_height
            self._anchor_view = view

    def compute_timeout_ms(self) -> int:
        """The base time, grown by half for every view since the last commit."""
        views = max(self.view - self._anchor_view, 0)
        return compute_growing_wait_ms(self._config.base_view_timeout_ms, views)

    def rearm(self, now_ms: int) -> None:
        """The timer fired: broadcast the timeout again after the base time, while it lasts."""
        self.deadline_ms = now_ms + self._config.base_view_timeout_ms

    def compute_proposal_time_ms(self, now_ms: int, parent_time_ms: int, urgency: Urgency) -> int:
        """When a child of the parent is due. A parent time ahead of the clock counts as now."""
        return min(parent_time_ms, now_ms) + self._intervals_ms[urgency]
