"""Whether money and positions add up after each block of a repeated chain."""

from engine.errors import InvariantViolation
from engine.invariants import validate_all
from engine.state import EngineState


class Conservation:
    """Looks at the state after one block after the other."""

    def __init__(self) -> None:
        self.heights = 0
        self.problem: str | None = None
        """The first."""

    def note_block(self, state: EngineState) -> None:
        """Add everything up."""
        self.heights += 1
        if self.problem is None:
            try:
                validate_all(state)
            except InvariantViolation as error:
                self.problem = str(error)
