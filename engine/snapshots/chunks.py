"""Snapshots in pieces that are named by their digests, for a node that joins.

Chunks are consecutive slices of the bytes that `engine.snapshots.whole.snapshot` gives, and putting
them one after the other gives these bytes again. So whoever loads a snapshot needs no knowledge of
how it was cut, and whoever cuts may cut otherwise in a later version.

The cuts follow the content: a field of the snapshot that is a long list (accounts, orders) begins a
chunk and ends one, and inside it a chunk ends before an element whose key has a certain digest. So
two snapshots have equal chunks wherever a stretch of accounts or orders is equal, whatever came or
went before it: a node that has an older snapshot, or was interrupted, loads only what it lacks.

* *Cuts at fixed offsets* (rejected): one new account would move all bytes behind it.
* *A rolling hash over the bytes* (rejected): our own bytes say where elements begin.

    manifest = version (1 byte) | Manifest, canonical MessagePack
    name of a chunk       BLAKE3 of domain and bytes (`bulk_digest`, SNAPSHOT_CHUNK)

Equal states give equal manifests, so a node may ask several members whether they offer the same and
load each chunk from any of them. What proves a snapshot is its state root, which `restore` computes
and which the node has from a certificate: a manifest that lies costs its reader at most
`SNAPSHOT_MAX_BYTES`, and whoever gave it stands exposed.

Nothing here asks, waits or keeps files: the node offers manifests (`node.offers`), fetches chunks
from several members at once and compares each with its name (`node.joining`).
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from crypto.codec import DecodeError, decode, encode
from crypto.digest import Domain, bulk_digest
from crypto.types import Digest, Uint
from engine.errors import ChunkError
from engine.snapshots.whole import SNAPSHOT_VERSION, EngineSnapshot

MANIFEST_VERSION: Final = 1
"""Raised whenever the meaning of a manifest's bytes changes."""

CHUNK_MIN_BYTES: Final = 32_768
"""No two ends that keys name lie closer together, so nobody who chooses keys can make many chunks
of a small state. What stands around long lists may be shorter."""

CHUNK_MAX_BYTES: Final = 262_144
"""No chunk is longer."""

CUT_ONE_IN: Final = 512
"""One element in so many ends the chunk before it, once that has the smallest size."""

CHUNKS_MAX: Final = 16_384
"""Chunks of one snapshot."""

SNAPSHOT_MAX_BYTES: Final = 1 << 30
"""Content of one manifest: what a joining node must be ready to hold."""

MANIFEST_MAX_BYTES: Final = 1 << 20
"""More than the largest manifest has."""

_VERSION: Final = EngineSnapshot.__struct_fields__.index("version")
_HEIGHT: Final = EngineSnapshot.__struct_fields__.index("height")
_STATE_ROOT: Final = EngineSnapshot.__struct_fields__.index("state_root")

_decode_items: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


class ChunkName(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One chunk: what it hashes to, and how long it is."""

    digest: Digest
    size_bytes: Annotated[int, Meta(ge=1, le=CHUNK_MAX_BYTES)]


class Manifest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a snapshot consists of. The same chunk may stand in it more than once."""

    snapshot_version: Uint
    height: Uint
    state_root: Digest
    chunks: Annotated[tuple[ChunkName, ...], Meta(min_length=1, max_length=CHUNKS_MAX)]
    """In the order of the bytes."""

    @property
    def size_bytes(self) -> int:
        """Of the whole snapshot."""
        return sum(chunk.size_bytes for chunk in self.chunks)


def split(data: bytes) -> tuple[Manifest, tuple[bytes, ...]]:
    """Cut a snapshot of our own into its manifest and its chunks, in order.

    Raises `ChunkError` (`manifest.too_large`) for a state that is larger than may be sent.
    """
    fields = _decode_items(data)
    chunks = []
    start = 0
    for end in _find_ends(data, fields):
        chunks.append(data[start:end])
        start = end
    if len(chunks) > CHUNKS_MAX or len(data) > SNAPSHOT_MAX_BYTES:
        raise ChunkError("manifest.too_large", f"{len(data)} bytes in {len(chunks)} chunks")
    manifest = Manifest(
        msgspec.msgpack.decode(fields[_VERSION], type=int),
        msgspec.msgpack.decode(fields[_HEIGHT], type=int),
        msgspec.msgpack.decode(fields[_STATE_ROOT], type=bytes),
        tuple(ChunkName(compute_chunk_name(chunk), len(chunk)) for chunk in chunks),
    )
    return manifest, tuple(chunks)


def encode_manifest(manifest: Manifest) -> bytes:
    """A manifest's bytes."""
    return bytes([MANIFEST_VERSION]) + encode(manifest)


def decode_manifest(data: bytes) -> Manifest:
    """The manifest in bytes of anybody, of a snapshot that this program can read.

    Raises `ChunkError`. Whether it is of the wanted state is for `validate_manifest`.
    """
    if len(data) > MANIFEST_MAX_BYTES:
        raise ChunkError("manifest.too_large", f"{len(data)} bytes, at most {MANIFEST_MAX_BYTES}")
    if not data or data[0] != MANIFEST_VERSION:
        found = data[0] if data else "none"
        raise ChunkError("manifest.version", f"manifest version {found}, not {MANIFEST_VERSION}")
    try:
        manifest = decode(Manifest, data[1:])
    except DecodeError as error:
        raise ChunkError("manifest.malformed", str(error)) from error
    if manifest.snapshot_version != SNAPSHOT_VERSION:
        raise ChunkError(
            "manifest.version",
            f"snapshot version {manifest.snapshot_version}, not {SNAPSHOT_VERSION}",
        )
    if manifest.size_bytes > SNAPSHOT_MAX_BYTES:
        raise ChunkError("manifest.too_large", f"{manifest.size_bytes} bytes of content")
    sizes: dict[bytes, int] = {}
    for chunk in manifest.chunks:
        if sizes.setdefault(chunk.digest, chunk.size_bytes) != chunk.size_bytes:
            raise ChunkError("manifest.malformed", "one chunk has two sizes")
    return manifest


def validate_manifest(manifest: Manifest, height: int, state_root: bytes) -> None:
    """Raise `ChunkError` unless it says that it is of the state with this certified root."""
    if (manifest.height, manifest.state_root) != (height, state_root):
        raise ChunkError(
            "manifest.other_state",
            f"of height {manifest.height} and root {manifest.state_root.hex()[:16]}, not of "
            f"height {height} and root {state_root.hex()[:16]}",
        )


def compute_chunk_name(data: bytes) -> bytes:
    """The digest that names a chunk."""
    return bulk_digest(Domain.SNAPSHOT_CHUNK, data)


def _find_ends(data: bytes, fields: list[msgspec.Raw]) -> Iterator[int]:
    """Where each chunk ends."""
    start = 0
    for end in _find_content_ends(data, fields):
        # What cannot be cut by its content is cut at the largest size.
        while end - start > CHUNK_MAX_BYTES:
            start += CHUNK_MAX_BYTES
            yield start
        if end > start:
            yield end
        start = end


def _find_content_ends(data: bytes, fields: list[msgspec.Raw]) -> Iterator[int]:
    """Where the content lets a chunk end; an end may be named twice in a row."""
    position = len(data) - sum(map(len, fields))
    for field in fields:
        if len(field) >= CHUNK_MIN_BYTES and _is_array(field):
            items = _decode_items(field)
            position += len(field) - sum(map(len, items))
            yield position
            yield from _find_ends_between(items, position)
            position += sum(map(len, items))
            yield position
        else:
            position += len(field)
    yield position


def _find_ends_between(items: list[msgspec.Raw], position: int) -> Iterator[int]:
    """Before which elements of a list a chunk ends; the first begins one at `position`."""
    start = position
    for item in items:
        if position - start >= CHUNK_MIN_BYTES and _is_cut(item):
            yield position
            start = position
        position += len(item)


def _is_cut(item: msgspec.Raw) -> bool:
    """Does the chunk before this element end? Its key alone decides, which is its first field, so
    that the cuts stay where they are when the element's other fields change."""
    key = _decode_items(item)[0] if _is_array(item) and len(item) > 1 else item
    return int.from_bytes(sha256(key).digest()[:4], "big") % CUT_ONE_IN == 0


def _is_array(item: msgspec.Raw) -> bool:
    """By the first byte of the MessagePack value: fixarray, array 16 or array 32."""
    first = memoryview(item)[0]
    return 0x90 <= first <= 0x9F or first in (0xDC, 0xDD)
