"""Gives a view up, and votes in it afterwards."""

from collections.abc import Iterable
from typing import ClassVar

from consensus.effects import Send
from consensus.messages import Timeout, Vote
from consensus.types import TimeoutData
from localnet.byzantine.behaviour import Need, Tools
from localnet.byzantine.notebook import Listener


class VoteAfterTimeout(Listener):
    """Gives each view up before it votes in it, and keeps quiet about the vote."""

    name: ClassVar[str] = "vote_after_timeout"
    needs: ClassVar[Need] = Need.FAILED_VIEWS

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._given_up: dict[int, Timeout] = {}

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        self.notes.note(send.message)
        match send.message:
            case Vote(data=data) if data.view in self.notes.proposals:
                block = self.notes.proposals[data.view].block
                given_up = TimeoutData(data.epoch, data.view, block.qc.view, 0)
                timeout = self.tools.sign_timeout(given_up, block.qc, block.tc)
                self._given_up = {data.view: timeout}
                yield Send(self.tools.others, timeout)
                yield send
            case Timeout(data=data) if data.view in self._given_up:
                # Another one would be a lie of another kind, which convicts.
                yield Send(send.to, self._given_up[data.view], send.after)
            case _:
                yield send
