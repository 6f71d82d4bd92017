"""Errors of storage. All of them end the process; none is retried."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import apsw

from node.exit_codes import ExitCode, OperatorError

_FULL_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class StorageError(OperatorError):
    """The disk or what is on it cannot be trusted any more.

    | code | meaning |
    |---|---|
    | `storage.full` | no space left |
    | `storage.failed` | an operation of the disk failed, fsync included |
    | `storage.corrupt` | stored bytes are not what was written |
    | `storage.foreign` | the file belongs to another chain, node or program version |
    | `storage.overloaded` | writes come in faster than the disk takes them |
    """

    code = "storage.failed"
    exit_code = ExitCode.STORAGE

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, advice=_ADVICE[code], code=code)


_ADVICE: Final = {
    "storage.full": "Free some space, then start the node again.",
    "storage.failed": "Look at the system's log for errors of the disk, then start again.",
    "storage.corrupt": "Restore the file from a backup. What is in chain.db is fetched again from"
    " other members if it is moved away; safety.db and segments/ say what this node signed, and"
    " must never be begun again within an epoch.",
    "storage.foreign": "Point the node at its own home.",
    "storage.overloaded": "Use a faster disk or a smaller mempool.pool_size_bytes.",
}


class SafetyError(OperatorError):
    """The safety records cannot be used, so the node must not sign.

    | code | meaning |
    |---|---|
    | `safety.locked` | another process has them open |
    | `safety.missing` | they are not where they were: amnesia, not a fresh start |
    | `safety.batches_missing` | the batches that it acknowledged are not where they were |
    | `safety.following` | a node that only follows was asked to sign or to keep such a record |
    """

    code = "safety.missing"
    exit_code = ExitCode.REFUSED_TO_SIGN


class DoubleSignError(Exception):
    """A record of a write-once table would get a second value: a bug of ours, caught in time.

    Nothing of the transaction was written.
    """

    code = "safety.double_sign"

    def __init__(self, table: str, key: bytes) -> None:
        super().__init__(f"a second value for {table} {key.hex()}")
        self.table = table
        self.key = key


@contextmanager
def mapping_errors(what: str) -> Iterator[None]:
    """Turn errors of the operating system and of SQLite into `StorageError`."""
    try:
        yield
    except OSError as error:
        code = "storage.full" if error.errno in _FULL_ERRNOS else "storage.failed"
        raise StorageError(code, f"{what}: {error.strerror or error}") from error
    except apsw.FullError as error:
        raise StorageError("storage.full", f"{what}: {error}") from error
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StorageError("storage.corrupt", f"{what}: {error}") from error
    except apsw.Error as error:
        raise StorageError("storage.failed", f"{what}: {error}") from error
