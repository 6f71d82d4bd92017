"""Who asked for what: by its name an answer finds its way back to the part that asked.

Tokens and timers both begin with their component, so whoever composes the parts routes
`TimerFired` and every event with a token by that alone, and keeps no table.
"""

from enum import StrEnum

from consensus.effects import Token


class Component(StrEnum):
    """The parts that ask for effects."""

    CONSENSUS = "consensus"
    LANES = "lanes"
    CHECKPOINTS = "checkpoints"
    SNAPSHOTS = "snapshots"
    """Giving snapshots to nodes that join, and joining."""
    NODE = "node"
    """Whoever composes the others, where it asks in its own name."""


class Tokens:
    """Hands out the tokens of one component, each once."""

    def __init__(self, component: Component) -> None:
        self._component = component
        self._issued = 0

    def issue(self) -> Token:
        """A token that was never issued before."""
        self._issued += 1
        return Token(self._component, self._issued)


def make_timer_name(component: Component, purpose: str) -> str:
    """The name of a component's timer."""
    assert "/" not in component, "the owner ends at the first slash"
    return f"{component}/{purpose}"


def find_timer_owner(name: str) -> str:
    """The component that set a timer of this name."""
    return name.partition("/")[0]
