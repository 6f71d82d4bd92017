"""Reading the batch store: by the node that writes it, and by tools beside a running node.

A reader has a connection of its own and changes nothing, so any number of them may read while one
`BatchStore` appends.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import apsw

from consensus.types import SignedBatchHeader
from crypto.codec import DecodeError, decode
from node.storage.disk import Disk
from node.storage.errors import StorageError, mapping_errors
from node.storage.segments import decode_stored, segment_path
from node.storage.sql import select

INDEX_NAME: Final = "index.db"


class BatchReader:
    """Finds batches through the index. Blocking; any thread at any time."""

    def __init__(self, directory: Path, *, disk: Disk | None = None) -> None:
        """Open an existing store. Raises `StorageError`."""
        self.directory = directory
        self._disk = disk if disk is not None else Disk()
        self._lock = threading.Lock()
        with mapping_errors(f"open {directory}"):
            self._index = apsw.Connection(
                str(directory / INDEX_NAME), flags=apsw.SQLITE_OPEN_READONLY
            )

    def get(self, batch_id: bytes) -> tuple[SignedBatchHeader, bytes] | None:
        """A stored batch, or None. Raises `StorageError` (`storage.corrupt`) if it is damaged."""
        with self._lock, mapping_errors(f"read {self.directory}"):
            found = select(
                self._index,
                "SELECT segment, start_byte, size_bytes FROM batch WHERE batch_id = ?",
                (batch_id,),
            )
        if not found:
            return None
        segment, start_byte, size_bytes = found[0]
        path = segment_path(self.directory, segment)
        with mapping_errors(f"read {path}"):
            data = self._disk.read_at(path, start_byte, size_bytes)
        record = decode_stored(data, batch_id, f"{path} at {start_byte}")
        return record.signed_header, record.body

    def find_header(self, batch_id: bytes) -> SignedBatchHeader | None:
        """The signed header of a stored batch, or None."""
        with self._lock, mapping_errors(f"read {self.directory}"):
            query = "SELECT signed_header FROM batch WHERE batch_id = ?"
            found = select(self._index, query, (batch_id,))
        return self._decode_header(found[0][0]) if found else None

    def headers_above(self, cursors: Mapping[int, int]) -> list[tuple[bytes, SignedBatchHeader]]:
        """(batch id, signed header) of every stored batch above its author's cursor (0 for an
        author without one), by author and sequence."""
        with self._lock, mapping_errors(f"read {self.directory}"):
            authors = [
                author for (author,) in select(self._index, "SELECT DISTINCT author FROM batch")
            ]
            rows = [
                row
                for author in sorted(authors)
                for row in select(
                    self._index,
                    "SELECT batch_id, signed_header FROM batch WHERE author = ? AND sequence > ?"
                    " ORDER BY sequence, batch_id",
                    (author, cursors.get(author, 0)),
                )
            ]
        return [(batch_id, self._decode_header(header)) for batch_id, header in rows]

    def _decode_header(self, encoded: bytes) -> SignedBatchHeader:
        try:
            return decode(SignedBatchHeader, encoded)
        except DecodeError as error:
            path = self.directory / INDEX_NAME
            raise StorageError(
                "storage.corrupt", f"{path}: {error}; without an index, one is made anew"
            ) from error

    def close(self) -> None:
        """Close; closing again does nothing."""
        with self._lock:
            self._index.close()
