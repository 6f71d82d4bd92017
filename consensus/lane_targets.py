"""What a lane's fetching aims at, and whom to ask for it.

By falling importance: what was committed and is owed to execution, what the newest certificate
names, and the newest batch that the author itself has shown. The last two only as far as the node
is ready to store them before they are committed.
"""

from functools import lru_cache
from typing import Final

from committee.committee import Committee
from consensus.lane_certificates import LaneCertificates
from consensus.lane_chain import LANE_START, LaneChain, LanePoint
from consensus.lane_delivery import Deliveries
from consensus.lane_fetch import Target
from consensus.lane_limits import LanesConfig
from consensus.types import AvailabilityCertificate
from crypto.bitmap import decode_bitmap

SOURCES_MAX: Final = 1_024
"""Sets of signers of which it is remembered whom to ask; others are read again."""


class LaneTargets:
    """The targets of all lanes, and the newest batch that each author has shown."""

    def __init__(
        self,
        config: LanesConfig,
        committee: Committee,
        me: int,
        chains: list[LaneChain],
        certificates: LaneCertificates,
        deliveries: Deliveries,
    ) -> None:
        self._config = config
        self._size = len(committee)
        self._me = me
        self._chains = chains
        self._certificates = certificates
        self._deliveries = deliveries
        self._announced: dict[int, LanePoint] = {}
        self._sources = lru_cache(maxsize=SOURCES_MAX)(self._compute_sources)

    def announce(self, author: int, point: LanePoint) -> None:
        """An author has shown a batch of its lane."""
        self._announced[author] = max(point, self._announced.get(author, LANE_START))

    def withdraw(self, author: int) -> None:
        """Nothing that this author has shown counts any more."""
        self._announced.pop(author, None)

    def has_room(self, author: int, sequence: int) -> bool:
        """Is this sequence one that the node is ready to store before it is committed?"""
        chain = self._chains[author]
        offset = sequence - chain.cursor.sequence
        return (
            0 < offset <= self._config.uncommitted_batches_max
            and chain.uncommitted_size_bytes < self._config.uncommitted_size_max_bytes
        )

    def is_open(self, author: int) -> bool:
        """Is anything of this lane undelivered, or known above its cursor?"""
        chain = self._chains[author]
        known = max(self._certificates.point(author), self._announced.get(author, LANE_START))
        return (
            bool(self._deliveries.targets(author))
            or chain.find_newest().sequence > chain.cursor.sequence
            or known > chain.cursor
        )

    def find_sources(self, certificate: AvailabilityCertificate) -> tuple[int, ...]:
        """Who to ask for what a certificate names: its signers, from a place of one's own on."""
        return self._sources(certificate.signers)

    def _compute_sources(self, bitmap: bytes) -> tuple[int, ...]:
        signers = decode_bitmap(bitmap, self._size)
        others = [signer for signer in signers if signer != self._me]
        others = others or [index for index in range(self._size) if index != self._me]
        turn = self._me % max(1, len(others))
        return tuple(others[turn:] + others[:turn])

    def compute(self, author: int) -> list[Target]:
        """What is wanted of a lane, by falling importance, but for what is seen at once to be
        there."""
        chain = self._chains[author]
        cursor = chain.cursor.sequence
        targets = [target for target in self._deliveries.targets(author) if target.sources]
        point = self._certificates.point(author)
        if not chain.is_in_prefix(point) and self.has_room(author, point.sequence):
            certificate = self._certificates.newest(author)
            assert certificate is not None, "without one there is no room for its place"
            sources = self.find_sources(certificate)
            if sources:
                targets.append(Target(point, cursor, sources, is_urgent=False))
        announced = self._announced.get(author, LANE_START)
        if not chain.is_in_prefix(announced) and self.has_room(author, announced.sequence):
            targets.append(Target(announced, cursor, (author,), is_urgent=False))
        return targets
