"""Notices damage in a write-ahead log that SQLite takes for the end of the log.

SQLite reads its log up to the first frame whose checksum is wrong, because a power cut may leave a
half-written transaction there, and forgets the rest without a word. For safety records that is
amnesia: one flipped bit and the votes after it are gone. But with `synchronous = FULL` a
transaction is on the disk before the next one is written. So only the last transaction can be torn;
whatever has another one behind it was durable, and is damaged.

Format: sqlite.org/fileformat2.html, section 4, "The Write-Ahead Log".
"""

import struct
from pathlib import Path
from typing import Final

from node.storage.errors import StorageError, mapping_errors

_HEADER: Final = struct.Struct(">8I")
_FRAME: Final = struct.Struct(">6I")
_MAGIC_LITTLE_ENDIAN: Final = 0x377F0682
_MAGIC_BIG_ENDIAN: Final = 0x377F0683
_MASK: Final = 2**32 - 1


def validate_log(database: Path) -> None:
    """Raise `StorageError` (`storage.corrupt`) if the log beside a database lost durable records.

    Call it before SQLite opens the database, which may overwrite the log. No log is no damage.
    """
    path = database.with_name(database.name + "-wal")
    with mapping_errors(f"read {path}"):
        data = path.read_bytes() if path.exists() else b""
    if is_commit_lost(data):
        raise StorageError("storage.corrupt", f"{path}: what follows a damaged place would be lost")


def is_commit_lost(log: bytes) -> bool:
    """Would SQLite, reading this log, forget a transaction that was durable?"""
    if not any(log[: _HEADER.size]):
        return False
    if len(log) < _HEADER.size:
        return True
    magic, _, page_size, _, *salts, first, second = _HEADER.unpack_from(log)
    order = {_MAGIC_LITTLE_ENDIAN: "<", _MAGIC_BIG_ENDIAN: ">"}.get(magic)
    checksum = (first, second)
    # The header is synced before any frame follows it, and it fits into one sector.
    if order is None or _checksum(order, (0, 0), log[: _HEADER.size - 8]) != checksum:
        return True
    size = _FRAME.size + page_size
    is_read, is_after_commit = True, False
    for at in range(_HEADER.size, len(log) - size + 1, size):
        _, pages_after, salt_1, salt_2, first, second = _FRAME.unpack_from(log, at)
        # A frame with other salts is of an earlier round of the log, or damaged.
        is_of_this_round = [salt_1, salt_2] == salts
        if is_read:
            checksum = _checksum(order, checksum, log[at : at + 8], log[at + 24 : at + size])
            is_read = is_of_this_round and checksum == (first, second)
        if not is_read:
            if is_of_this_round and is_after_commit:
                return True
            # Only the last frame of a transaction has a number of pages.
            is_after_commit = is_after_commit or pages_after > 0
    return False


def _checksum(order: str, start: tuple[int, int], *parts: bytes) -> tuple[int, int]:
    first, second = start
    for part in parts:
        for even, odd in struct.iter_unpack(order + "2I", part):
            first = (first + even + second) & _MASK
            second = (second + odd + first) & _MASK
    return first, second
