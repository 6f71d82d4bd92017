"""The table of what goes wrong now: one small file that the supervisor writes and all others read.

A reader looks at the file many times a second. Every entry carries its end, by the wall clock of
this one machine, so that a fault ends on time whatever has become of who asked for it. What a
reader makes of an entry it appends to the journal, one JSON object a line, so that the times there
are those at which things happened.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import trio
from msgspec import Meta, Struct

from localnet.faults.model import Fault
from node.home import write_atomically

FAULTS_MAX: Final = 256
"""In force at once."""

POLL_S: Final = 0.02
"""How late a reader may notice a change."""

_ID_MAX: Final = 2**53


class ActiveFault(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry."""

    id: Annotated[int, Meta(ge=1, le=_ID_MAX)]
    fault: Fault
    since_ms: Annotated[int, Meta(ge=0, le=_ID_MAX)]
    """Milliseconds since the Unix epoch."""
    until_ms: Annotated[int, Meta(ge=0, le=_ID_MAX)] | None
    """None: until it is removed."""

    def is_over(self, now_ms: int) -> bool:
        """Has it healed by itself?"""
        return self.until_ms is not None and now_ms >= self.until_ms


_Table = Annotated[tuple[ActiveFault, ...], Meta(max_length=FAULTS_MAX)]


def wall_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def table_path(run_dir: Path) -> Path:
    """Where the table of a localnet is."""
    return run_dir / "faults.json"


def journal_path(network_path: Path) -> Path:
    """Where the journal of a localnet is."""
    return network_path / "faults.jsonl"


def write_table(path: Path, entries: tuple[ActiveFault, ...]) -> None:
    """Replace the table."""
    assert len(entries) <= FAULTS_MAX, "the desk bounds them"
    write_atomically(path, msgspec.json.encode(entries))


def read_table(path: Path) -> tuple[ActiveFault, ...]:
    """The entries; none if there is no table. Raises `msgspec.MsgspecError` for anything else."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    try:
        return msgspec.json.decode(data, type=_Table)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


class Journal:
    """Appends to a localnet's journal; many processes do so at once, one line a write."""

    def __init__(self, path: Path, by: str) -> None:
        """`by` names the process in its lines."""
        self._path = path
        self._by = by

    def note(self, event: str, **details: Any) -> None:
        """Write that something happened just now."""
        line = {"at_ms": wall_ms(), "by": self._by, "event": event, **details}
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, msgspec.json.encode(line) + b"\n")
        finally:
            os.close(file)


class TableReader:
    """What a process knows of the table. `refresh` or `run` keeps it up to date."""

    def __init__(self, path: Path, on_change: Callable[["TableReader"], None]) -> None:
        """`on_change` is called whenever entries began or ended."""
        self._path = path
        self._on_change = on_change
        self._entries: tuple[ActiveFault, ...] = ()
        self._version: tuple[int, int] | None = None
        self.active: tuple[ActiveFault, ...] = ()
        """In force now."""

    def refresh(self) -> None:
        """Look at the file and at the clock."""
        try:
            found = self._path.stat()
            version = (found.st_mtime_ns, found.st_ino)
        except FileNotFoundError:
            version = None
        if version != self._version:
            self._version = version
            self._entries = read_table(self._path)
        now_ms = wall_ms()
        active = tuple(each for each in self._entries if not each.is_over(now_ms))
        if active != self.active:
            self.active = active
            self._on_change(self)

    async def run(self) -> None:
        """Keep up to date until cancelled."""
        while True:
            self.refresh()
            await trio.sleep(POLL_S)


class Differences:
    """Which entries of a kind of interest began and ended between two looks."""

    def __init__(self) -> None:
        self._known: dict[int, ActiveFault] = {}

    def take(self, now: dict[int, ActiveFault]) -> Iterator[tuple[str, ActiveFault]]:
        """`("began", entry)` and `("ended", entry)` for each change since the last call."""
        before, self._known = self._known, now
        yield from (("ended", each) for number, each in before.items() if number not in now)
        yield from (("began", each) for number, each in now.items() if number not in before)
