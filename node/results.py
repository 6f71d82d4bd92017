"""Results of execution: this node's own, the quorum's, and what both together settle.

A height is settled when a quorum certified its result and this node computed the same itself (a
certificate that contradicts the own result halts the node in `consensus.checkpoints` before it
gets here). Roots are cumulative, so a settled height settles every height below it.
"""

from collections import deque
from typing import Final, TypeVar

from consensus.types import CheckpointHeader, StateCertificate
from node.events import CertifiedNotice

UNSETTLED_CHECKPOINTS_MAX: Final = 1024
"""Checkpoints, certified by a quorum or executed here but not both, that are remembered; the
lowest are forgotten first, a higher one settles them too."""

UNSETTLED_HEIGHTS_MAX: Final = 4096
"""Heights with envelopes whose results are not settled. The execution lag stops new envelopes long
before; beyond it the oldest are forgotten, and their level is answered from the archive."""

_T = TypeVar("_T")

Passed = tuple[tuple[bytes, bytes], ...]
"""(envelope id, account) of the envelopes that a height let through."""


class Results:
    """See the module docstring."""

    def __init__(
        self,
        engine_height: int,
        own: CheckpointHeader | None,
        certificate: StateCertificate | None,
        unsettled_heights_max: int = UNSETTLED_HEIGHTS_MAX,
    ) -> None:
        """`own` and `certificate` are the newest of an earlier life."""
        self.executed_height = engine_height
        self.own = own
        """The newest own checkpoint."""
        certified_height = 0 if certificate is None else certificate.header.height
        self.certified_height = min(engine_height, certified_height)
        """Certified by a quorum and executed here, in this life or an earlier one."""
        self._own: dict[int, CheckpointHeader] = {}
        self._certificates: dict[int, StateCertificate] = {}
        if certificate is not None and certified_height > engine_height:
            self._certificates[certified_height] = certificate
        self._unsettled: deque[tuple[int, Passed]] = deque()
        self._unsettled_heights_max = unsettled_heights_max

    def add_passed(self, height: int, passed: Passed) -> None:
        """A height with envelopes was delivered; heights rise."""
        self._unsettled.append((height, passed))
        if len(self._unsettled) > self._unsettled_heights_max:
            self._unsettled.popleft()

    def add_own(self, header: CheckpointHeader) -> None:
        """This node executed a checkpoint."""
        self.own = header
        _remember(self._own, header.height, header)

    def add_certificate(self, certificate: StateCertificate) -> None:
        """A certificate was verified."""
        _remember(self._certificates, certificate.header.height, certificate)

    def settle(self) -> tuple[CertifiedNotice, list[tuple[int, Passed]]] | None:
        """The newest height settled since the last call, and the envelopes up to it."""
        common = self._certificates.keys() & self._own.keys()
        if not common:
            return None
        height = max(common)
        certificate = self._certificates[height]
        settled = [each for each in sorted(self._own) if each <= height]
        own = tuple(self._own.pop(each) for each in settled)
        for old in [each for each in self._certificates if each <= height]:
            del self._certificates[old]
        self.certified_height = height
        return CertifiedNotice(certificate, own), self._pop_settled(height)

    def take_settled(self) -> list[tuple[int, Passed]]:
        """Envelopes of heights that were settled before they were delivered again."""
        return self._pop_settled(self.certified_height)

    def _pop_settled(self, height: int) -> list[tuple[int, Passed]]:
        settled: list[tuple[int, Passed]] = []
        while self._unsettled and self._unsettled[0][0] <= height:
            settled.append(self._unsettled.popleft())
        return settled


def _remember(known: dict[int, _T], height: int, value: _T) -> None:
    known[height] = value
    if len(known) > UNSETTLED_CHECKPOINTS_MAX:
        del known[min(known)]
