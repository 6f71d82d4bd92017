"""Tables of (key, value) records with checksums, in one SQLite file.

All tables live in one SQL table, so that a new kind of record needs no change here. Each row
carries the CRC-32 of its table, key and value: SQLite notices broken pages, not flipped bits in
the middle of a value.
"""

import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from consensus.effects import Delete, Put
from node.storage.disk import sync_file
from node.storage.errors import StorageError, mapping_errors
from node.storage.sql import select

FORMAT_VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS identity (
    format INTEGER NOT NULL, kind TEXT NOT NULL, owner BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS record (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, key BLOB NOT NULL,
    value BLOB NOT NULL, checksum INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS record_by_key ON record (name, key);
"""


class Record(NamedTuple):
    """One record of a table."""

    key: bytes
    value: bytes


def compute_checksum(table: str, key: bytes, value: bytes) -> int:
    """CRC-32 over all that identifies and makes up a record."""
    head = b"%d:%s%d:" % (len(table), table.encode(), len(key))
    return zlib.crc32(value, zlib.crc32(key, zlib.crc32(head)))


def validate_record(where: str, table: str, key: bytes, value: bytes, checksum: int) -> None:
    """What was written is what was read. Raises `StorageError` (`storage.corrupt`)."""
    if compute_checksum(table, key, value) != checksum:
        raise StorageError("storage.corrupt", f"{where}: {table} {key.hex()} is damaged")


class RecordWrite(NamedTuple):
    """Records to write and to drop, all or nothing: one `Persist`."""

    puts: Sequence[Put]
    deletes: Sequence[Delete] = ()
    is_synced: bool = False
    """To survive a power cut, with all that was written before, once it is reported. Safety records
    always do."""


class RecordFile:
    """One SQLite file of records, opened by its owner. Blocking; one thread at a time."""

    def __init__(
        self,
        path: Path,
        *,
        kind: str,
        owner: bytes,
        synchronous: str,
        exclusive: bool = False,
        create: bool = True,
        vfs: str | None = None,
    ) -> None:
        """Open or create. `owner` says whose records these are (chain and member) and must match
        what the file says; without `create` an empty file is an error, which SQLite would take for
        a new database. `vfs` names an apsw VFS, for tests that break the disk.

        Raises `StorageError`, and `apsw.BusyError` if another process holds an exclusive file.
        """
        self.path = path
        self._failure: StorageError | None = None
        self._lock = threading.Lock()
        with mapping_errors(f"open {path}"):
            self._connection = apsw.Connection(str(path), vfs=vfs)
        try:
            self._prepare(kind, owner, synchronous, exclusive, create)
        except BaseException:
            # Closing a broken file may fail as well; what went wrong first is what counts.
            with suppress(apsw.Error):
                self._connection.close()
            raise

    def _prepare(
        self, kind: str, owner: bytes, synchronous: str, exclusive: bool, create: bool
    ) -> None:
        connection = self._connection
        try:
            if exclusive:
                # Taken by the first statement that writes, below, and kept until the file closes.
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            with connection:
                connection.execute(_SCHEMA)
                found = select(connection, "SELECT format, kind, owner FROM identity")
                if not found and not create:
                    raise StorageError("storage.corrupt", f"{self.path} is empty")
                if not found:
                    connection.execute(
                        "INSERT INTO identity VALUES (?, ?, ?)", (FORMAT_VERSION, kind, owner)
                    )
                    found = [(FORMAT_VERSION, kind, owner)]
        except apsw.BusyError:
            raise
        except apsw.Error:
            with mapping_errors(f"open {self.path}"):
                raise
        if found != [(FORMAT_VERSION, kind, owner)]:
            raise StorageError(
                "storage.foreign", f"{self.path} belongs to another chain, member or version"
            )

    def validate_structure(self) -> None:
        """Let SQLite look for broken pages. Raises `StorageError` (`storage.corrupt`)."""
        with self._lock, mapping_errors(f"check {self.path}"):
            found = select(self._connection, "PRAGMA quick_check")
        if found != [("ok",)]:
            raise StorageError("storage.corrupt", f"{self.path}: {found[0][0]}")

    def write(self, apply: Callable[["RecordFile"], None]) -> None:
        """Run `apply` in one transaction and commit it.

        Nothing is written if it raises. After a `StorageError` every later call raises it again.
        """
        if self._failure is not None:
            raise self._failure
        try:
            with self._lock, mapping_errors(f"write {self.path}"), self._connection:
                apply(self)
        except StorageError as error:
            self._failure = error
            raise

    def sync(self) -> None:
        """Return when everything committed so far survives a power cut, whatever `synchronous` is.

        It lies in the database, which SQLite synced when it moved it there, or in the log.
        """
        if self._failure is not None:
            raise self._failure
        log = self.path.with_name(self.path.name + "-wal")
        try:
            with self._lock, mapping_errors(f"sync {log}"):
                if log.exists():
                    sync_file(log)
        except StorageError as error:
            self._failure = error
            raise

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Insert or replace one record; inside `write`."""
        self._connection.execute(
            "INSERT INTO record (name, key, value, checksum) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name, key) DO UPDATE SET value = excluded.value,"
            " checksum = excluded.checksum",
            (table, key, value, compute_checksum(table, key, value)),
        )

    def delete_below(self, table: str, below: bytes) -> None:
        """Drop every record of a table with a key strictly below `below`; inside `write`."""
        self._connection.execute("DELETE FROM record WHERE name = ? AND key < ?", (table, below))

    def find(self, table: str, key: bytes) -> bytes | None:
        """One value; inside `write`, and as `read` outside."""
        rows = select(
            self._connection,
            "SELECT value, checksum FROM record WHERE name = ? AND key = ?",
            (table, key),
        )
        for value, checksum in rows:
            validate_record(str(self.path), table, key, value, checksum)
            return bytes(value)
        return None

    def read(self, table: str, key: bytes) -> bytes | None:
        """One value, or None. Any thread."""
        with self._lock, mapping_errors(f"read {self.path}"):
            return self.find(table, key)

    def read_range(self, table: str, from_key: bytes, limit: int, reverse: bool) -> list[Record]:
        """Records by rising key from `from_key` on, or by falling key from it down. Any thread."""
        order = "key <= ? ORDER BY key DESC" if reverse else "key >= ? ORDER BY key"
        with self._lock, mapping_errors(f"read {self.path}"):
            rows = select(
                self._connection,
                f"SELECT key, value, checksum FROM record WHERE name = ? AND {order} LIMIT ?",
                (table, from_key, limit),
            )
        return [self._checked(table, *row) for row in rows]

    def read_all(self) -> Iterator[tuple[str, Record]]:
        """Every record with its table, by table and key."""
        with self._lock, mapping_errors(f"read {self.path}"):
            rows = select(
                self._connection, "SELECT name, key, value, checksum FROM record ORDER BY name, key"
            )
        for table, key, value, checksum in rows:
            yield table, self._checked(table, key, value, checksum)

    def close(self) -> None:
        """Close. The file must not be used afterwards; closing again does nothing. Raises
        `StorageError`."""
        with self._lock, mapping_errors(f"close {self.path}"):
            self._connection.close()

    def _checked(self, table: str, key: bytes, value: bytes, checksum: int) -> Record:
        validate_record(str(self.path), table, key, value, checksum)
        return Record(key, value)
