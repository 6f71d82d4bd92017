"""When heights came, and how long the next one took after each heal."""

from msgspec import Struct


class Heal(Struct, frozen=True):
    """A quorum is whole again, or all faults ended."""

    at_s: float
    height: int
    progress_after_s: float | None
    """When the next height came; None: not while it was watched."""
    watched_s: float
    """Until progress, the next fault that takes the quorum, or the end."""
    is_cut: bool = False
    """Such a fault came before progress did."""


class Progress:
    """When heights came, and what came after each heal. Times from the beginning of the run.

    A heal is when a quorum is whole again (`localnet.faults.quorum`), or when all faults ended. It
    is watched until the next height, whatever else begins meanwhile, unless that takes the quorum.
    """

    def __init__(self) -> None:
        self.height = 0
        self.longest_pause_s = 0.0
        self.heals: list[Heal] = []
        self._last_s = 0.0
        self._open: tuple[float, int] | None = None
        """A heal that waits for a height."""
        self._was_whole = True
        self._idle_views: list[int] = []
        """At first, and the most since."""

    @property
    def view_changes(self) -> int:
        """Views that ended without a block since the beginning, about two more or less."""
        return self._idle_views[1] - self._idle_views[0] if self._idle_views else 0

    def look(self, now_s: float, height: int, *, is_whole: bool, is_healed: bool) -> None:
        """Take in one moment: the highest height, whether there is a whole quorum, and whether the
        last fault has just ended."""
        self.longest_pause_s = max(self.longest_pause_s, now_s - self._last_s)
        if height > self.height:
            self.height, self._last_s = height, now_s
        if self._open is not None:
            began_s, before = self._open
            if height > before:
                self._close(now_s, progress_after_s=now_s - began_s)
            elif not is_whole:
                self._close(now_s, is_cut=True)
        if self._open is None and is_whole and (is_healed or not self._was_whole):
            self._open = (now_s, self.height)
        self._was_whole = is_whole

    def note_view(self, view: int, height: int) -> None:
        """The view in which somebody is who has committed up to a height."""
        idle = view - height
        if not self._idle_views:
            self._idle_views = [idle, idle]
        self._idle_views[1] = max(self._idle_views[1], idle)

    def end(self, now_s: float) -> None:
        """There is nothing more to come."""
        if self._open is not None:
            self._close(now_s)

    def _close(
        self, now_s: float, *, progress_after_s: float | None = None, is_cut: bool = False
    ) -> None:
        assert self._open is not None
        began_s, height = self._open
        self.heals.append(Heal(began_s, height, progress_after_s, now_s - began_s, is_cut))
        self._open = None
