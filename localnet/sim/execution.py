"""What an engine finished, as the simulator's watchers are told of it."""

from collections.abc import Callable
from typing import NamedTuple

from engine.block import BlockOutput
from node.events import Execute


class Execution(NamedTuple):
    """One height that one node's engine executed."""

    request: Execute
    ordered: tuple[bytes, ...]
    """Ids of all its envelopes, in order."""
    passed: tuple[bytes, ...]
    """Ids of those that the header ledger let through, in order."""
    output: BlockOutput


ExecutionWatcher = Callable[[int, Execution], None]
"""Called with the node and what it executed."""
