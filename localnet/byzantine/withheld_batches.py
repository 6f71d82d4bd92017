"""Gives its batches to just enough members for a certificate, and serves them to nobody."""

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send, ServeBatches
from consensus.messages import BatchMessage
from localnet.byzantine.behaviour import Behaviour, Need
from node.events import NodeEffect


class WithheldBatches(Behaviour):
    """Gives its batches to just enough members for a certificate, and serves them to nobody."""

    name: ClassVar[str] = "withheld_batches"
    needs: ClassVar[Need] = Need.MISSING_BATCHES

    def bend(self, now_ms: int, effect: NodeEffect) -> Iterable[NodeEffect]:
        match effect:
            case ServeBatches():
                return ()
            case Send(message=BatchMessage()):
                committee = self.tools.committee
                own_power = committee.powers[self.tools.member]
                few = self.tools.pick_power(max(committee.honest_power - own_power, 1))
                return (replace(effect, to=few),)
            case _:
                return (effect,)
