"""What a node that joins has fetched: the offer and its pieces, each a file, whole or not at all.

A piece is named by its digest and compared with it when it is read again, so a damaged one is
fetched once more. The files stay when the node has joined: `rota replay` begins with them, because
such a node has no block below them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from engine.snapshots.chunks import CHUNK_MAX_BYTES, compute_chunk_name
from node.storage.disk import sync_directory, write_whole
from node.storage.errors import mapping_errors

OFFER_NAME: Final = "offer"


class JoinFiles:
    """One directory. Blocking; every method raises `StorageError`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read_offer(self) -> bytes | None:
        """The offer that was being fetched, or that the node joined by; None if there is none."""
        with mapping_errors(f"read {self._directory}"):
            path = self._directory / OFFER_NAME
            return path.read_bytes() if path.exists() else None

    def find_held(self) -> frozenset[bytes]:
        """The names of all pieces that are here and whole."""
        held: set[bytes] = set()
        with mapping_errors(f"read {self._directory}"):
            for path in self._directory.glob("*"):
                is_named = len(path.name) == 64 and set(path.name) <= set("0123456789abcdef")
                if is_named and path.stat().st_size <= CHUNK_MAX_BYTES:
                    name = bytes.fromhex(path.name)
                    if compute_chunk_name(path.read_bytes()) == name:
                        held.add(name)
        return frozenset(held)

    def keep_offer(self, offer: bytes) -> None:
        """Remember an offer, durably, instead of an earlier one."""
        self._write(OFFER_NAME, offer)

    def keep_chunk(self, name: bytes, data: bytes) -> None:
        """Keep a piece, durably."""
        self._write(name.hex(), data)

    def read_chunks(self, names: Iterable[bytes]) -> bytes:
        """Pieces that are here, one after the other."""
        with mapping_errors(f"read {self._directory}"):
            return b"".join((self._directory / name.hex()).read_bytes() for name in names)

    def remove_others(self, names: Iterable[bytes]) -> None:
        """Remove all pieces but these, and what a crash left unfinished."""
        kept = {OFFER_NAME, *(name.hex() for name in names)}
        with mapping_errors(f"clear {self._directory}"):
            for path in self._directory.glob("*"):
                if path.name not in kept:
                    path.unlink()

    def _write(self, name: str, data: bytes) -> None:
        with mapping_errors(f"write to {self._directory}"):
            if not self._directory.exists():
                self._directory.mkdir(mode=0o700, parents=True)
                sync_directory(self._directory.parent)
            write_whole(self._directory / name, (data,))
