"""Does not vote: never, or only when its vote would make the difference."""

from collections.abc import Iterable
from typing import ClassVar

from consensus.effects import Received, Send
from consensus.messages import Vote
from consensus.types import VoteData
from localnet.byzantine.behaviour import Behaviour, Tools
from node.events import NodeEffect, NodeEvent


class VoteWithholding(Behaviour):
    """Never votes, and does everything else."""

    name: ClassVar[str] = "vote_withholding"

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        return () if isinstance(send.message, Vote) else (send,)


class VoteWithholdingPivotal(Behaviour):
    """Votes only where the others are enough without it, as far as it can know."""

    name: ClassVar[str] = "vote_withholding_pivotal"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._heard: dict[VoteData, set[int]] = {}
        self._kept: dict[VoteData, Send] = {}

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        if not isinstance(send.message, Vote) or self.tools.member not in send.to:
            return (send,)
        data = send.message.data
        if self._is_superfluous(data):
            return (send,)
        self._kept = {data: send}
        return ()

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[NodeEffect]:
        if not isinstance(event, Received) or not isinstance(event.message, Vote):
            return
        data = event.message.data
        self._heard = {each: who for each, who in self._heard.items() if each.view >= data.view - 2}
        self._heard.setdefault(data, set()).add(event.sender)
        if data in self._kept and self._is_superfluous(data):
            yield self._kept.pop(data)

    def _is_superfluous(self, data: VoteData) -> bool:
        others = self._heard.get(data, set()) - {self.tools.member}
        return self.tools.committee.power_of(sorted(others)) >= self.tools.committee.quorum_power
