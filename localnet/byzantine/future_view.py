"""Votes, proposes and gives up in views that are far from having begun."""

from collections.abc import Iterable
from typing import ClassVar, Final

from msgspec.structs import replace

from consensus.effects import Send
from consensus.messages import Proposal
from consensus.types import Block, TimeoutData, VoteData
from consensus.votes import VIEW_AHEAD_MAX
from localnet.byzantine.notebook import Listener
from node.events import NodeEvent

_FAR: Final = 2**40
"""Views that will never come."""


class FutureView(Listener):
    """Votes, proposes and gives up in views that have not begun, near and far ones."""

    name: ClassVar[str] = "future_view"

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[Send]:
        heard = self.opened
        if heard is None:
            return
        block = heard.block
        for view in (heard.view + VIEW_AHEAD_MAX, heard.view + VIEW_AHEAD_MAX + 1, _FAR):
            block_id = self.tools.random.randbytes(32)
            vote = self.tools.sign_vote(VoteData(block.epoch, view, block.height, block_id))
            yield Send(self.tools.others, vote)
            data = TimeoutData(block.epoch, view, block.qc.view, 0)
            yield Send(self.tools.others, self.tools.sign_timeout(data, block.qc, block.tc))
        yield Send(self.tools.others, self._propose(block))

    def _propose(self, block: Block) -> Proposal:
        """A block for the next view but one that is this member's."""
        view = block.view + 2
        while self.tools.leaders.leader(view) != self.tools.member:
            view += 1
        early = replace(block, view=view, author=self.tools.member, lanes=(), evidence=())
        return self.tools.sign_proposal(early, view)
