"""What a node gives to those that join: its newest certified snapshot, and pieces of the newest.

A snapshot can be offered once a quorum has certified the state that is in it and this node's own
result is the same. Nothing is copied for it: pieces of the engine's state are ranges of the file
that the engine's process saved, and those of the order state are ranges of a record in the archive.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from consensus.chain import ARCHIVE_BLOCK_TABLE, ARCHIVE_COMMIT_TABLE
from consensus.effects import compute_key
from consensus.messages import SNAPSHOT_OFFER_MAX_BYTES
from consensus.types import QC, Block, CheckpointHeader, StateCertificate
from crypto.codec import decode, encode
from engine.snapshots.chunks import compute_chunk_name, decode_manifest
from node.offers import Offer, cut_order
from node.recovery import (
    CERTIFICATE_BY_HEIGHT_TABLE,
    CHECKPOINT_TABLE,
    ORDER_SNAPSHOT_TABLE,
    Archive,
)

HEIGHTS_INDEXED_MAX: Final = 4
"""Snapshots whose pieces can be found: as many as somebody may still be fetching."""


class SavedSnapshots(Protocol):
    """Snapshots of the engine as they were saved. Blocking."""

    def heights(self) -> Iterable[int]:
        """Of those that have a manifest."""
        ...

    def read_manifest(self, height: int) -> bytes | None:
        """An encoded manifest; None if it is gone."""
        ...

    def read_range(self, height: int, offset: int, size_bytes: int) -> bytes | None:
        """A range of the engine's state; None if it is gone."""
        ...


class _Piece(NamedTuple):
    """Where a piece lies."""

    is_order: bool
    offset: int
    size_bytes: int


class SnapshotLibrary:
    """See the module docstring. Blocking; for one thread at a time."""

    def __init__(self, snapshots: SavedSnapshots, archive: Archive) -> None:
        self._snapshots = snapshots
        self._archive = archive
        self._offers: OrderedDict[int, bytes] = OrderedDict()
        self._pieces: dict[int, dict[bytes, _Piece]] = {}

    def read_offer(self, above_height: int) -> bytes:
        """The encoded offer of the newest snapshot above a height; empty if there is none."""
        for height in sorted(self._snapshots.heights(), reverse=True):
            if height <= above_height:
                break
            offer = self._offers.get(height)
            if offer is None:
                offer = self._make_offer(height)
            if offer is not None:
                return offer
        return b""

    def read_chunk(self, name: bytes) -> bytes:
        """A piece of a snapshot that was offered; empty if it is gone, or damaged."""
        for height in reversed(self._offers):
            piece = self._pieces[height].get(name)
            if piece is None:
                continue
            if piece.is_order:
                order = self._archive.read(ORDER_SNAPSHOT_TABLE, compute_key(height)) or b""
                data: bytes | None = order[piece.offset : piece.offset + piece.size_bytes]
            else:
                data = self._snapshots.read_range(height, piece.offset, piece.size_bytes)
            if data and compute_chunk_name(data) == name:
                return data
        return b""

    def _make_offer(self, height: int) -> bytes | None:
        key, archive = compute_key(height), self._archive
        certificate = archive.read(CERTIFICATE_BY_HEIGHT_TABLE, key)
        own = archive.read(CHECKPOINT_TABLE, key)
        block = archive.read(ARCHIVE_BLOCK_TABLE, key)
        qc = archive.read(ARCHIVE_COMMIT_TABLE, key)
        order = archive.read(ORDER_SNAPSHOT_TABLE, key)
        manifest = self._snapshots.read_manifest(height)
        if not (certificate and own and block and qc and order and manifest):
            return None
        decoded = decode(StateCertificate, certificate)
        if decoded.header != decode(CheckpointHeader, own):
            return None
        names = cut_order(order)
        offer = Offer(decoded, decode(Block, block), decode(QC, qc), manifest, names)
        encoded = encode(offer)
        if len(encoded) > SNAPSHOT_OFFER_MAX_BYTES:
            return None
        pieces: dict[bytes, _Piece] = {}
        for is_order, chunks in ((False, decode_manifest(manifest).chunks), (True, names)):
            offset = 0
            for chunk in chunks:
                pieces.setdefault(chunk.digest, _Piece(is_order, offset, chunk.size_bytes))
                offset += chunk.size_bytes
        self._offers[height] = encoded
        self._pieces[height] = pieces
        while len(self._offers) > HEIGHTS_INDEXED_MAX:
            oldest, _ = self._offers.popitem(last=False)
            del self._pieces[oldest]
        return encoded
