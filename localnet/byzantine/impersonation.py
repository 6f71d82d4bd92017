"""Speaks in another member's name: everything that it signs claims another author."""

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send
from consensus.messages import Ack, BatchMessage, Message, Proposal, StateVote, Timeout, Vote
from localnet.byzantine.behaviour import Behaviour


class Impersonation(Behaviour):
    """Says everything once more in the name of another member."""

    name: ClassVar[str] = "impersonation"

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        yield send
        _, others = self.tools.split_own(send.to)
        claimed = self.tools.random.choice(self.tools.others)
        forged = self._claim(send.message, claimed)
        if forged is not None and others:
            yield Send(others, forged)

    def _claim(self, message: Message, author: int) -> Message | None:
        match message:
            case Vote() | Timeout() | Proposal() | StateVote():
                return replace(message, author=author)
            case Ack():
                return replace(message, signer=author)
            case BatchMessage(signed_header=signed):
                header = replace(signed.header, author=author)
                return replace(message, signed_header=self.tools.sign_header(header))
            case _:
                return None
