"""When heights came, and how long the next one took after each end of all faults."""

from localnet.faults.verdict import Heal


class Progress:
    """When heights came, and what came after each heal. Times from the beginning of the run."""

    def __init__(self) -> None:
        self.height = 0
        self.longest_pause_s = 0.0
        self.heals: list[Heal] = []
        self._last_s = 0.0
        self._open: tuple[float, int] | None = None
        """A heal that waits for a height."""

    def look(self, now_s: float, height: int, faults: int, is_healed: bool) -> None:
        """Take in one moment: the highest height, and how many faults are in force."""
        self.longest_pause_s = max(self.longest_pause_s, now_s - self._last_s)
        if height > self.height:
            self.height, self._last_s = height, now_s
        if self._open is not None:
            began_s, before = self._open
            if height > before:
                self._close(now_s, now_s - began_s)
            elif faults:
                self._close(now_s, None)
        if is_healed and not faults:
            self._open = (now_s, self.height)

    def end(self, now_s: float) -> None:
        """There is nothing more to come."""
        if self._open is not None:
            self._close(now_s, None)

    def _close(self, now_s: float, progress_after_s: float | None) -> None:
        assert self._open is not None
        began_s, height = self._open
        self.heals.append(Heal(began_s, height, progress_after_s, now_s - began_s))
        self._open = None
