"""The newest availability certificate of each lane: verified, kept, archived.

A certificate is taken from the lane's author, and for the own lane from anybody (an author that
was restarted has lost its own). At most one certificate a sender and lane is being verified and
one more, the latest to come, waits behind it: whatever arrives between is superseded anyway.
"""

from typing import Final

from committee.committee import Committee
from consensus.bans import Bans
from consensus.certificates import CertificateCache
from consensus.effects import (
    Effect,
    Misbehaviour,
    Persist,
    Put,
    Store,
    Token,
    Verified,
    Verify,
    compute_key,
)
from consensus.lane_chain import LANE_START, LanePoint
from consensus.ownership import Tokens
from consensus.types import AvailabilityCertificate
from consensus.validation import ValidationError, compute_availability_claim
from crypto.codec import encode

CERTIFICATE_TABLE: Final = "lane_certificate"
"""Archive table: author (8 bytes big-endian) to its newest encoded certificate."""


class LaneCertificates:
    """Certificates by lane, and those on their way to becoming one."""

    def __init__(
        self,
        chain_id: bytes,
        committee: Committee,
        me: int,
        tokens: Tokens,
        cache: CertificateCache,
    ) -> None:
        self._chain_id = chain_id
        self._committee = committee
        self._me = me
        self._tokens = tokens
        self._cache = cache
        """Shared with whoever validates blocks, so that none is verified twice."""
        self._newest: dict[int, AvailabilityCertificate] = {}
        self._points: dict[int, LanePoint] = {}
        """What each of them names."""
        self._verifying: dict[Token, tuple[int, AvailabilityCertificate]] = {}
        self._busy: set[tuple[int, int]] = set()
        """(sender, author) with a verification under way."""
        self._queued: dict[tuple[int, int], AvailabilityCertificate] = {}
        self._bans = Bans()
        """Members who sent a certificate that does not verify."""
        self._unarchived: set[int] = set()

    def count_pending(self) -> int:
        """Certificates under verification or waiting for it."""
        return len(self._verifying) + len(self._queued)

    def newest(self, author: int) -> AvailabilityCertificate | None:
        """The newest verified certificate of a lane."""
        return self._newest.get(author)

    def newest_of_all(self) -> list[tuple[int, AvailabilityCertificate]]:
        """The newest verified certificate of each lane that has one, by rising author."""
        return sorted(self._newest.items())

    def point(self, author: int) -> LanePoint:
        """What the newest certificate of a lane names; the lane's start without one."""
        return self._points.get(author, LANE_START)

    def adopt(self, certificate: AvailabilityCertificate) -> None:
        """Keep a verified certificate as its lane's newest."""
        data = certificate.data
        author = data.author
        assert data.sequence > self.point(author).sequence
        self._cache.add(certificate)
        self._newest[author] = certificate
        self._points[author] = LanePoint(data.sequence, data.batch_id)
        self._unarchived.add(author)

    def receive(
        self, sender: int, certificate: AvailabilityCertificate
    ) -> tuple[AvailabilityCertificate | None, list[Effect]]:
        """Look at a certificate above what is covered. Returns it if it is known to be good;
        otherwise the effects may lead to `on_verified`."""
        data = certificate.data
        if data.epoch != self._committee.epoch or sender in self._bans:
            return None, []
        if sender != data.author and data.author != self._me:
            return None, []
        if certificate in self._cache:
            return certificate, []
        try:
            claim = compute_availability_claim(self._chain_id, self._committee, certificate)
        except ValidationError as error:
            return None, [Misbehaviour(sender, "lane.certificate_malformed", str(error))]
        lane = (sender, data.author)
        if lane in self._busy:
            self._queued[lane] = certificate
            return None, []
        token = self._tokens.issue()
        self._busy.add(lane)
        self._verifying[token] = (sender, certificate)
        return None, [Verify(token, (claim,))]

    def on_verified(
        self, event: Verified
    ) -> tuple[int, AvailabilityCertificate | None, AvailabilityCertificate | None] | None:
        """The sender, the certificate if it is good, and the one that waited behind it; None for
        a foreign token."""
        pending = self._verifying.pop(event.token, None)
        if pending is None:
            return None
        sender, certificate = pending
        lane = (sender, certificate.data.author)
        self._busy.discard(lane)
        queued = self._queued.pop(lane, None)
        if not all(event.results):
            self._bans.add(sender)
            return sender, None, None
        return sender, certificate, queued

    def has_unarchived(self) -> bool:
        """Is there anything for `archive` to write?"""
        return bool(self._unarchived)

    def archive(self) -> list[Effect]:
        """Write new certificates behind: many share one write, and nothing waits for it."""
        if not self._unarchived:
            return []
        puts = tuple(
            Put(CERTIFICATE_TABLE, compute_key(author), encode(self._newest[author]))
            for author in sorted(self._unarchived)
        )
        self._unarchived.clear()
        return [Persist(self._tokens.issue(), Store.ARCHIVE, puts)]
