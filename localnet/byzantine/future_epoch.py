"""Speaks as if the next epoch had begun: all its votes, timeouts and proposals are of that."""

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send
from consensus.messages import Ack, Message, Proposal, StateVote, Timeout, Vote
from localnet.byzantine.behaviour import Behaviour


class FutureEpoch(Behaviour):
    """Speaks as if the next epoch had begun."""

    name: ClassVar[str] = "future_epoch"

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        return (replace(send, message=self._advance(send.message)),)

    def _advance(self, message: Message) -> Message:
        tools = self.tools
        match message:
            case Vote(data=data):
                return tools.sign_vote(replace(data, epoch=data.epoch + 1))
            case Timeout(data=data, high_qc=high_qc, last_tc=last_tc):
                later = replace(data, epoch=data.epoch + 1)
                return tools.sign_timeout(later, high_qc, last_tc)
            case Proposal(block=block, view=view):
                return tools.sign_proposal(replace(block, epoch=block.epoch + 1), view)
            case StateVote(header=header):
                return tools.sign_state_vote(replace(header, epoch=header.epoch + 1))
            case Ack(data=ack):
                later_ack = replace(ack, epoch=ack.epoch + 1)
                signature = tools.sign(later_ack.signing_bytes(tools.chain_id))
                return Ack(later_ack, tools.member, signature)
            case _:
                return message
