"""Signs results that no honest engine comes to."""

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send
from consensus.messages import StateVote
from crypto.digest import Domain, digest
from localnet.byzantine.behaviour import Behaviour


class WrongStateVote(Behaviour):
    """Signs results that no honest engine comes to."""

    name: ClassVar[str] = "wrong_state_vote"

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        if not isinstance(send.message, StateVote):
            return (send,)
        mine, others = self.tools.split_own(send.to)
        header = send.message.header
        wrong = replace(header, market_root=digest(Domain.STATE, header.market_root))
        lie = Send(others, self.tools.sign_state_vote(wrong), send.after)
        return (replace(send, to=mine), *self.tell(replace(send, to=others), lie))

    def tell(self, honest: Send, lie: Send) -> Iterable[Send]:
        """What the others hear."""
        return (lie,)


class DoubleStateVote(WrongStateVote):
    """Signs two results for each height: the right one and a wrong one."""

    name: ClassVar[str] = "double_state_vote"

    def tell(self, honest: Send, lie: Send) -> Iterable[Send]:
        return (honest, lie) if self.tools.random.random() < 0.5 else (lie, honest)
