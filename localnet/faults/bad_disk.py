"""A disk that fills up, or is cut off in the middle of a write."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import apsw

from localnet.faults.weather import Weather
from node.storage.disk import Disk

SECTOR_BYTES: Final = 512

VFS_NAME: Final = "localnet-faults"


class BadDisk(Disk):
    """The files of the batch store."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._names: dict[int, str] = {}

    def open_append(self, path: Path) -> int:
        file = super().open_append(path)
        self._names[file] = path.name
        return file

    def close(self, file: int) -> None:
        self._names.pop(file, None)
        super().close(file)

    def write(self, file: int, buffers: Sequence[bytes]) -> int:
        name = self._names[file]
        if self._weather.is_disk_full:
            self._weather.refuse(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._weather.is_write_torn:
            first = bytes(buffers[0])
            half = [first[: len(first) // 2]]
            self._weather.tear(name, lambda: super(BadDisk, self).write(file, half))
        return super().write(file, buffers)


class BadVfs(apsw.VFS):
    """The files of the SQLite stores."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        super().__init__(VFS_NAME, "")

    def xOpen(  # noqa: N802  # SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return _BadFile(self._weather, name, flags)


class _BadFile(apsw.VFSFile):
    def __init__(
        self, weather: Weather, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> None:
        self._weather = weather
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else name or "temporary"
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  # SQLite's name
        if self._weather.is_disk_full:
            self._weather.refuse(self._name)
            raise apsw.FullError
        # A disk writes whole sectors or not at all, and SQLite counts on that for its headers.
        if self._weather.is_write_torn and len(data) > SECTOR_BYTES:
            half = data[: len(data) // 2 // SECTOR_BYTES * SECTOR_BYTES or SECTOR_BYTES]
            self._weather.tear(self._name, lambda: super(_BadFile, self).xWrite(half, offset))
        super().xWrite(data, offset)
