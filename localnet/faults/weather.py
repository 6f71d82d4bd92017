"""The bad world around one node: a network that loses messages, a clock that is off, a disk that
fills up or is cut off in the middle of a write. The node inside is the one that everybody runs.
"""

import errno
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import apsw
import trio

from localnet.faults.model import (
    PERMILLE,
    ClockSkew,
    DiskFull,
    Duplicate,
    Fault,
    Link,
    Loss,
    MessageFault,
    NodeFault,
    OnNodes,
    Reorder,
    TornWrite,
    kind_of,
    parse_link,
)
from localnet.faults.table import ActiveFault, Differences, Journal, TableReader
from localnet.network import HOST
from node.clock import Clock
from node.runtime import HostParts
from node.storage.disk import Disk
from node.transport.network import PeerAddress, PeerNetwork
from node.transport.queues import Traffic

HELD_MAX: Final = 1_024
"""Messages held back to be reordered; beyond it they are sent at once."""

SECTOR_BYTES: Final = 512

VFS_NAME: Final = "localnet-faults"


class Weather:
    """What is bad for one node now."""

    def __init__(self, name: str, table: Path, journal: Journal) -> None:
        self.name = name
        self._journal = journal
        self._differences = Differences()
        self.rules: dict[str, list[tuple[int, MessageFault]]] = {}
        """By receiver, with the numbers of the entries."""
        self.struck: Counter[int] = Counter()
        """Messages hit, by entry."""
        self.skew_ms = 0
        self.is_disk_full = False
        self.is_write_torn = False
        self.reader = TableReader(table, lambda reader: self._change(reader.active))
        self.reader.refresh()

    def _change(self, active: Sequence[ActiveFault]) -> None:
        mine = {each.id: each for each in active if self._concerns(each.fault)}
        self.rules = {}
        for entry in mine.values():
            if isinstance(entry.fault, MessageFault):
                for link in map(parse_link, entry.fault.links):
                    if link.sender == self.name:
                        self.rules.setdefault(link.receiver, []).append((entry.id, entry.fault))
        faults = [entry.fault for entry in mine.values()]
        self.skew_ms = sum(each.offset_ms for each in faults if isinstance(each, ClockSkew))
        self.is_disk_full = any(isinstance(each, DiskFull) for each in faults)
        self.is_write_torn = any(isinstance(each, TornWrite) for each in faults)
        for event, entry in self._differences.take(mine):
            counted = {"messages": self.struck.pop(entry.id, 0)} if event == "ended" else {}
            details = counted if isinstance(entry.fault, MessageFault) else {}
            self._journal.note(event, id=entry.id, kind=kind_of(entry.fault), **details)

    def _concerns(self, fault: Fault) -> bool:
        if isinstance(fault, MessageFault):
            return any(parse_link(each).sender == self.name for each in fault.links)
        if isinstance(fault, OnNodes):
            own: type[NodeFault] | Any = ClockSkew | DiskFull | TornWrite
            return isinstance(fault, own) and self.name in fault.nodes
        return False

    def tear(self, write_half: Callable[[], object]) -> None:
        """Write the first half, and die before the second."""
        write_half()
        self._journal.note("torn", node=self.name)
        os.kill(os.getpid(), signal.SIGKILL)


# ---- the network ---------------------------------------------------------------------------


def read_kind(frame: bytes) -> str:
    """The wire tag of an encoded message: the string that its array begins with."""
    start = 1 if frame[0] & 0xF0 == 0x90 else 3
    size_bytes = frame[start] & 0x1F
    return frame[start + 1 : start + 1 + size_bytes].decode("ascii")


class BadNetwork(PeerNetwork):
    """Connections through the proxy, on which messages are lost, doubled and overtaken."""

    def __init__(
        self,
        weather: Weather,
        ports: Mapping[Link, int],
        routes: Mapping[str, str],
        *,
        peers: Mapping[int, PeerAddress],
        **options: Any,
    ) -> None:
        members = options["committee"].members
        redirected = {}
        for index, each in peers.items():
            name = members[index].name
            port = ports[Link(weather.name, routes.get(name, name))]
            redirected[index] = PeerAddress(HOST, port, each.certificate)
        super().__init__(peers=redirected, **options)
        self._names = {index: member.name for index, member in enumerate(members)}
        self._weather = weather
        self._random = Random()
        self._held = 0
        self._nursery: trio.Nursery | None = None

    def send(self, to: int, traffic: Traffic, frame: bytes) -> bool:
        """As the honest network, unless a fault has its way."""
        rules = self._weather.rules.get(self._names[to])
        if not rules:
            return super().send(to, traffic, frame)
        kind = read_kind(frame)
        copies, held_ms = 1, 0
        for number, rule in rules:
            is_meant = not rule.messages or kind in rule.messages
            if not is_meant or self._random.randrange(PERMILLE) >= rule.permille:
                continue
            self._weather.struck[number] += 1
            match rule:
                case Loss():
                    return False
                case Duplicate():
                    copies += 1
                case Reorder(hold_max_ms=hold_max_ms):
                    held_ms += self._random.randint(1, hold_max_ms)
        if held_ms and self._held < HELD_MAX and self._nursery is not None:
            self._held += 1
            self._nursery.start_soon(self._send_later, held_ms, to, traffic, frame, copies)
            return True
        return self._send_copies(to, traffic, frame, copies)

    async def serve(
        self, *, task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """As the honest network; also keeps the weather up to date."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._weather.reader.run)
            bound = await nursery.start(super().serve)
            task_status.started(bound)

    async def _send_later(
        self, held_ms: int, to: int, traffic: Traffic, frame: bytes, copies: int
    ) -> None:
        await trio.sleep(held_ms / 1_000)
        self._held -= 1
        self._send_copies(to, traffic, frame, copies)

    def _send_copies(self, to: int, traffic: Traffic, frame: bytes, copies: int) -> bool:
        is_queued = True
        for _ in range(copies):
            is_queued = super().send(to, traffic, frame) and is_queued
        return is_queued


# ---- the disk ------------------------------------------------------------------------------


class BadDisk(Disk):
    """The files of the batch store."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather

    def write(self, file: int, buffers: Sequence[bytes]) -> int:
        if self._weather.is_disk_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._weather.is_write_torn:
            first = bytes(buffers[0])
            self._weather.tear(lambda: super(BadDisk, self).write(file, [first[: len(first) // 2]]))
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
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  # SQLite's name
        if self._weather.is_disk_full:
            raise apsw.FullError
        # A disk writes whole sectors or not at all, and SQLite counts on that for its headers.
        if self._weather.is_write_torn and len(data) > SECTOR_BYTES:
            half = data[: len(data) // 2 // SECTOR_BYTES * SECTOR_BYTES or SECTOR_BYTES]
            self._weather.tear(lambda: super(_BadFile, self).xWrite(half, offset))
        super().xWrite(data, offset)


# ---- all of it -----------------------------------------------------------------------------


def make_parts(
    weather: Weather, ports: Mapping[Link, int], routes: Mapping[str, str]
) -> tuple[HostParts, BadVfs]:
    """The parts of a node in this weather, and the file system, which the caller keeps alive.

    `routes` says which members are dialed under another name than their own.
    """

    def make_network(**options: Any) -> PeerNetwork:
        return BadNetwork(weather, ports, routes, **options)

    def make_clock() -> Clock:
        return Clock(lambda: time.time_ns() / 1_000_000 + weather.skew_ms)

    vfs = BadVfs(weather)
    return HostParts(make_network, make_clock, BadDisk(weather), VFS_NAME), vfs
