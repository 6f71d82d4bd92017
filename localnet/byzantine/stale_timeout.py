"""Gives views up with an old certificate, as if it had heard of no newer one."""

from collections.abc import Iterable
from typing import ClassVar, Final

from msgspec.structs import replace

from consensus.effects import Send
from consensus.messages import Timeout
from consensus.types import QC
from localnet.byzantine.behaviour import Need
from localnet.byzantine.notebook import Listener

VIEWS_MAX: Final = 8
"""Different certificates named to one member in one view."""


class StaleTimeout(Listener):
    """Gives views up with the oldest certificate that it can name, never with its newest."""

    name: ClassVar[str] = "stale_timeout"
    needs: ClassVar[Need] = Need.FAILED_VIEWS

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        self.notes.note(send.message)
        if not isinstance(send.message, Timeout):
            return (send,)
        return self.bend_timeout(send, send.message)

    def bend_timeout(self, send: Send, timeout: Timeout) -> Iterable[Send]:
        """What is said instead."""
        tc = self.notes.tcs.get(timeout.data.view - 1)
        qc = self.notes.qcs[min(self.notes.qcs)] if tc is None else tc.high_qc
        yield replace(send, message=self.name_qc(timeout, qc))

    def name_qc(self, timeout: Timeout, qc: QC) -> Timeout:
        """The same timeout with another high QC."""
        view = timeout.data.view
        tc = None if qc.view + 1 == view else self.notes.tcs.get(view - 1)
        data = replace(timeout.data, high_qc_view=qc.view, tip_view=0)
        return self.tools.sign_timeout(data, qc, tc)


class ManyHighQCs(StaleTimeout):
    """Gives one view up with many certificates, and tells each member another order of them."""

    name: ClassVar[str] = "many_high_qc_views"

    def bend_timeout(self, send: Send, timeout: Timeout) -> Iterable[Send]:
        older = [qc for view, qc in sorted(self.notes.qcs.items()) if view < timeout.data.view]
        for index in send.to:
            if index == self.tools.member:
                yield replace(send, to=(index,))
                continue
            newest = older[-VIEWS_MAX:]
            for number in range(len(newest)):
                # Each begins elsewhere, so that what comes first differs.
                qc = newest[(index + number) % len(newest)]
                yield Send((index,), self.name_qc(timeout, qc))
