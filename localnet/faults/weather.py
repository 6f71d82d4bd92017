"""What is bad for one node now: it reads the table, and network, clock and disk of the node ask it.

The node inside is the one that everybody runs.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from localnet.faults.model import (
    ClockSkew,
    DiskFull,
    Fault,
    MessageFault,
    NodeFault,
    OnNodes,
    TornWrite,
    kind_of,
    parse_link,
)
from localnet.faults.table import ActiveFault, Differences, Journal, TableReader


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
        self._has_refused = False
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
        self._has_refused = self._has_refused and self.is_disk_full
        self.is_write_torn = any(isinstance(each, TornWrite) for each in faults)
        for event, entry in self._differences.take(mine):
            counted = {"hits": self.struck.pop(entry.id, 0)} if event == "ended" else {}
            details = counted if isinstance(entry.fault, MessageFault) else {}
            self._journal.note(event, id=entry.id, kind=kind_of(entry.fault), **details)

    def _concerns(self, fault: Fault) -> bool:
        if isinstance(fault, MessageFault):
            return any(parse_link(each).sender == self.name for each in fault.links)
        if isinstance(fault, OnNodes):
            own: type[NodeFault] | Any = ClockSkew | DiskFull | TornWrite
            return isinstance(fault, own) and self.name in fault.nodes
        return False

    def refuse(self, file: str) -> None:
        """The disk is full for a write to this file; the first one is noted."""
        if not self._has_refused:
            self._has_refused = True
            self._note_file("refused", file, DiskFull)

    def tear(self, file: str, write_half: Callable[[], object]) -> None:
        """Write the first half, and die before the second."""
        write_half()
        self._note_file("torn", file, TornWrite)
        os.kill(os.getpid(), signal.SIGKILL)

    def _note_file(self, event: str, file: str, kind: type[Fault] | Any) -> None:
        active = self.reader.active
        ids = [
            each.id
            for each in active
            if isinstance(each.fault, kind) and self._concerns(each.fault)
        ]
        self._journal.note(event, ids=ids, node=self.name, file=Path(file).name)
