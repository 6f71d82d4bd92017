"""Gives one view up twice, and says something else each time."""

from collections.abc import Iterable
from typing import ClassVar

from consensus.effects import Send
from consensus.messages import Timeout, Vote
from consensus.types import QC, TC, TimeoutData
from localnet.byzantine.notebook import Listener


class ConflictingTimeouts(Listener):
    """Gives every view up twice, with different contents, and tells everybody both."""

    name: ClassVar[str] = "conflicting_timeouts"

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        yield send
        match send.message:
            case Vote(data=data) if data.view in self.notes.proposals:
                block = self.notes.proposals[data.view].block
                yield from self._give_up(data.view, block.qc, block.tc)
            case Timeout(data=data, high_qc=high_qc, last_tc=last_tc):
                yield from self._give_up(data.view, high_qc, last_tc)
            case _:
                pass

    def _give_up(self, view: int, high_qc: QC, last_tc: TC | None) -> Iterable[Send]:
        """With and without a vote to confess: two contents that are valid each by itself."""
        for number, tip_view in enumerate((0, view)):
            data = TimeoutData(self.tools.committee.epoch, view, high_qc.view, tip_view)
            timeout = self.tools.sign_timeout(data, high_qc, last_tc)
            yield Send(self.choose(number), timeout)

    def choose(self, number: int) -> tuple[int, ...]:
        """Who gets the first, and who the second."""
        return self.tools.others


class ConflictingTimeoutsSplit(ConflictingTimeouts):
    """Gives every view up twice, and tells each half of the others one of the two."""

    name: ClassVar[str] = "conflicting_timeouts_split"

    def choose(self, number: int) -> tuple[int, ...]:
        return self.tools.others[number::2]
