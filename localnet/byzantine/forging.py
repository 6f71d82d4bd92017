"""Certificates as one member alone can make them: too few signers, or signatures that are not.

A *lonely* certificate is well signed, by its maker only: it lacks power and nothing else. A
*hollow* one names everybody and is signed by one: only verifying it shows the lie.
"""

from consensus.types import (
    QC,
    TC,
    AckData,
    AvailabilityCertificate,
    CheckpointHeader,
    StateCertificate,
    TimeoutData,
    TimeoutGroup,
    VoteData,
)
from crypto.bitmap import encode_bitmap
from localnet.byzantine.behaviour import Tools


class Forger:
    """Makes certificates of either kind."""

    def __init__(self, tools: Tools, *, is_hollow: bool) -> None:
        self._tools = tools
        count = len(tools.committee)
        self._signers = encode_bitmap(range(count) if is_hollow else (tools.member,), count)

    def forge_qc(self, data: VoteData) -> QC:
        """A QC for any vote."""
        return QC(data, self._signers, self._sign(data.signing_bytes(self._tools.chain_id)))

    def forge_tc(self, view: int, high_qc: QC) -> TC:
        """A TC for any view."""
        data = TimeoutData(self._tools.committee.epoch, view, high_qc.view, 0)
        signature = self._sign(data.signing_bytes(self._tools.chain_id))
        group = TimeoutGroup(high_qc.view, 0, self._signers, signature)
        return TC(data.epoch, view, (group,), high_qc)

    def forge_availability(self, data: AckData) -> AvailabilityCertificate:
        """A certificate for any lane prefix."""
        signature = self._sign(data.signing_bytes(self._tools.chain_id))
        return AvailabilityCertificate(data, self._signers, signature)

    def forge_state(self, header: CheckpointHeader) -> StateCertificate:
        """A certificate for any result."""
        signature = self._sign(header.signing_bytes(self._tools.chain_id))
        return StateCertificate(header, self._signers, signature)

    def _sign(self, message: bytes) -> bytes:
        return self._tools.sign(message)
