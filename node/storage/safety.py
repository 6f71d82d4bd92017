"""The safety records: what this node has signed, so that it never signs a contradiction.

A record is durable when `commit` returns (WAL with `synchronous = FULL`: one fsync a commit,
measured twice as fast as a rollback journal). The file is locked exclusively while it is open, so
two processes with one key cannot both vote. The tables in `WRITE_ONCE_TABLES` keep the first value
of a key for ever: whatever bug asks for a second one gets `DoubleSignError` and the process ends
before anything leaves.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import apsw

from consensus.effects import Delete, Put
from consensus.safety import WRITE_ONCE_TABLES as VIEW_TABLES
from consensus.state_signer import STATE_VOTE_TABLE
from node.storage.errors import DoubleSignError, SafetyError, StorageError
from node.storage.records import RecordFile, RecordWrite
from node.storage.wal import validate_log

WRITE_ONCE_TABLES: Final = VIEW_TABLES | {STATE_VOTE_TABLE}
"""Each key stands for one signature over one thing in one place."""

_FLOOR_TABLE: Final = "write_once_floor"
"""For each write-once table, the key below which its records were dropped: a key that is gone
must not come back with another value. No core may use this table name."""


class SafetyStore:
    """The safety file. Blocking; `commit` from one thread at a time."""

    def __init__(
        self, path: Path, *, owner: bytes, create: bool = False, vfs: str | None = None
    ) -> None:
        """Open the records of `owner` (chain id and identity key, concatenated).

        `create` is for a home that has never run. Without it a missing file is
        `SafetyError` (`safety.missing`), exit code 71: who lost the records does not know what it
        signed. A file in use is `safety.locked`, also 71. Damage (an empty file included, as a
        failed copy leaves it) and disk trouble are `StorageError`, exit code 72.
        """
        if not create and not path.exists():
            raise SafetyError(
                f"{path} is missing",
                advice="Restore it, or retire the key: it must not sign for this chain again.",
                code="safety.missing",
            )
        validate_log(path)
        try:
            self._file = RecordFile(
                path,
                kind="safety",
                owner=owner,
                synchronous="FULL",
                exclusive=True,
                create=create,
                vfs=vfs,
            )
        except apsw.BusyError as error:
            raise SafetyError(
                f"{path} is in use by another process",
                advice="Stop the other node; two nodes with one key would sign twice.",
                code="safety.locked",
            ) from error
        try:
            self._file.validate_structure()
        except BaseException:
            # Raised on; a file that stays open would keep its lock, and a failing close would hide
            # what went wrong first.
            with suppress(StorageError):
                self._file.close()
            raise

    def load(self) -> dict[str, dict[bytes, bytes]]:
        """Every record, table by table, keys in rising order; each checksum is verified."""
        tables: dict[str, dict[bytes, bytes]] = {}
        for table, record in self._file.read_all():
            if table != _FLOOR_TABLE:
                tables.setdefault(table, {})[record.key] = record.value
        return tables

    def commit(self, writes: Sequence[RecordWrite]) -> None:
        """Write all of it in one transaction, in order; durable on return.

        Raises `DoubleSignError` (nothing is written) and `StorageError`.
        """

        def apply(file: RecordFile) -> None:
            for write in writes:
                for put in write.puts:
                    self._apply_put(file, put)
                for delete in write.deletes:
                    self._apply_delete(file, delete)

        self._file.write(apply)

    def close(self) -> None:
        """Close and release the lock."""
        self._file.close()

    def _apply_put(self, file: RecordFile, put: Put) -> None:
        assert put.table != _FLOOR_TABLE, "a table of our own"
        if put.table in WRITE_ONCE_TABLES:
            present = file.find(put.table, put.key)
            if present == put.value:
                return
            floor = file.find(_FLOOR_TABLE, put.table.encode())
            if present is not None or (floor is not None and put.key < floor):
                raise DoubleSignError(put.table, put.key)
        file.put(put.table, put.key, put.value)

    def _apply_delete(self, file: RecordFile, delete: Delete) -> None:
        file.delete_below(delete.table, delete.below)
        if delete.table in WRITE_ONCE_TABLES:
            name = delete.table.encode()
            floor = file.find(_FLOOR_TABLE, name)
            if floor is None or floor < delete.below:
                file.put(_FLOOR_TABLE, name, delete.below)
