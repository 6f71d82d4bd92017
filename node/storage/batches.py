"""The batch store: batch bytes in append-only segment files, found through an index in SQLite.

A batch is durable when `commit` returns: its bytes were synced before the index was told. The
index costs no sync of its own (`synchronous = NORMAL`), because it can be rebuilt: when the store
is opened, what the segments hold beyond the last indexed byte is read and indexed. The first torn
record of the last segment ends that reading and is cut off with all that follows; it cannot have
been reported as stored. Damage anywhere else is an error.

Nothing else is ever removed: batches are what anybody replays the chain from.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import apsw
import structlog

from consensus.types import SignedBatchHeader
from crypto.codec import encode
from node.storage.batch_reader import INDEX_NAME, BatchReader
from node.storage.disk import Disk, write_fully
from node.storage.errors import StorageError, mapping_errors
from node.storage.segments import (
    SEGMENT_SIZE_BYTES,
    encode_record,
    parse_segment_number,
    read_record,
    segment_path,
)
from node.storage.sql import select

BATCHES_PER_COMMIT_MAX: Final = 32
"""For the committer in front of the store: enough to share a sync, and few enough (16 MiB of usual
batches, 40 ms) that an acknowledgement does not wait for a whole backlog."""

INDEX_VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS segment (
    number INTEGER PRIMARY KEY, indexed_bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS batch (
    batch_id BLOB PRIMARY KEY, segment INTEGER NOT NULL, start_byte INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL, author INTEGER NOT NULL, sequence INTEGER NOT NULL,
    signed_header BLOB NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX IF NOT EXISTS batch_by_place ON batch (author, sequence);
"""

_log = structlog.get_logger()


class StoredBatch(NamedTuple):
    """A batch to store."""

    batch_id: bytes
    signed_header: SignedBatchHeader
    body: bytes


class _Row(NamedTuple):
    """Where a batch lies."""

    batch_id: bytes
    segment: int
    start_byte: int
    size_bytes: int
    author: int
    sequence: int
    signed_header: bytes


def is_batch_store(directory: Path) -> bool:
    """Was a store opened here before, and is anything of it left: its index, or what the index is
    made of? Raises `OSError`."""
    if not directory.exists():
        return False
    names = [path.name for path in directory.iterdir()]
    return INDEX_NAME in names or any(parse_segment_number(name) is not None for name in names)


class BatchStore:
    """The segment folder. Blocking; any thread at any time, one writes at a time."""

    def __init__(
        self,
        directory: Path,
        *,
        disk: Disk | None = None,
        segment_size_bytes: int = SEGMENT_SIZE_BYTES,
    ) -> None:
        """Open or create, and repair the tail. Raises `StorageError`."""
        self.directory = directory
        self._disk = disk if disk is not None else Disk()
        self._segment_size_bytes = segment_size_bytes
        self._failure: StorageError | None = None
        self._file: int | None = None
        self._lock = threading.Lock()
        """Held while writing."""
        with mapping_errors(f"open {directory}"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._disk.sync_directory(directory.parent)
            self._index = apsw.Connection(str(directory / INDEX_NAME))
        try:
            with mapping_errors(f"open {directory}"):
                self._prepare_index()
                self._segment, self._end = self._recover()
            # Reads have a connection of their own and never wait for a running commit.
            self._reader = BatchReader(directory, disk=self._disk)
        except BaseException:
            # Raised on, whatever it is: only the index that nobody will close is let go.
            self._index.close()
            raise

    def commit(self, batches: Sequence[StoredBatch]) -> None:
        """Append batches, durable on return; one that is stored already is left out. Of copies
        with different signatures the last one is kept.

        Raises `StorageError`, and then again at every later call.
        """
        if self._failure is not None:
            raise self._failure
        try:
            with self._lock, mapping_errors(f"store batches in {self.directory}"):
                self._append(batches)
        except StorageError as error:
            self._failure = error
            raise

    def get(self, batch_id: bytes) -> tuple[SignedBatchHeader, bytes] | None:
        """`BatchReader.get`."""
        return self._reader.get(batch_id)

    def find_header(self, batch_id: bytes) -> SignedBatchHeader | None:
        """`BatchReader.find_header`."""
        return self._reader.find_header(batch_id)

    def headers_above(self, cursors: Mapping[int, int]) -> list[tuple[bytes, SignedBatchHeader]]:
        """`BatchReader.headers_above`."""
        return self._reader.headers_above(cursors)

    def close(self) -> None:
        """Close; closing again does nothing."""
        self._reader.close()
        with self._lock:
            self._close_segment()
            self._index.close()

    # ---- appending -------------------------------------------------------------------------

    def _append(self, batches: Sequence[StoredBatch]) -> None:
        fresh: dict[bytes, StoredBatch] = {}
        for batch in batches:
            # An id does not bind the author's signature: a copy that was checked replaces one that
            # came with a bad signature, also one that is still on its way in the same commit.
            earlier = fresh.get(batch.batch_id)
            held = earlier.signed_header if earlier else self._reader.find_header(batch.batch_id)
            if held != batch.signed_header:
                fresh[batch.batch_id] = batch
        pending = list(fresh.values())
        while pending:
            if self._end >= self._segment_size_bytes:
                self._roll()
            pending = self._append_to_segment(pending)

    def _append_to_segment(self, batches: list[StoredBatch]) -> list[StoredBatch]:
        """Write until the segment is full, sync once, index; return what did not fit."""
        buffers: list[bytes] = []
        rows: list[_Row] = []
        end = self._end
        for batch in batches:
            if end >= self._segment_size_bytes:
                break
            record = encode_record(*batch)
            size_bytes = sum(map(len, record))
            rows.append(
                _make_row(batch.batch_id, batch.signed_header, self._segment, end, size_bytes)
            )
            buffers += record
            end += size_bytes
        file = self._open_segment()
        write_fully(self._disk, file, buffers)
        self._disk.sync_data(file)
        self._insert(rows, self._segment, end)
        self._end = end
        return batches[len(rows) :]

    def _open_segment(self) -> int:
        if self._file is None:
            self._file = self._disk.open_append(segment_path(self.directory, self._segment))
            self._disk.sync_directory(self.directory)
        return self._file

    def _roll(self) -> None:
        self._close_segment()
        self._segment += 1
        self._end = 0

    def _close_segment(self) -> None:
        if self._file is not None:
            self._disk.close(self._file)
            self._file = None

    def _insert(self, rows: Sequence[_Row], segment: int, end: int) -> None:
        with self._index:
            self._index.executemany("INSERT OR REPLACE INTO batch VALUES (?,?,?,?,?,?,?)", rows)
            self._index.execute("INSERT OR REPLACE INTO segment VALUES (?, ?)", (segment, end))

    # ---- opening ---------------------------------------------------------------------------

    def _prepare_index(self) -> None:
        self._index.execute("PRAGMA journal_mode = WAL")
        self._index.execute("PRAGMA synchronous = NORMAL")
        version = int(select(self._index, "PRAGMA user_version")[0][0])
        if version not in (0, INDEX_VERSION):
            raise StorageError("storage.foreign", f"{self.directory}: index version {version}")
        with self._index:
            self._index.execute(_SCHEMA)
            self._index.execute(f"PRAGMA user_version = {INDEX_VERSION}")

    def _recover(self) -> tuple[int, int]:
        """Bring index and segments together; return the segment to append to and its end."""
        indexed = {
            int(number): int(end)
            for number, end in select(self._index, "SELECT number, indexed_bytes FROM segment")
        }
        numbers = self._segment_numbers()
        last_indexed = max(indexed, default=0)
        for number in numbers:
            if number < last_indexed and number not in indexed:
                path = segment_path(self.directory, number)
                raise StorageError(
                    "storage.corrupt",
                    f"{self.directory / INDEX_NAME} does not know {path}; without an index, one is "
                    "made anew",
                )
        for number, end in sorted(indexed.items()):
            path = segment_path(self.directory, number)
            if not path.exists() or self._disk.size_bytes(path) < end:
                raise StorageError("storage.corrupt", f"{path} is shorter than its index says")
        for expected, number in enumerate(numbers, start=1):
            if number != expected:
                path = segment_path(self.directory, expected)
                raise StorageError("storage.corrupt", f"{path} is missing, but {number} is there")
        tail = [number for number in numbers if number >= last_indexed]
        for number in tail:
            end = self._index_tail(number, indexed.get(number, 0), is_last=number == tail[-1])
        return (tail[-1], end) if tail else (1, 0)

    def _index_tail(self, number: int, start: int, *, is_last: bool) -> int:
        """Index what a segment holds from `start` on; return where it ends now."""
        path = segment_path(self.directory, number)
        size_bytes = self._disk.size_bytes(path)
        rows: list[_Row] = []
        end = start
        while end < size_bytes and (record := read_record(self._disk, path, end)) is not None:
            rows.append(
                _make_row(record.batch_id, record.signed_header, number, end, record.size_bytes)
            )
            end += record.size_bytes
        if end < size_bytes:
            if not is_last:
                raise StorageError("storage.corrupt", f"{path} is damaged at {end}")
            self._disk.truncate(path, end)
            _log.warning("torn_tail_cut_off", path=str(path), size_bytes=size_bytes - end)
        self._insert(rows, number, end)
        return end

    def _segment_numbers(self) -> list[int]:
        names = self._disk.list_names(self.directory)
        numbers = (parse_segment_number(name) for name in names)
        return sorted(number for number in numbers if number is not None)


def _make_row(
    batch_id: bytes, signed_header: SignedBatchHeader, segment: int, start: int, size_bytes: int
) -> _Row:
    header = signed_header.header
    return _Row(
        batch_id, segment, start, size_bytes, header.author, header.sequence, encode(signed_header)
    )
