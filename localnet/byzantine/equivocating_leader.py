"""Proposes one block to half of the others and another one, as well signed, to the rest."""

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send
from consensus.messages import Proposal
from localnet.byzantine.behaviour import Behaviour


class EquivocatingLeader(Behaviour):
    """The rival differs in its time by a millisecond, which every rule allows."""

    name: ClassVar[str] = "equivocating_leader"

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        if not isinstance(send.message, Proposal):
            return (send,)
        block = send.message.block
        rival = self.tools.sign_proposal(
            replace(block, time_ms=block.time_ms + 1), send.message.view
        )
        others = [index for index in send.to if index != self.tools.member]
        self.tools.random.shuffle(others)
        half = len(others) // 2
        mine = tuple(index for index in send.to if index == self.tools.member)
        return (
            replace(send, to=(*others[:half], *mine)),
            replace(send, to=tuple(others[half:]), message=rival),
        )
