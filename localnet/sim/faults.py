"""Faults as data: what breaks, when, and for how long.

A schedule lists faults; `Nemesis` carries them out in a world and heals each when its time is up.
A fault names hosts by index. Those marked as counting toward f take a member's memory away, so
its later contradictions are no fault of the protocol and it is treated as byzantine.
"""

import copy
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from consensus.effects import Persist, Store, StoreBatch
from consensus.recovery import RecoveryError
from localnet.sim.bounds import (
    BANDWIDTH_MAX_BYTES_PER_S,
    BATCH_WRITE,
    CLOCK_STEP_MAX_MS,
    DROP_WRITE,
    RECORD_MAX,
    SNAPSHOT_WRITE,
    WRITES_SKIPPED_MAX,
    Hosts,
    Index,
    Kinds,
    Milliseconds,
    Name,
    Permille,
)
from localnet.sim.disk import ARCHIVE_WRITES_LOST_MAX, NodeDisk
from localnet.sim.links import Bandwidth, Cut, Delay, Duplicate, LinkRule, Loss, Partition, Scope
from localnet.sim.network import CrashPoint, DiskError, Drop, never_crash
from localnet.sim.node_world import NodeWorld
from localnet.sim.violation import BrokenRuleError
from localnet.verdicts import Verdict
from node.events import SaveState
from node.storage.errors import StorageError

CORRUPT: Final = "storage.corrupt"
"""The code with which a host ends that reads what is damaged."""

FOREVER_MS: Final = 0
"""As a duration: until everything is healed at the end of the attack."""


class _Timed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    at_ms: Milliseconds
    duration_ms: Milliseconds = FOREVER_MS


class _OnLinks(_Timed, frozen=True, kw_only=True):
    """Senders and receivers are hosts; none named means all."""

    senders: Hosts = ()
    receivers: Hosts = ()
    kinds: Kinds = ()
    """Wire tags of the messages concerned; none means all."""

    def scope(self) -> Scope:
        return Scope(
            frozenset(self.senders) if self.senders else None,
            frozenset(self.receivers) if self.receivers else None,
            frozenset(self.kinds),
        )


class PartitionFault(_Timed, frozen=True, kw_only=True, tag="partition"):
    """Nothing passes between `side` and the rest."""

    side: Hosts
    kinds: Kinds = ()

    def rule(self) -> LinkRule:
        return Partition(frozenset(self.side), frozenset(self.kinds))


class CutFault(_OnLinks, frozen=True, kw_only=True, tag="cut"):
    """Nothing passes from senders to receivers; the way back stays open."""

    def rule(self) -> LinkRule:
        return Cut(self.scope())


class LossFault(_OnLinks, frozen=True, kw_only=True, tag="loss"):
    permille: Permille

    def rule(self) -> LinkRule:
        return Loss(self.scope(), self.permille)


class DuplicateFault(_OnLinks, frozen=True, kw_only=True, tag="duplicate"):
    permille: Permille
    lag_max_ms: Milliseconds = 200

    def rule(self) -> LinkRule:
        return Duplicate(self.scope(), self.permille, self.lag_max_ms)


class DelayFault(_OnLinks, frozen=True, kw_only=True, tag="delay"):
    """Each message takes between the two longer, drawn anew: a wide range reorders."""

    least_ms: Milliseconds
    most_ms: Milliseconds

    def rule(self) -> LinkRule:
        return Delay(self.scope(), self.least_ms, self.most_ms)


class BandwidthFault(_OnLinks, frozen=True, kw_only=True, tag="bandwidth"):
    bytes_per_s: Annotated[int, Meta(ge=1, le=BANDWIDTH_MAX_BYTES_PER_S)]

    def rule(self) -> LinkRule:
        return Bandwidth(self.scope(), self.bytes_per_s)


LinkFault = PartitionFault | CutFault | LossFault | DuplicateFault | DelayFault | BandwidthFault


class _OnHost(_Timed, frozen=True, kw_only=True):
    host: Index


class CrashFault(_OnHost, frozen=True, kw_only=True, tag="crash"):
    """Killed at a moment, started again after the duration. An arbitrary prefix of what each
    store had yet to write was written."""


class CrashAtPersistFault(_OnHost, frozen=True, kw_only=True, tag="crash_at_persist"):
    """Killed at the `skip`-th write of one kind after `at_ms`, just before or after it is
    durable: nothing that waits for the write has left."""

    table: Name = ""
    """One of `localnet.sim.bounds.WRITES`; empty: any write."""
    skip: Annotated[int, Meta(ge=0, le=WRITES_SKIPPED_MAX)] = 0
    is_durable: bool = False


class TornWriteFault(_OnHost, frozen=True, kw_only=True, tag="torn_write"):
    """Killed while it writes records or a batch: a part of the last one is on the disk, and the
    checksum must tell."""

    table: Name = ""
    """As for `CrashAtPersistFault`."""
    skip: Annotated[int, Meta(ge=0, le=WRITES_SKIPPED_MAX)] = 0


class PowerLossFault(_OnHost, frozen=True, kw_only=True, tag="power_loss"):
    """Killed, and the newest archive writes are lost although they were reported: nothing waits
    for those, so they are not synced one by one."""

    archive_writes: Annotated[int, Meta(ge=0, le=ARCHIVE_WRITES_LOST_MAX)] = 0


class DiskFailureFault(_OnHost, frozen=True, kw_only=True, tag="disk_failure"):
    """Syncing fails: the next write ends the process, and whatever was not synced by then is lost.
    Started again when the disk works."""


class DiskFullFault(_OnHost, frozen=True, kw_only=True, tag="disk_full"):
    """The next write is refused and ends the process; what was written before is there. Started
    again when there is space."""


class BitFlipFault(_OnHost, frozen=True, kw_only=True, tag="bit_flip"):
    """Killed, and one bit on its disk is flipped. A checksum must catch it: with a false record the
    node does not start any more, it ends where it reads a false batch, and it passes over a false
    snapshot of its engine."""

    of: Literal["records", "batches", "snapshots"] = "records"
    store: Store = Store.SAFETY
    """Of a record."""
    record: Annotated[int, Meta(ge=0, le=RECORD_MAX)] = 0
    """Which record: taken modulo their number, in order of table and key."""
    bit: Annotated[int, Meta(ge=0, le=RECORD_MAX)] = 0


class RollbackFault(_OnHost, frozen=True, kw_only=True, tag="rollback"):
    """Killed after the duration, its disk put back to how it was at `at_ms`, and started again.
    Counts toward f."""


class WipeFault(_OnHost, frozen=True, kw_only=True, tag="wipe"):
    """Killed, its disk emptied, and started again after the duration. Counts toward f."""

    is_chain_kept: bool = False
    """Only its memory of what it signed is gone: it must not start any more."""
    is_joining: bool = False
    """It follows from then on, as such a node must, and begins with a snapshot of the others."""


class LateJoinFault(_OnHost, frozen=True, kw_only=True, tag="late_join"):
    """Down from the very beginning, and started for the first time, with an empty disk, when the
    fault ends. It has signed nothing before, so it promises as much as everybody."""


class ClockFault(_OnHost, frozen=True, kw_only=True, tag="clock"):
    """Its clock jumps by `offset_ms`, and back after the duration."""

    offset_ms: Annotated[int, Meta(ge=-CLOCK_STEP_MAX_MS, le=CLOCK_STEP_MAX_MS)]


class SlowWorkFault(_OnHost, frozen=True, kw_only=True, tag="slow_work"):
    """Everything that workers do takes this long: signing, verifying, aggregating, checking and
    opening batches, executing."""

    least_ms: Milliseconds
    most_ms: Milliseconds


class SlowDiskFault(_OnHost, frozen=True, kw_only=True, tag="slow_disk"):
    """Each write takes this long: a node does again what it has not seen done, while it is
    not durable yet."""

    of: Literal["records", "batches", "both"] = "both"
    """Snapshots of the engine are written where batches are."""
    least_ms: Milliseconds
    most_ms: Milliseconds


HostFault = (
    CrashFault
    | CrashAtPersistFault
    | TornWriteFault
    | PowerLossFault
    | DiskFailureFault
    | DiskFullFault
    | BitFlipFault
    | RollbackFault
    | WipeFault
    | LateJoinFault
    | ClockFault
    | SlowWorkFault
    | SlowDiskFault
)
Fault = LinkFault | HostFault

AMNESIAC: Final = (RollbackFault, WipeFault)
"""Faults that count toward f."""

TRAPS: Final = (CrashAtPersistFault, TornWriteFault)
"""Faults that wait for a write: they strike once, at an act of their host."""


def kind_of(fault: Fault) -> str:
    """The name of a fault in files and reports."""
    return str(fault.__struct_config__.tag)


def amnesiacs(faults: Iterable[Fault]) -> frozenset[int]:
    """Hosts that lose their memory."""
    return frozenset(fault.host for fault in faults if isinstance(fault, AMNESIAC))


class UnjustRefusalError(BrokenRuleError):
    """What is on a disk that nobody touched does not suffice to start again."""

    oracle = "Restarts"
    verdict = Verdict.SAFETY


class Nemesis:
    """Carries out the faults of a schedule in one world."""

    def __init__(self, world: NodeWorld, faults: Sequence[Fault]) -> None:
        self._world = world
        self._amnesiacs = amnesiacs(faults)
        self._down_until_ms: dict[int, int] = {}
        self._is_over = False
        self.struck: dict[str, int] = {}
        """How often each kind of fault struck."""
        self.absent: set[int] = set()
        """Hosts that are not there at the beginning."""
        self.dead: set[int] = set()
        """Hosts that can never start again."""
        self.on_strike: list[Any] = []
        """Called with each fault that strikes."""
        self._traps: list[_Trap] = []
        world.crash_at = self._crash_at
        world.on_stopped.append(self._on_stopped)
        self.stopped: dict[str, int] = {}
        """How often hosts ended by themselves, by code."""
        for fault in faults:
            if isinstance(fault, LateJoinFault):
                self.absent.add(fault.host)
                self._down_until_ms[fault.host] = _find_end_ms(fault)
            world.after(max(fault.at_ms - world.now_ms, 0), partial(self._begin, fault))

    def heal(self) -> None:
        """End everything that still lasts, and start every host that can."""
        self._is_over = True
        self._traps.clear()
        self._world.crash_at = never_crash
        self._world.rules.clear()
        for index, host in sorted(self._world.hosts.items()):
            host.work_ms = host.record_ms = host.batch_ms = None
            host.disk_error = None
            self._world.set_clock(index, 0)
            self._start(index)

    # ---- carrying out --------------------------------------------------------------------------

    def _begin(self, fault: Fault) -> None:
        if self._is_over:
            return
        world = self._world
        if isinstance(fault, TRAPS):
            self._traps.append(_Trap(fault))
            return
        match fault:
            case RollbackFault(host=index):
                image = copy.deepcopy(world.disk(index))
                self._later(fault.duration_ms, lambda: self._roll_back(fault, image))
                return
            case CrashFault(host=index):
                self._kill(index, fault.duration_ms)
            case PowerLossFault(host=index, archive_writes=writes):
                world.lose_power(index, writes)
                self._kill(index, fault.duration_ms)
            case WipeFault(host=index):
                world.crash(index)
                if fault.is_chain_kept:
                    world.disk(index).stores[Store.SAFETY].clear()
                else:
                    disk = world.hosts[index].disk = NodeDisk()
                    disk.is_following = disk.is_joining = fault.is_joining
                self._kill(index, fault.duration_ms)
            case LateJoinFault(host=index):
                self._later(fault.duration_ms, lambda: self._start(index))
            case BitFlipFault(host=index):
                world.crash(index)
                _flip_bit(world.disk(index), fault)
                self._kill(index, fault.duration_ms)
            case DiskFailureFault(host=index) | DiskFullFault(host=index):
                is_full = isinstance(fault, DiskFullFault)
                world.hosts[index].disk_error = DiskError.FULL if is_full else DiskError.SYNC
                self._later(fault.duration_ms, lambda: self._mend_disk(index))
            case ClockFault(host=index, offset_ms=offset_ms):
                world.set_clock(index, world.hosts[index].clock_offset_ms + offset_ms)
                self._later(fault.duration_ms, lambda: self._step_back(index, offset_ms))
            case SlowWorkFault(host=index):
                host = world.hosts[index]
                host.work_ms = (fault.least_ms, max(fault.least_ms, fault.most_ms))
                self._later(fault.duration_ms, lambda: setattr(host, "work_ms", None))
            case SlowDiskFault(host=index):
                self._slow_disk(index, fault)
            case _:
                rule = fault.rule()
                world.rules.append(rule)
                self._later(fault.duration_ms, lambda: self._lift(rule))
        self._note(fault)

    def _note(self, fault: Fault) -> None:
        kind = kind_of(fault)
        self.struck[kind] = self.struck.get(kind, 0) + 1
        for watch in self.on_strike:
            watch(fault)

    def _later(self, duration_ms: int, action: Any) -> None:
        if duration_ms != FOREVER_MS:
            self._world.after(duration_ms, lambda: None if self._is_over else action())

    def _kill(self, index: int, downtime_ms: int) -> None:
        world = self._world
        world.crash(index)
        until_ms = world.now_ms + max(downtime_ms, 1)
        if downtime_ms == FOREVER_MS:
            self._down_until_ms[index] = 2**62
            return
        self._down_until_ms[index] = max(self._down_until_ms.get(index, 0), until_ms)
        self._later(max(downtime_ms, 1), lambda: self._start(index))

    def _start(self, index: int) -> None:
        world = self._world
        is_due = self._is_over or world.now_ms >= self._down_until_ms.get(index, 0)
        if not is_due or index in self.dead or world.is_running(index):
            return
        try:
            world.start(index)
        except StorageError:
            # What a host does: it refuses to start, and its operator must not empty the disk.
            assert world.disk(index).is_damaged(), "a disk that nobody touched is refused"
            self.dead.add(index)
        except RecoveryError:
            # So does a host whose archive holds a vote that its safety records do not; its twin may
            # have cast that one.
            has_twin = any(len(each) > 1 and index in each for each in world.hosts_of.values())
            if index not in self._amnesiacs and not has_twin:
                raise UnjustRefusalError(f"host {index} lost nothing and does not start") from None
            self.dead.add(index)
        else:
            assert not world.disk(index).is_damaged(), f"host {index} starts from a flipped record"

    def _roll_back(self, fault: RollbackFault, image: NodeDisk) -> None:
        self._world.crash(fault.host)
        self._world.hosts[fault.host].disk = image
        self._kill(fault.host, 1)
        self._note(fault)

    def _slow_disk(self, index: int, fault: SlowDiskFault) -> None:
        host = self._world.hosts[index]
        pace_ms = (fault.least_ms, max(fault.least_ms, fault.most_ms))
        names = {"records": ("record_ms",), "batches": ("batch_ms",)}.get(
            fault.of, ("record_ms", "batch_ms")
        )
        for name in names:
            setattr(host, name, pace_ms)
            self._later(fault.duration_ms, partial(setattr, host, name, None))

    def _mend_disk(self, index: int) -> None:
        self._world.hosts[index].disk_error = None
        self._start(index)

    def _on_stopped(self, index: int, code: str) -> None:
        self.stopped[code] = self.stopped.get(code, 0) + 1
        if code == CORRUPT:
            # Its operator leaves it as it is.
            assert self._world.disk(index).damaged_batches, "a disk that nobody touched is refused"
            self.dead.add(index)

    def _step_back(self, index: int, offset_ms: int) -> None:
        self._world.set_clock(index, self._world.hosts[index].clock_offset_ms - offset_ms)

    def _lift(self, rule: LinkRule) -> None:
        self._world.rules = [each for each in self._world.rules if each is not rule]

    # ---- crashes at writes ---------------------------------------------------------------------

    def _crash_at(self, index: int, write: Any) -> CrashPoint | None:
        for trap in self._traps:
            if trap.fault.host == index and trap.springs(write):
                self._traps.remove(trap)
                self._world.after(0, partial(self._kill, index, trap.fault.duration_ms))
                self._note(trap.fault)
                if isinstance(trap.fault, TornWriteFault):
                    return CrashPoint.TORN
                is_durable = trap.fault.is_durable
                return CrashPoint.AFTER_DURABLE if is_durable else CrashPoint.BEFORE_DURABLE
        return None


def _flip_bit(disk: NodeDisk, fault: BitFlipFault) -> None:
    match fault.of:
        case "records":
            disk.flip_bit(fault.store, fault.record, fault.bit)
        case "batches":
            disk.flip_batch_bit(fault.record, fault.bit)
        case "snapshots":
            disk.flip_snapshot_bit(fault.record, fault.bit)


def name_write(write: Any) -> frozenset[str]:
    """Which of `localnet.sim.bounds.WRITES` a write is."""
    match write:
        case Persist(puts=puts):
            return frozenset(put.table for put in puts)
        case StoreBatch():
            return frozenset({BATCH_WRITE})
        case SaveState():
            return frozenset({SNAPSHOT_WRITE})
        case _:
            assert isinstance(write, Drop), "there is no other kind"
            return frozenset({DROP_WRITE})


def _find_end_ms(fault: LateJoinFault) -> int:
    return 2**62 if fault.duration_ms == FOREVER_MS else fault.at_ms + fault.duration_ms


class _Trap:
    """A crash that waits for its write."""

    def __init__(self, fault: CrashAtPersistFault | TornWriteFault) -> None:
        self.fault = fault
        self._left = fault.skip

    def springs(self, write: Any) -> bool:
        if self.fault.table and self.fault.table not in name_write(write):
            return False
        self._left -= 1
        return self._left < 0
