"""Certificates that were verified already, so that none is verified twice."""

from collections import OrderedDict
from typing import Final

from consensus.types import QC, TC, AvailabilityCertificate, StateCertificate

Certificate = QC | TC | AvailabilityCertificate | StateCertificate

CERTIFICATES_MAX: Final = 4_096
"""Certificates remembered; the one least recently used is forgotten first."""


class CertificateCache:
    """The certificates known to verify, looked up by their whole content.

    A certificate is its own key: equality compares its type and every byte of it, signers and
    signature included, so a forgery can never stand in for what was verified.
    """

    def __init__(self, capacity: int = CERTIFICATES_MAX) -> None:
        self._capacity = capacity
        self._known: OrderedDict[Certificate, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, certificate: Certificate) -> bool:
        try:
            self._known.move_to_end(certificate)
        except KeyError:
            return False
        return True

    def add(self, certificate: Certificate) -> None:
        """Remember a certificate that was verified, or formed from verified votes."""
        if certificate in self:
            return
        self._known[certificate] = None
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)
