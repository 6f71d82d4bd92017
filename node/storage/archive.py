"""The archive: committed blocks and whatever can be rebuilt from them.

WAL with `synchronous = NORMAL`: a commit costs no fsync, a killed process loses nothing, a power
cut may lose the last commits but never their order or a part of one. Whoever restarts replays or
fetches what is missing. What cannot be had again, because the engine is saved beyond it, asks for a
sync (`RecordWrite.is_synced`).
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import apsw

from node.storage.errors import StorageError
from node.storage.records import Record, RecordFile, RecordWrite


class ArchiveStore:
    """The chain file. Blocking: reads take tens of microseconds when the page is in memory, so on
    the event loop call them through `trio.to_thread.run_sync` unless it is one small record."""

    def __init__(self, path: Path, *, owner: bytes, vfs: str | None = None) -> None:
        """Open or create. `owner` is the chain id: an archive is no member's own. Raises
        `StorageError`."""
        try:
            self._file = _open(path, owner, vfs)
            try:
                # Reads have a connection of their own and never wait for a running commit.
                self._reader = _open(path, owner, vfs)
            except BaseException:
                # Raised on; a connection that stays open hangs the exit, and a failing close would
                # hide what went wrong first.
                with suppress(StorageError):
                    self._file.close()
                raise
        except apsw.BusyError as error:
            raise StorageError("storage.failed", f"{path} is in use by another process") from error

    def commit(self, writes: Sequence[RecordWrite]) -> None:
        """Write all of it in one transaction, in order; synced if any of it is to be. Raises
        `StorageError`."""

        def apply(file: RecordFile) -> None:
            for write in writes:
                for put in write.puts:
                    file.put(put.table, put.key, put.value)
                for delete in write.deletes:
                    file.delete_below(delete.table, delete.below)

        self._file.write(apply)
        if any(write.is_synced for write in writes):
            self._file.sync()

    def read(self, table: str, key: bytes) -> bytes | None:
        """The value of a key as of the last commit, or None."""
        return self._reader.read(table, key)

    def read_range(
        self, table: str, from_key: bytes, limit: int, *, reverse: bool = False
    ) -> list[Record]:
        """At most `limit` records by rising key from `from_key` on (included); with `reverse` by
        falling key from it down."""
        return self._reader.read_range(table, from_key, limit, reverse)

    def close(self) -> None:
        """Close."""
        self._reader.close()
        self._file.close()


def _open(path: Path, owner: bytes, vfs: str | None) -> RecordFile:
    return RecordFile(path, kind="archive", owner=owner, synchronous="NORMAL", vfs=vfs)
