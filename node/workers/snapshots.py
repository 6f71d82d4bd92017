"""Snapshots of the engine's state on disk: written whole or not at all, checked when read.

```text
file   = magic (8) | header size (4, big-endian) | header | header digest (32) | state
header = SnapshotHeader, canonical;  state = `engine.snapshots.whole.snapshot`
```

A file is made under another name, synced, and renamed into place, and the newest two are kept: a
crash or a damaged file costs a longer replay and nothing else. Damage is told from ownership: a
whole file of another chain means that the node looks into the wrong home, and is refused.

The files are this node's own, and trusted as far as their digests reach; `restore` still proves
that the state has the root that the header names.
"""

import os
import sys
from pathlib import Path
from typing import Final

from msgspec import Struct

from crypto.codec import DecodeError, decode, encode
from crypto.digest import DIGEST_SIZE_BYTES, Domain, bulk_digest, digest
from crypto.types import Digest, Uint
from engine.commitment.root import compute_state_root
from engine.errors import SnapshotError
from engine.genesis import EngineGenesis
from engine.snapshots.whole import restore, snapshot
from engine.state import EngineState, create_state
from node.storage.disk import UNFINISHED_SUFFIX, write_whole
from node.storage.errors import StorageError, mapping_errors

SNAPSHOTS_KEPT: Final = 2
"""The newest one, and the one to fall back on."""

SUFFIX: Final = ".snapshot"

_MAGIC: Final = b"ROTASNAP"
_SIZE_SIZE_BYTES: Final = 4


class SnapshotHeader(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Whose state it is and which."""

    chain_id: Digest
    genesis_digest: Digest
    """Of the engine's genesis."""
    height: Uint
    state_root: Digest
    size_bytes: Uint
    """Of the state."""
    checksum: Digest
    """`bulk_digest` of the state."""


class SnapshotStore:
    """The snapshots of one chain in one directory, for one process."""

    def __init__(self, directory: Path, chain_id: bytes, genesis: EngineGenesis) -> None:
        self._directory = directory
        self._chain_id = chain_id
        self._genesis = genesis

    def load_newest(self) -> EngineState:
        """The state of the newest valid snapshot, or of genesis if there is none.

        Says on stderr which files it passed over. Raises `StorageError` (`storage.foreign` for
        another chain's snapshot) and `engine.genesis.GenesisError`.
        """
        state = create_state(self._genesis)
        with mapping_errors(f"load a snapshot from {self._directory}"):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in self._directory.glob(f"*{UNFINISHED_SUFFIX}"):
                path.unlink()
            for path in sorted(self._directory.glob(f"*{SUFFIX}"), reverse=True):
                try:
                    return self._load(path, state.genesis_digest)
                except SnapshotError as error:
                    print(f"{path} is passed over: {error}", file=sys.stderr)  # noqa: T201 - a log
        return state

    def save(self, state: EngineState) -> None:
        """`write`, then `remove_obsolete`. Raises `StorageError`."""
        self.write(state)
        self.remove_obsolete(state.height)

    def write(self, state: EngineState) -> bytes:
        """Make a snapshot durable and return the state's bytes in it. Raises `StorageError`.

        Removes nothing: a process that only writes may outlive the one that it writes for, and must
        not take anything from the next one.
        """
        with mapping_errors(f"save a snapshot in {self._directory}"):
            body = snapshot(state)
            header = encode_header(self._chain_id, state, body)
            write_whole(self._directory / _name(state.height), (header, body))
        return body

    def remove_obsolete(self, height: int) -> None:
        """Keep the snapshot of a height that was just saved, and the one before it. Newer ones go
        too: they are what `load_newest` passed over. Raises `StorageError`."""
        with mapping_errors(f"remove snapshots from {self._directory}"):
            name = _name(height)
            others = sorted(self._directory.glob(f"*{SUFFIX}"), reverse=True)
            older = [each for each in others if each.name < name]
            newer = [each for each in others if each.name > name]
            for obsolete in (*newer, *older[SNAPSHOTS_KEPT - 1 :]):
                obsolete.unlink()

    def _load(self, path: Path, genesis_digest: bytes) -> EngineState:
        content = path.read_bytes()
        state = decode_snapshot(content, self._chain_id, genesis_digest, str(path))
        if path.name != _name(state.height):
            raise SnapshotError("its name is not the one of its state")
        return state


def read_state_range(path: Path, offset: int, size_bytes: int) -> bytes:
    """A range of the state in a snapshot's file, shorter where that ends. Raises `OSError`."""
    start = len(_MAGIC) + _SIZE_SIZE_BYTES
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header_size_bytes = int.from_bytes(os.pread(file, _SIZE_SIZE_BYTES, len(_MAGIC)), "big")
        begin = start + header_size_bytes + DIGEST_SIZE_BYTES
        return os.pread(file, size_bytes, begin + offset)
    finally:
        os.close(file)


def encode_header(chain_id: bytes, state: EngineState, body: bytes) -> bytes:
    """What stands before a state in its file."""
    header = encode(
        SnapshotHeader(
            chain_id,
            state.genesis_digest,
            state.height,
            compute_state_root(state),
            len(body),
            bulk_digest(Domain.SNAPSHOT, body),
        )
    )
    size = len(header).to_bytes(_SIZE_SIZE_BYTES, "big")
    return _MAGIC + size + header + digest(Domain.SNAPSHOT, header)


def decode_snapshot(
    content: bytes, chain_id: bytes, genesis_digest: bytes, place: str
) -> EngineState:
    """The state in a snapshot's file. Raises `SnapshotError` for a damaged one, and `StorageError`
    (`storage.foreign`) for another chain's, with the `place` where it lies."""
    header, body = _split(memoryview(content))
    if (header.chain_id, header.genesis_digest) != (chain_id, genesis_digest):
        raise StorageError(
            "storage.foreign",
            f"{place} belongs to chain {header.chain_id.hex()[:16]}, not to this one "
            f"({chain_id.hex()[:16]})",
        )
    data = bytes(body)
    if len(data) != header.size_bytes:
        raise SnapshotError(f"{len(data)} of {header.size_bytes} bytes are there")
    if bulk_digest(Domain.SNAPSHOT, data) != header.checksum:
        raise SnapshotError("its state does not have the checksum in its header")
    state = restore(data)
    if state.genesis_digest != genesis_digest or state.height != header.height:
        raise SnapshotError("its state is not the one that its header names")
    if compute_state_root(state) != header.state_root:
        raise SnapshotError("its root is not the one of its state")
    return state


def _split(content: memoryview) -> tuple[SnapshotHeader, memoryview]:
    """Header and state of a file whose header is whole."""
    start = len(_MAGIC) + _SIZE_SIZE_BYTES
    if bytes(content[: len(_MAGIC)]) != _MAGIC:
        raise SnapshotError("it does not begin as a snapshot")
    end = start + int.from_bytes(content[len(_MAGIC) : start], "big")
    encoded = bytes(content[start:end])
    if bytes(content[end : end + DIGEST_SIZE_BYTES]) != digest(Domain.SNAPSHOT, encoded):
        raise SnapshotError("its header is damaged")
    try:
        return decode(SnapshotHeader, encoded), content[end + DIGEST_SIZE_BYTES :]
    except DecodeError as error:
        raise SnapshotError(f"its header is of another version: {error}") from error


def _name(height: int) -> str:
    """Names sort as heights."""
    return f"{height:020d}{SUFFIX}"
