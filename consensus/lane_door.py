"""The door for batches: which of those that arrive are taken, from whom, and as what.

Nobody is believed here: a batch is taken if this node asked the sender for it, or from its author
as far as there is room. An author that repeats itself is told what it seems to have missed, and
every peer is answered at a bounded rate.
"""

from committee.committee import Committee
from consensus.effects import Effect, Misbehaviour, Send
from consensus.lane_acks import AckSigner
from consensus.lane_certificates import LaneCertificates
from consensus.lane_chain import LaneChain, LanePoint
from consensus.lane_fetch import LaneFetcher
from consensus.lane_intake import BatchIntake, Origin
from consensus.lane_targets import LaneTargets
from consensus.messages import Ack, BatchMessage, LaneCertificate
from consensus.types import BatchHeader
from crypto.digest import ZERO_DIGEST, Domain, bulk_digest


class Replies:
    """Answers to repeated messages, each peer's at a bounded rate."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._replied_ms: dict[int, int] = {}

    def make(self, now_ms: int, peer: int, message: Ack | LaneCertificate) -> list[Effect]:
        """The answer, unless this peer had one just now."""
        replied_ms = self._replied_ms.get(peer)
        if replied_ms is not None and now_ms - replied_ms < self._interval_ms:
            return []
        self._replied_ms[peer] = now_ms
        return [Send((peer,), message)]


class BatchDoor:
    """Decides on every `BatchMessage`."""

    def __init__(
        self,
        chain_id: bytes,
        committee: Committee,
        chains: list[LaneChain],
        intake: BatchIntake,
        targets: LaneTargets,
        fetcher: LaneFetcher,
        certificates: LaneCertificates,
        signer: AckSigner,
        replies: Replies,
    ) -> None:
        self._chain_id = chain_id
        self._committee = committee
        self._chains = chains
        self._intake = intake
        self._targets = targets
        self._fetcher = fetcher
        self._certificates = certificates
        self._signer = signer
        self._replies = replies

    def receive(self, now_ms: int, sender: int, message: BatchMessage) -> tuple[list[Effect], bool]:
        """What follows from a batch, and whether it completes an answer, so that the next holes
        of its lane should be looked for."""
        header = message.signed_header.header
        author = header.author
        if header.epoch != self._committee.epoch:
            return [], False
        if author >= len(self._committee) or not _is_well_formed(message):
            return [Misbehaviour(sender, "lane.batch_malformed")], False
        batch_id = header.batch_id(self._chain_id)
        if batch_id in self._chains[author]:
            return self._on_repeated(now_ms, sender, header), False
        point = LanePoint(header.sequence, batch_id)
        if self._fetcher.is_wanted(author, point):
            return self._on_wanted(now_ms, sender, point, message)
        return (self._on_offered(point, message) if sender == author else []), False

    def _on_wanted(
        self, now_ms: int, sender: int, point: LanePoint, message: BatchMessage
    ) -> tuple[list[Effect], bool]:
        header = message.signed_header.header
        author = header.author
        is_trusted_author = sender == author and author not in self._intake.bans
        if not is_trusted_author and not self._fetcher.is_answer(author, point, sender):
            return [], False
        # What a banned author answers is treated like anybody's: checked before it is stored.
        origin = Origin.AUTHOR if is_trusted_author else Origin.FETCHED
        effects = self._intake.take(origin, sender, point.batch_id, message)
        return effects, self._fetcher.on_accepted(now_ms, author, self._chains[author], header)

    def _on_offered(self, point: LanePoint, message: BatchMessage) -> list[Effect]:
        """A batch that nobody asked for, from its author."""
        author = message.signed_header.header.author
        if author in self._intake.bans or not self._targets.has_room(author, point.sequence):
            return []
        if self._chains[author].links_at(point.sequence):
            return self._intake.take_rival(point.batch_id, message)
        self._targets.announce(author, point)
        if self._intake.is_full(author):
            return []
        return self._intake.take(Origin.AUTHOR, author, point.batch_id, message)

    def _on_repeated(self, now_ms: int, sender: int, header: BatchHeader) -> list[Effect]:
        """An author repeats a batch: it misses the certificate or the acknowledgement."""
        if sender != header.author:
            return []
        certificate = self._certificates.newest(sender)
        newest = self._signer.newest(sender)
        if certificate is not None and certificate.data.sequence >= header.sequence:
            return self._replies.make(now_ms, sender, LaneCertificate(certificate))
        return [] if newest is None else self._replies.make(now_ms, sender, newest)


def _is_well_formed(message: BatchMessage) -> bool:
    header = message.signed_header.header
    if header.size_bytes != len(message.body) or header.sequence == 0:
        return False
    if (header.sequence == 1) != (header.parent == ZERO_DIGEST):
        return False
    # Here and not only in the worker (0.08 ms for half a megabyte): a batch is stored while it is
    # being checked, and what is stored under an id must never be another body.
    return bulk_digest(Domain.BATCH_BODY, message.body) == header.body_digest
