"""Draws a schedule from a seed: a small committee, a network, and a handful of faults.

Most schedules stay within f, so that everything is asked of them. Each seed is a schedule of its
own kind: what it leaves out (no lies, no crashes, a perfect network) matters as much as what it
holds, since faults that come all at once hide each other (swarm testing, Groce et al. 2012).
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from consensus.effects import Store
from consensus.messages import (
    Ack,
    Advance,
    BatchMessage,
    BlockResponse,
    CommittedResponse,
    LaneCertificate,
    Proposal,
    StateVote,
    Timeout,
    Vote,
)
from consensus.safety import (
    BLOCK_TABLE,
    PROPOSAL_TABLE,
    STATE_TABLE,
    TIMEOUT_TABLE,
    VOTE_TABLE,
)
from consensus.state_signer import STATE_VOTE_TABLE
from localnet.byzantine import behaviours
from localnet.sim.faults import (
    BandwidthFault,
    BitFlipFault,
    ClockFault,
    CrashAtPersistFault,
    CrashFault,
    CutFault,
    DelayFault,
    DiskFailureFault,
    DuplicateFault,
    Fault,
    LateJoinFault,
    LossFault,
    PartitionFault,
    PowerLossFault,
    RollbackFault,
    SlowDiskFault,
    SlowWorkFault,
    WipeFault,
)
from localnet.sim.schedule import Liar, Network, Schedule, Traffic

FAULTS_DRAWN_MAX: Final = 12
"""In one schedule, besides what takes a memory away; more would hide each other."""
WINDOW_MS: Final = 60
"""Of attack time a view, over which faults are spread."""
WRITES_SKIPPED_DRAWN_MAX: Final = 3
"""A crash at a write comes at one of the next few."""
ARCHIVE_WRITES_DRAWN_MAX: Final = 29
"""More than a snapshot's worth of blocks, less than all there is."""
RECORD_DRAWN_MAX: Final = 9_999

_TABLES: Final = (
    VOTE_TABLE,
    TIMEOUT_TABLE,
    PROPOSAL_TABLE,
    STATE_VOTE_TABLE,
    BLOCK_TABLE,
    STATE_TABLE,
    "",
)
"""Writes that a node's next message waits for; the last stands for any."""

_KINDS: Final = tuple(
    str(each.__struct_config__.tag)
    for each in (
        Proposal,
        Vote,
        Timeout,
        Advance,
        BatchMessage,
        Ack,
        LaneCertificate,
        StateVote,
        BlockResponse,
        CommittedResponse,
    )
)
"""Messages whose loss alone tells something; requests are asked again anyway."""

_POWERS: Final = (
    (1, 1, 1, 1),
    (1, 1, 1, 1),
    (1, 1, 1, 1),
    (3, 3, 3, 3, 1),
    (5, 4, 3, 3),
    (1, 1, 1, 1, 1, 1, 1),
)


def generate(seed: int, views: int = 30, powers: Sequence[int] | None = None) -> Schedule:
    """The schedule of a seed: always the same one."""
    random = Random(f"schedule {seed}")
    chosen = tuple(powers) if powers is not None else random.choice(_POWERS)
    draw = _Draw(random, chosen, views)
    liars = draw.liars()
    makers = random.sample(draw.makers, random.randint(1, 4))
    count = random.choice((0, 1, 2, 3, 5, 8, FAULTS_DRAWN_MAX))
    faults = sorted((random.choice(makers)() for _ in range(count)), key=lambda each: each.at_ms)
    faults += draw.memory_loss()
    network = random.choice(
        (
            Network(),
            Network(delay_least_ms=1, delay_most_ms=40),
            Network(drop_permille=random.choice((5, 20, 60))),
            Network(duplicate_permille=100, delay_most_ms=15),
        )
    )
    return Schedule(
        seed=seed,
        powers=chosen,
        views=views,
        network=network,
        traffic=Traffic(interval_ms=random.choice((30, 80, 200))),
        liars=liars,
        faults=tuple(faults),
    )


class _Draw:
    """The dice of one schedule."""

    def __init__(self, random: Random, powers: tuple[int, ...], views: int) -> None:
        self._random = random
        self._powers = powers
        self._members = range(len(powers))
        self._window_ms = views * WINDOW_MS
        self._guilty: set[int] = set()
        self.makers: tuple[Callable[[], Fault], ...] = (
            self.partition,
            self.cut,
            self.loss,
            self.duplicate,
            self.delay,
            self.bandwidth,
            self.crash,
            self.crash,
            self.crash_at_persist,
            self.crash_at_persist,
            self.power_loss,
            self.disk_failure,
            self.clock,
            self.slow_work,
            self.slow_disk,
        )

    # ---- who is guilty -------------------------------------------------------------------------

    def _find_spare(self) -> list[int]:
        """The innocent of whom each, with all the guilty, has less than a third of the power."""
        return [
            index
            for index in self._members
            if index not in self._guilty
            and 3 * sum(self._powers[each] for each in {*self._guilty, index}) < sum(self._powers)
        ]

    def _convict(self) -> int | None:
        """Some member whose guilt keeps all the guilty below a third of the power."""
        candidates = self._find_spare()
        if not candidates:
            return None
        chosen = self._random.choice(candidates)
        self._guilty.add(chosen)
        return chosen

    def liars(self) -> tuple[Liar, ...]:
        """None in half of all schedules."""
        found: list[Liar] = []
        for _ in range(self._random.choice((0, 0, 1, 2))):
            member = self._convict()
            if member is not None:
                found.append(Liar(member=member, behaviour=self._random.choice(list(behaviours()))))
        return tuple(found)

    def memory_loss(self) -> list[Fault]:
        """Somebody's disk is restored, emptied or corrupted, or somebody comes late, seldom."""
        kind = self._random.randrange(12)
        if kind in (3, 4):
            return self.late_join()
        if kind > 2:
            return []
        member = self._convict()
        if member is None:
            return []
        at_ms, duration_ms = self._time(), self._duration()
        if kind == 0:
            return [RollbackFault(at_ms=at_ms, duration_ms=duration_ms, host=member)]
        if kind == 1:
            return [WipeFault(at_ms=at_ms, duration_ms=duration_ms, host=member)]
        return [
            BitFlipFault(
                at_ms=at_ms,
                duration_ms=duration_ms,
                host=member,
                store=self._random.choice((Store.SAFETY, Store.ARCHIVE)),
                record=self._random.randrange(RECORD_DRAWN_MAX + 1),
                bit=self._random.randrange(RECORD_DRAWN_MAX + 1),
            )
        ]

    def late_join(self) -> list[Fault]:
        """An honest member whose absence leaves the others a quorum."""
        candidates = self._find_spare()
        if not candidates:
            return []
        host = self._random.choice(candidates)
        return [LateJoinFault(at_ms=0, duration_ms=max(1, self._time()), host=host)]

    # ---- dice ----------------------------------------------------------------------------------

    def _time(self) -> int:
        return self._random.randrange(self._window_ms)

    def _duration(self) -> int:
        return self._random.choice((50, 150, 400, 1_000, 2_500))

    def _host(self) -> int:
        return self._random.choice(self._members)

    def _some(self) -> tuple[int, ...]:
        count = self._random.randint(1, len(self._members) - 1)
        return tuple(sorted(self._random.sample(self._members, count)))

    def _kinds(self) -> tuple[str, ...]:
        if self._random.random() < 0.6:
            return ()
        return tuple(sorted(self._random.sample(_KINDS, self._random.randint(1, 3))))

    # ---- faults --------------------------------------------------------------------------------

    def partition(self) -> Fault:
        return PartitionFault(
            at_ms=self._time(), duration_ms=self._duration(), side=self._some(), kinds=self._kinds()
        )

    def cut(self) -> Fault:
        return CutFault(
            at_ms=self._time(),
            duration_ms=self._duration(),
            senders=self._some(),
            receivers=self._some(),
            kinds=self._kinds(),
        )

    def loss(self) -> Fault:
        return LossFault(
            at_ms=self._time(),
            duration_ms=self._duration(),
            senders=self._some(),
            kinds=self._kinds(),
            permille=self._random.choice((100, 300, 700)),
        )

    def duplicate(self) -> Fault:
        return DuplicateFault(
            at_ms=self._time(),
            duration_ms=self._duration(),
            kinds=self._kinds(),
            permille=self._random.choice((200, 1_000)),
            lag_max_ms=self._random.choice((20, 500, 3_000)),
        )

    def delay(self) -> Fault:
        least_ms = self._random.choice((0, 20, 100, 400))
        return DelayFault(
            at_ms=self._time(),
            duration_ms=self._duration(),
            senders=self._some(),
            kinds=self._kinds(),
            least_ms=least_ms,
            most_ms=least_ms + self._random.choice((5, 50, 500)),
        )

    def bandwidth(self) -> Fault:
        return BandwidthFault(
            at_ms=self._time(),
            duration_ms=self._duration(),
            senders=self._some(),
            bytes_per_s=self._random.choice((5_000, 50_000, 500_000)),
        )

    def crash(self) -> Fault:
        return CrashFault(at_ms=self._time(), duration_ms=self._duration(), host=self._host())

    def crash_at_persist(self) -> Fault:
        return CrashAtPersistFault(
            at_ms=self._time(),
            duration_ms=self._duration(),
            host=self._host(),
            table=self._random.choice(_TABLES),
            skip=self._random.randrange(WRITES_SKIPPED_DRAWN_MAX + 1),
            is_durable=self._random.random() < 0.5,
        )

    def power_loss(self) -> Fault:
        return PowerLossFault(
            at_ms=self._time(),
            duration_ms=self._duration(),
            host=self._host(),
            archive_writes=self._random.randrange(ARCHIVE_WRITES_DRAWN_MAX + 1),
        )

    def disk_failure(self) -> Fault:
        return DiskFailureFault(at_ms=self._time(), duration_ms=self._duration(), host=self._host())

    def clock(self) -> Fault:
        return ClockFault(
            at_ms=self._time(),
            duration_ms=self._duration(),
            host=self._host(),
            offset_ms=self._random.choice((-2_000, -300, -40, 40, 300, 2_000)),
        )

    def slow_work(self) -> Fault:
        least_ms = self._random.choice((5, 50, 200))
        return SlowWorkFault(
            at_ms=self._time(),
            duration_ms=self._duration(),
            host=self._host(),
            least_ms=least_ms,
            most_ms=least_ms * 3,
        )

    def slow_disk(self) -> Fault:
        least_ms = self._random.choice((0, 20, 100, 400))
        return SlowDiskFault(
            at_ms=self._time(),
            duration_ms=self._duration(),
            host=self._host(),
            of=self._random.choice(("records", "batches", "both")),
            least_ms=least_ms,
            most_ms=least_ms + self._random.choice((10, 100, 600)),
        )
