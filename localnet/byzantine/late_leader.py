"""Proposes at the last moment before the view is given up."""

from collections.abc import Iterable
from typing import ClassVar, Final

from consensus.effects import Send, SetTimer
from consensus.messages import Proposal
from consensus.ownership import Component, make_timer_name
from localnet.byzantine.behaviour import Behaviour, Tools
from node.events import NodeEffect

_VIEW_TIMER: Final = make_timer_name(Component.CONSENSUS, "view")
LEADS_MS: Final = (1, 5, 10)
"""How long before; a network's delay decides who hears it in time."""


class LateLeader(Behaviour):
    """Proposes just before the view ends: some hear it in time, some have just given up."""

    name: ClassVar[str] = "late_leader"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._deadline_ms = 0

    def bend(self, now_ms: int, effect: NodeEffect) -> Iterable[NodeEffect]:
        match effect:
            case SetTimer(name, deadline_ms) if name == _VIEW_TIMER and deadline_ms is not None:
                self._deadline_ms = deadline_ms
                return (effect,)
            case Send(message=Proposal()):
                lead_ms = self.tools.random.choice(LEADS_MS)
                return (self.hold(max(now_ms, self._deadline_ms - lead_ms), effect),)
            case _:
                return (effect,)
