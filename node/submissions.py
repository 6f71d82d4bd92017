"""Envelopes of clients between the cheap checks and the verdict on their signatures.

Until the signatures are verified nothing about them is proven, so what waits here is bounded in
bytes, in all and for each source: a flood of forgeries delays its own sender first.
"""

from typing import Final

from msgspec import Struct

from consensus.effects import Token
from mempool.admission import Admission, Candidate, Refusal
from mempool.refusal import RefusalCode
from mempool.validity import EnvelopeSummary
from node.events import EnvelopesSubmitted, EnvelopesVerified, SubmitReply, VerifyEnvelopes
from node.protocol import SubmitResult

VERIFYING_MAX_BYTES: Final = 16 << 20
"""Encoded envelopes whose signatures are with the workers; more are refused as `pool.full`."""

VERIFYING_SOURCE_SHARE: Final = 4
"""One source may take one part in this many of it; more is refused as `pool.sender_full`."""


class _Pending(Struct):
    """One submission."""

    source: int
    request: int
    results: list[SubmitResult | None]
    candidates: list[tuple[int, Candidate]]
    """With its position in the request, each that passed the cheap checks."""
    size_bytes: int


class Submissions:
    """Submissions that wait for verified signatures."""

    def __init__(self, admission: Admission, size_max_bytes: int = VERIFYING_MAX_BYTES) -> None:
        self._admission = admission
        self._size_max_bytes = size_max_bytes
        self._pending: dict[Token, _Pending] = {}
        self._bytes_by_source: dict[int, int] = {}
        self.size_bytes = 0
        """Encoded envelopes that wait."""

    def submit(
        self, now_ms: int, event: EnvelopesSubmitted, token: Token
    ) -> SubmitReply | VerifyEnvelopes:
        """Check what is cheap; return the answer, or the signatures to verify first."""
        pending = _Pending(event.source, event.request, [], [], 0)
        for position, data in enumerate(event.envelopes):
            checked = self._admission.precheck(now_ms, data)
            if not isinstance(checked, Refusal):
                code = self._find_no_room(event.source, len(data))
                if code is not None:
                    checked = Refusal(checked.summary.envelope_id, code)
            if isinstance(checked, Refusal):
                pending.results.append(SubmitResult(checked.envelope_id, checked.code.value))
                continue
            pending.results.append(None)
            pending.candidates.append((position, checked))
            pending.size_bytes += len(data)
            self._count(event.source, len(data))
        if not pending.candidates:
            return _reply(pending)
        self._pending[token] = pending
        return VerifyEnvelopes(token, tuple(each.claim for _, each in pending.candidates))

    def on_verified(
        self, now_ms: int, event: EnvelopesVerified
    ) -> tuple[SubmitReply, list[EnvelopeSummary]]:
        """Admit what is genuine; return the answer and what was let in."""
        pending = self._pending.pop(event.token)
        self._count(pending.source, -pending.size_bytes)
        admitted: list[EnvelopeSummary] = []
        for (position, candidate), is_valid in zip(pending.candidates, event.results, strict=True):
            summary = candidate.summary
            code = self._admission.admit(now_ms, candidate, is_valid)
            pending.results[position] = SubmitResult(
                summary.envelope_id, code.value if code else None
            )
            if code is None:
                admitted.append(summary)
        return _reply(pending), admitted

    def _find_no_room(self, source: int, size_bytes: int) -> RefusalCode | None:
        if self.size_bytes + size_bytes > self._size_max_bytes:
            return RefusalCode.POOL_FULL
        of_source = self._bytes_by_source.get(source, 0) + size_bytes
        if of_source > self._size_max_bytes // VERIFYING_SOURCE_SHARE:
            return RefusalCode.SENDER_FULL
        return None

    def _count(self, source: int, change_bytes: int) -> None:
        self.size_bytes += change_bytes
        left_bytes = self._bytes_by_source.get(source, 0) + change_bytes
        if left_bytes:
            self._bytes_by_source[source] = left_bytes
        else:
            self._bytes_by_source.pop(source, None)


def _reply(pending: _Pending) -> SubmitReply:
    results = tuple(result for result in pending.results if result is not None)
    assert len(results) == len(pending.results), "every envelope was answered"
    return SubmitReply(pending.source, pending.request, results)
