"""Proposes where it does not lead."""

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send
from consensus.messages import Advance
from consensus.types import QC
from localnet.byzantine.notebook import Listener
from localnet.byzantine.stale_qc import extend


class Usurper(Listener):
    """Proposes in views that others lead, as soon as it has the certificate to build on."""

    name: ClassVar[str] = "usurper"

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        self.notes.note(send.message)
        match send.message:
            case Advance(qc=qc, tc=None):
                yield from self._usurp(now_ms, send.to, qc)
            case _:
                pass
        yield send

    def _usurp(self, now_ms: int, to: tuple[int, ...], qc: QC) -> Iterable[Send]:
        parent = self.notes.proposals.get(qc.view)
        if parent is None:
            return
        mine = replace(
            extend(qc, parent.block),
            view=qc.view + 1,
            author=self.tools.member,
            time_ms=max(now_ms, parent.block.time_ms + 1),
            evidence=(),
            tc=None,
        )
        yield Send(to, self.tools.sign_proposal(mine, mine.view))
