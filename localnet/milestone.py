"""A number that only rises, and tasks that wait until it has."""

import trio


class Milestone:
    """Starts at 0."""

    def __init__(self) -> None:
        self.value = 0
        self._changed = trio.Event()

    def raise_to(self, value: int) -> None:
        """Let the number be at least `value`."""
        if value > self.value:
            self.value = value
            self._changed.set()
            self._changed = trio.Event()

    def raise_by_one(self) -> None:
        """Let the number be one more."""
        self.raise_to(self.value + 1)

    async def reached(self, value: int) -> None:
        """Return once the number is at least `value`."""
        while self.value < value:
            await self._changed.wait()
