"""What something was measured on, and how much CPU time which process took there."""

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

_PROC: Final = Path("/proc")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class Machine(Struct, frozen=True):
    """The machine and the moment: without them a number means little."""

    cores: int
    processor: str
    python: str
    system: str
    date: str
    load: tuple[float, float, float]
    """Processes that ran or wanted to, on average, in the last 1, 5 and 15 minutes."""


def describe_machine() -> Machine:
    """Look at the machine; costs nothing."""
    return Machine(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cpu_count(),
        processor=_processor(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.release()}",
        date=time.strftime("%Y-%m-%d %H:%M:%S %z"),
        load=_load(),
    )


def _load() -> tuple[float, float, float]:
    one, five, fifteen = os.getloadavg()
    return round(one, 2), round(five, 2), round(fifteen, 2)


def _cpu_count() -> int:
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        for line in (_PROC / "cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # Not Linux: the generic name has to do.
    return platform.processor() or platform.machine()


class ProcessCpu(Struct, frozen=True):
    """CPU time of one process so far, in seconds; its children are processes of their own."""

    pid: int
    parent: int
    name: str
    cpu_s: float


def read_process(pid: int) -> ProcessCpu | None:
    """One process, from /proc; None if it is gone or there is no /proc."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
        command = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return None
    # The name in parentheses may hold anything, parentheses included.
    fields = text[text.rindex(")") + 2 :].split()
    ticks = int(fields[11]) + int(fields[12])
    words = command.decode(errors="replace").split("\0")
    return ProcessCpu(pid, int(fields[1]), " ".join(words).strip(), ticks / _TICKS_PER_S)


def read_descendants(roots: Iterable[int]) -> dict[int, ProcessCpu]:
    """The processes given and all that they have started, by pid; empty without /proc."""
    try:
        pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    except OSError:
        return {}
    everybody = {pid: process for pid in pids if (process := read_process(pid)) is not None}
    wanted = {pid for pid in roots if pid in everybody}
    while True:
        more = {pid for pid, each in everybody.items() if each.parent in wanted} - wanted
        if not more:
            return {pid: everybody[pid] for pid in sorted(wanted)}
        wanted |= more
