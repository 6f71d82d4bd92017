"""Gives members that join false offers, false lists of pieces, and false pieces.

An offer needs signatures of a quorum, which a liar cannot forge: it asks the others for theirs, as
a member that joins does, and bends what they give.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import ClassVar, Final

from msgspec.structs import replace

from consensus.effects import Received, Send
from consensus.messages import (
    SNAPSHOT_CHUNK_MAX_BYTES,
    SnapshotChunk,
    SnapshotOffer,
    SnapshotRequest,
)
from crypto.codec import encode
from engine.snapshots.chunks import CHUNKS_MAX, ChunkName, compute_chunk_name, encode_manifest
from localnet.byzantine.behaviour import Behaviour, Need, Tools
from node.events import NodeEffect, NodeEvent, ServeChunk, ServeOffer
from node.joining import CHUNK_WAIT_MS, ROUND_MS
from node.offers import CheckedOffer, Offer, OfferError, check_offer

_INVENTED: Final = bytes([9]) * 96
"""In the place of a quorum's signature."""


class FalsePieces(Behaviour):
    """Answers requests for pieces of a snapshot with other bytes, as many as it likes."""

    name: ClassVar[str] = "false_pieces"
    needs: ClassVar[Need] = Need.JOINING

    def bend(self, now_ms: int, effect: NodeEffect) -> Iterable[NodeEffect]:
        del now_ms
        if not isinstance(effect, ServeChunk):
            return (effect,)
        random = self.tools.random
        data = random.randbytes(random.choice((1, 1_000, SNAPSHOT_CHUNK_MAX_BYTES)))
        return (Send((effect.to,), SnapshotChunk(effect.name, data)),)


class _FalseOffers(Behaviour):
    """What those have in common that bend offers."""

    needs: ClassVar[Need] = Need.JOINING

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._copied: CheckedOffer | None = None
        """The newest that somebody gave."""
        self._older: CheckedOffer | None = None
        """Of another height, given before."""
        self._asked_ms = -ROUND_MS
        self.invented: dict[bytes, bytes] = {}
        """Pieces of its own, by name."""

    def hear(self, now_ms: int, event: NodeEvent) -> NodeEvent | None:
        del now_ms
        if isinstance(event, Received) and isinstance(event.message, SnapshotOffer):
            # Another liar's may not hold; what it is worth is looked at as everybody does.
            with suppress(OfferError):
                self._copy(
                    check_offer(event.message.offer, self.tools.chain_id, self.tools.committee)
                )
        return event

    def _copy(self, given: CheckedOffer) -> None:
        held = self._copied
        if held is None or given.offer.height > held.offer.height:
            self._copied, self._older = given, held

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[NodeEffect]:
        del event
        if now_ms >= self._asked_ms + ROUND_MS:
            self._asked_ms = now_ms
            yield Send(self.tools.others, SnapshotRequest(0))

    def bend(self, now_ms: int, effect: NodeEffect) -> Iterable[NodeEffect]:
        match effect:
            case ServeOffer(to):
                if self._copied is not None:
                    yield Send((to,), SnapshotOffer(self.bend_offer(self._copied, self._older)))
            case ServeChunk(to, name) if name in self.invented:
                chunk = SnapshotChunk(name, self.invented[name])
                yield from self.give(now_ms, Send((to,), chunk))
            case _:
                yield effect

    def bend_offer(self, true: CheckedOffer, older: CheckedOffer | None) -> bytes:
        """What is offered instead of a true offer."""
        raise AssertionError("each offers something of its own")

    def give(self, now_ms: int, send: Send) -> Iterable[NodeEffect]:
        """How an invented piece is given."""
        del now_ms
        return (send,)

    def list_invented(self, true: CheckedOffer, pieces: Sequence[bytes]) -> bytes:
        """An offer of the same height and roots, of pieces that only this member has."""
        names = tuple(ChunkName(compute_chunk_name(each), len(each)) for each in pieces)
        self.invented = {name.digest: each for name, each in zip(names, pieces, strict=True)}
        manifest = replace(true.manifest, chunks=names)
        return encode(replace(true.offer, manifest=encode_manifest(manifest), order=names[:1]))


class FalseManifest(_FalseOffers):
    """Offers a list of pieces that make another state than was certified, and gives them."""

    name: ClassVar[str] = "false_manifest"

    def bend_offer(self, true: CheckedOffer, older: CheckedOffer | None) -> bytes:
        del older
        return self.list_invented(true, [b"an account that nobody has"])


class EndlessManifest(_FalseOffers):
    """Offers as many pieces as a list may name, and gives one at a time, as late as may be."""

    name: ClassVar[str] = "endless_manifest"

    def bend_offer(self, true: CheckedOffer, older: CheckedOffer | None) -> bytes:
        del older
        return self.list_invented(true, [bytes(divmod(each, 256)) for each in range(CHUNKS_MAX)])

    def give(self, now_ms: int, send: Send) -> Iterable[NodeEffect]:
        return (self.hold(now_ms + CHUNK_WAIT_MS // 2, send),)


class MisfitOffer(_FalseOffers):
    """Offers what does not fit together: cut off, certified for another height, or by too few."""

    name: ClassVar[str] = "misfit_offer"

    def bend_offer(self, true: CheckedOffer, older: CheckedOffer | None) -> bytes:
        offer = true.offer
        stale = replace(
            offer.certificate,
            header=replace(offer.certificate.header, height=max(offer.height - 1, 1)),
        )
        if older is not None:
            stale = older.offer.certificate
        few = replace(offer.certificate, signers=bytes(len(offer.certificate.signers)))
        return self.tools.random.choice(
            (
                encode(offer)[:-1],
                encode(replace(offer, certificate=stale)),
                encode(replace(offer, certificate=few)),
            )
        )


class HollowOffer(_FalseOffers):
    """Offers states under signatures that nobody made."""

    name: ClassVar[str] = "hollow_offer"

    def bend_offer(self, true: CheckedOffer, older: CheckedOffer | None) -> bytes:
        del older
        offer: Offer = true.offer
        if self.tools.random.random() < 0.5:
            return encode(replace(offer, qc=replace(offer.qc, signature=_INVENTED)))
        certificate = replace(offer.certificate, signature=_INVENTED)
        return encode(replace(offer, certificate=certificate))
