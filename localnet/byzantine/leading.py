"""What all leaders have in common that propose something else than an honest one would.

The honest node inside goes on with its own block. So that its vote does not give the lie away, or
go to waste, the vote is signed anew for what was really proposed.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from consensus.effects import Send
from consensus.messages import Proposal, Vote
from consensus.types import Block, VoteData
from localnet.byzantine.behaviour import Tools
from localnet.byzantine.notebook import Listener


class BendingLeader(Listener, ABC):
    """Overrides `bend_block`, and is honest otherwise."""

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._votes: dict[int, VoteData] = {}
        """For the own views: the vote that fits what was proposed."""
        self._early: dict[int, Send] = {}
        """Own votes that were signed before the proposal that they are for."""

    @abstractmethod
    def bend_block(self, now_ms: int, block: Block) -> Block:
        """What to propose instead of an honest block."""

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        self.notes.note(send.message)
        match send.message:
            case Proposal(block=block, view=view):
                bent = self.bend_block(now_ms, block)
                bent_id = bent.block_id(self.tools.chain_id)
                self._votes[view] = VoteData(bent.epoch, view, bent.height, bent_id)
                yield Send(send.to, self.tools.sign_proposal(bent, view), send.after)
                early = self._early.pop(view, None)
                if early is not None:
                    yield from self.send(now_ms, early)
            case Vote(data=data) if self.tools.leaders.leader(data.view) == self.tools.member:
                fitting = self._votes.get(data.view)
                if fitting is None:
                    self._early = {data.view: send}
                else:
                    self._votes = {data.view: fitting}
                    yield Send(send.to, self.tools.sign_vote(fitting), send.after)
            case _:
                yield send
