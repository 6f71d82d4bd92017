"""The author's side of a lane: proposing, back-pressure, and repeating what nobody confirms.

A batch is durable before it is broadcast. Otherwise an author that crashed in between would, after
its restart, sign a different batch at the same sequence, which is indistinguishable from fraud. Own
batches are signed and stored one at a time, so that the store never holds a later one without the
earlier; while one is on its way the next one grows.
"""

from dataclasses import dataclass

from consensus.backoff import compute_doubling_wait_ms
from consensus.effects import Effect, Send, ServeBatches, SignIdentity, Token
from consensus.lane_acks import AckCollector
from consensus.lane_chain import LaneChain, LanePoint
from consensus.lane_limits import REBROADCAST_BATCHES_MAX, LanesConfig
from consensus.messages import BatchMessage, LaneCertificate
from consensus.ownership import Tokens
from consensus.types import (
    AvailabilityCertificate,
    BatchHeader,
    SignedBatchHeader,
)
from crypto.digest import Domain, bulk_digest
from crypto.types import BATCH_BODY_MAX_BYTES


@dataclass
class LaneAuthor:
    """This node's own lane."""

    config: LanesConfig
    chain_id: bytes
    epoch: int
    me: int
    tokens: Tokens
    chain: LaneChain
    newest: LanePoint
    """What the next batch extends."""
    _signing: tuple[Token, BatchHeader, bytes] | None = None
    _storing: BatchMessage | None = None
    _attempt: int = 0
    _repeat_ms: int | None = None

    def can_propose(self) -> bool:
        """Is there room, and is the previous batch durable?"""
        backlog = self.newest.sequence - self.chain.cursor.sequence
        return (
            self._signing is None
            and self._storing is None
            and backlog < self.config.own_backlog_batches_max
            and self.chain.uncommitted_size_bytes < self.config.own_backlog_size_max_bytes
        )

    def propose(self, body: bytes) -> Effect:
        """Sign the header of the next batch."""
        assert 0 < len(body) <= BATCH_BODY_MAX_BYTES
        header = BatchHeader(
            epoch=self.epoch,
            author=self.me,
            sequence=self.newest.sequence + 1,
            parent=self.newest.batch_id,
            body_digest=bulk_digest(Domain.BATCH_BODY, body),
            size_bytes=len(body),
        )
        token = self.tokens.issue()
        self._signing = (token, header, body)
        unsigned = SignedBatchHeader(header, bytes(64))
        return SignIdentity(token, unsigned.author_signing_bytes(self.chain_id))

    def on_signed(self, token: Token, signature: bytes) -> BatchMessage | None:
        """The batch to be stored; None for a foreign token, or if the others turned out to hold
        one at that sequence already."""
        if self._signing is None or self._signing[0] != token:
            return None
        _, header, body = self._signing
        self._signing = None
        if header.sequence <= self.newest.sequence:
            return None
        self._storing = BatchMessage(SignedBatchHeader(header, signature), body)
        return self._storing

    def on_stored(self, now_ms: int, point: LanePoint) -> BatchMessage | None:
        """The batch to be broadcast, now that it is durable; None as in `on_signed`."""
        message = self._storing
        if message is None or message.signed_header.header.sequence != point.sequence:
            return None
        self._storing = None
        if point.sequence <= self.newest.sequence:
            return None
        self.newest = point
        if self._repeat_ms is None:
            self._repeat_ms = now_ms + self.config.rebroadcast_ms
        return message

    def on_covered(self, now_ms: int, point: LanePoint) -> None:
        """A certificate or a commit for the own lane. One beyond the newest known batch means that
        this disk has lost batches: continue after what the others hold."""
        if point.sequence > self.newest.sequence:
            self.newest = point
        self._attempt = 0
        self._repeat_ms = now_ms + self.config.rebroadcast_ms

    def start(self, now_ms: int) -> None:
        """Repeat at once what a previous life may not have been able to send."""
        if self.newest.sequence > self.chain.cursor.sequence:
            self._repeat_ms = now_ms

    def repeat(
        self,
        now_ms: int,
        peers: tuple[int, ...],
        collector: AckCollector,
        certificate: AvailabilityCertificate | None,
    ) -> list[Effect]:
        """Send the certificate, and the newest uncertified batches, to those who lack them."""
        if self.newest.sequence <= self.chain.cursor.sequence or not peers:
            self._repeat_ms = None
            return []
        if self._repeat_ms is None or now_ms < self._repeat_ms:
            return []
        self._attempt += 1
        self._repeat_ms = now_ms + compute_doubling_wait_ms(
            self.config.rebroadcast_ms, self._attempt
        )
        effects: list[Effect] = []
        certified_sequence = self.chain.cursor.sequence
        if certificate is not None:
            certified_sequence = max(certified_sequence, certificate.data.sequence)
            effects.append(Send(peers, LaneCertificate(certificate)))
        uncertified = tuple(
            link.batch_id
            for link in self.chain.links_above_cursor()
            if link.sequence > certified_sequence and link.is_stored
        )[-REBROADCAST_BATCHES_MAX:]
        for peer in peers:
            if uncertified and collector.newest_of(peer) < self.newest.sequence:
                effects.append(ServeBatches(peer, uncertified))
        return effects
