"""Votes for two blocks in one view."""

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Received, Send
from consensus.messages import Proposal, Vote
from consensus.types import VoteData
from localnet.byzantine.behaviour import Behaviour
from node.events import NodeEvent


class DoubleVote(Behaviour):
    """Votes twice in a view: for the block, and for one that nobody made."""

    name: ClassVar[str] = "double_vote"

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        if not isinstance(send.message, Vote):
            return (send,)
        return self.split(send, replace(send, message=self._make_rival(send.message.data)))

    def split(self, send: Send, rival: Send) -> Iterable[Send]:
        """Who gets which vote, and which of them first."""
        return (send, rival) if self.tools.random.random() < 0.5 else (rival, send)

    def _make_rival(self, data: VoteData) -> Vote:
        return self.tools.sign_vote(replace(data, block_id=self.tools.random.randbytes(32)))


class DoubleVoteSplit(DoubleVote):
    """Votes twice in a view, and gives each collector one of the votes: nobody can prove it."""

    name: ClassVar[str] = "double_vote_split"

    def split(self, send: Send, rival: Send) -> Iterable[Send]:
        return (replace(send, to=send.to[:1]), replace(rival, to=send.to[1:]))


class Accomplice(Behaviour):
    """Votes for every proposal that it hears, however many there are in a view."""

    name: ClassVar[str] = "accomplice"

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[Send]:
        if not isinstance(event, Received) or not isinstance(event.message, Proposal):
            return
        block, view = event.message.block, event.message.view
        block_id = block.block_id(self.tools.chain_id)
        vote = self.tools.sign_vote(VoteData(block.epoch, view, block.height, block_id))
        yield Send(self.tools.leaders.collectors(view), vote)
