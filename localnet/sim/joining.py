"""Snapshots in the virtual world: nodes that give them, and nodes that join by one."""

from contextlib import suppress
from functools import lru_cache
from typing import Final

from consensus.effects import Store
from engine.errors import SnapshotError
from engine.snapshots.chunks import compute_chunk_name, decode_manifest, encode_manifest, split
from engine.snapshots.whole import snapshot
from localnet.sim.disk import NodeDisk
from node.joining import Resumed
from node.offers import Offer, OfferError, restore_offer
from node.snapshot_library import SnapshotLibrary
from node.storage.errors import StorageError
from node.workers.snapshots import decode_snapshot, encode_header

BODIES_MAX: Final = 16
"""Snapshots whose bytes are kept at hand."""


class _SavedSnapshots:
    """A virtual disk's, for `SnapshotLibrary`."""

    def __init__(self, disk: NodeDisk, chain_id: bytes, genesis_digest: bytes) -> None:
        self._disk = disk
        self._chain_id = chain_id
        self._genesis_digest = genesis_digest

    def heights(self) -> list[int]:
        return sorted(self._disk.engine_snapshots)

    def read_manifest(self, height: int) -> bytes | None:
        body = self._read_body(height)
        return None if body is None else encode_manifest(split(body)[0])

    def read_range(self, height: int, offset: int, size_bytes: int) -> bytes | None:
        body = self._read_body(height)
        return None if body is None else body[offset : offset + size_bytes]

    def _read_body(self, height: int) -> bytes | None:
        content = self._disk.engine_snapshots.get(height)
        if content is None:
            return None
        return _decode_body(content, self._chain_id, self._genesis_digest)


@lru_cache(maxsize=BODIES_MAX)
def _decode_body(content: bytes, chain_id: bytes, genesis_digest: bytes) -> bytes | None:
    with suppress(SnapshotError, StorageError):
        return snapshot(decode_snapshot(content, chain_id, genesis_digest, "virtual disk"))
    return None


def open_library(disk: NodeDisk, chain_id: bytes, genesis_digest: bytes) -> SnapshotLibrary:
    """What a node gives from its disk."""
    return SnapshotLibrary(_SavedSnapshots(disk, chain_id, genesis_digest), disk)


def read_resumed(disk: NodeDisk) -> Resumed:
    """What an earlier life of a joining node kept."""
    held = (name for name, data in disk.join_chunks.items() if compute_chunk_name(data) == name)
    return Resumed(disk.join_offer, frozenset(held))


def restore_joined(
    disk: NodeDisk, offer: Offer, chain_id: bytes, genesis_digest: bytes
) -> str | None:
    """Make a node's stores of the pieces; returns why they are not what was certified."""
    chunks = disk.join_chunks
    engine = b"".join(chunks[each.digest] for each in decode_manifest(offer.manifest).chunks)
    order = b"".join(chunks[each.digest] for each in offer.order)
    try:
        joined = restore_offer(
            offer, engine, order, chain_id=chain_id, genesis_digest=genesis_digest
        )
    except OfferError as error:
        return f"{error.code}: {error}"
    body = snapshot(joined.state)
    disk.engine_snapshots[offer.height] = encode_header(chain_id, joined.state, body) + body
    for put in joined.puts:
        disk.table(Store.ARCHIVE, put.table)[put.key] = put.value
    return None
