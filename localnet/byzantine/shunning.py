"""Says nothing at all to some members, always the same ones, and serves them nothing."""

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send, ServeBatches, ServeCommitted
from localnet.byzantine.behaviour import Behaviour, Tools
from node.events import NodeEffect


class Shunning(Behaviour):
    """Says nothing to as many members as may be faulty, and is a good member to the others."""

    name: ClassVar[str] = "shunning"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        committee = tools.committee
        shunned = tools.pick_power(committee.honest_power)
        self.shunned = frozenset(shunned[:-1] or shunned)

    def bend(self, now_ms: int, effect: NodeEffect) -> Iterable[NodeEffect]:
        match effect:
            case Send(to):
                kept = tuple(index for index in to if index not in self.shunned)
                return (replace(effect, to=kept),) if kept else ()
            case ServeBatches(to) | ServeCommitted(to) if to in self.shunned:
                return ()
            case _:
                return (effect,)
