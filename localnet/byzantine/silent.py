"""Hears everything and says nothing to anybody."""

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send, ServeBatches, ServeCommitted
from localnet.byzantine.behaviour import Behaviour
from node.events import NodeEffect


class Silent(Behaviour):
    """Hears everything and says nothing to anybody; it keeps up, and could speak at any time."""

    name: ClassVar[str] = "silent"

    def bend(self, now_ms: int, effect: NodeEffect) -> Iterable[NodeEffect]:
        match effect:
            case Send(to):
                mine, _ = self.tools.split_own(to)
                return (replace(effect, to=mine),) if mine else ()
            case ServeBatches() | ServeCommitted():
                return ()
            case _:
                return (effect,)
