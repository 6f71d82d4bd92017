"""The few file operations that storage needs; those of segments as one seam, at which tests break
the disk."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

BUFFERS_PER_WRITE_MAX: Final = 512
"""Below IOV_MAX (1024 on Linux), so one `writev` takes them all."""

UNFINISHED_SUFFIX: Final = ".unfinished"
"""Of what `write_whole` has not renamed into place."""


def sync_directory(path: Path) -> None:
    """Return when names created and removed in a directory survive a power cut."""
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_file(path: Path) -> None:
    """Return when all that was written to a file, through whatever descriptor, survives a power
    cut."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(file)
    finally:
        os.close(file)


def write_whole(path: Path, parts: Iterable[bytes]) -> None:
    """Give a file this content, durably, for its owner alone. A crash leaves the old content or the
    new one, and perhaps another file beside it whose name ends in `UNFINISHED_SUFFIX`, which
    whoever owns the directory removes. Raises `OSError`."""
    unfinished = path.with_name(path.name + UNFINISHED_SUFFIX)
    with open(unfinished, "wb", opener=_open_private) as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_directory(path.parent)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Disk:
    """The operating system's files. Every method may raise `OSError`."""

    def open_append(self, path: Path) -> int:
        """Open for appending, creating it; the caller makes the name durable."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self, file: int) -> None:
        os.close(file)

    def write(self, file: int, buffers: Sequence[bytes]) -> int:
        """Write some of the bytes, returning how many, as `writev` does."""
        return os.writev(file, buffers)

    def sync_data(self, file: int) -> None:
        """Return when the bytes written so far, and the file's size, survive a power cut."""
        os.fdatasync(file)

    def sync_directory(self, path: Path) -> None:
        sync_directory(path)

    def size_bytes(self, path: Path) -> int:
        return path.stat().st_size

    def truncate(self, path: Path, size_bytes: int) -> None:
        """Cut a file off, durably."""
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(file, size_bytes)
            os.fsync(file)
        finally:
            os.close(file)

    def read_at(self, path: Path, offset: int, size_bytes: int) -> bytes:
        """Read a range; shorter where the file ends."""
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(file, size_bytes, offset)
        finally:
            os.close(file)

    def list_names(self, path: Path) -> list[str]:
        return sorted(os.listdir(path))


def write_fully(disk: Disk, file: int, buffers: Sequence[bytes]) -> None:
    """Write all bytes, however few the disk takes at a time."""
    pending = [memoryview(buffer) for buffer in buffers if buffer]
    start = 0
    while start < len(pending):
        group = pending[start : start + BUFFERS_PER_WRITE_MAX]
        written = disk.write(file, group)  # type: ignore[arg-type]  # any buffer will do
        if written <= 0:
            raise OSError("the disk takes no more bytes")
        for view in group:
            if written < len(view):
                pending[start] = view[written:]
                break
            written -= len(view)
            start += 1
