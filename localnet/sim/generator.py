"""Draws a schedule from a seed: a small committee, a network, and a handful of faults.

All schedules stay within f, so that everything is asked of them. Each seed is a schedule of its
own kind: what it leaves out (no lies, no crashes, a perfect network) matters as much as what it
holds, since faults that come all at once hide each other (swarm testing, Groce et al. 2012).
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from consensus.effects import Store
from consensus.messages import (
    Ack,
    Advance,
    BatchMessage,
    BlockResponse,
    CommittedResponse,
    LaneCertificate,
    Proposal,
    SnapshotOffer,
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
from localnet.byzantine import Need, behaviours
from localnet.sim.bounds import BATCH_WRITE, DROP_WRITE, DROPPING_VIEWS, SNAPSHOT_WRITE
from localnet.sim.faults import (
    FOREVER_MS,
    BandwidthFault,
    BitFlipFault,
    ClockFault,
    CrashAtPersistFault,
    CrashFault,
    CutFault,
    DelayFault,
    DiskFailureFault,
    DiskFullFault,
    DuplicateFault,
    Fault,
    LateJoinFault,
    LossFault,
    PartitionFault,
    PowerLossFault,
    RollbackFault,
    SlowDiskFault,
    SlowWorkFault,
    TornWriteFault,
    WipeFault,
)
from localnet.sim.schedule import Liar, Network, Schedule, Traffic

FAULTS_DRAWN_MAX: Final = 12
"""In one schedule, besides what takes a memory away; more would hide each other."""
FEW_FAULTS_MAX: Final = 3
"""Where something else than faults is what is tested."""
WINDOW_MS: Final = 12
"""Of attack time a view, over which faults are spread, besides the longest delay of the network:
what a view takes where nothing fails, so that faults strike before the attack is over."""
TRADE_INTERVALS_MS: Final = (50, 100, 200)
"""From one order to the next: about one order a view where nothing fails. Views are what is tested
here, and each has something to carry."""
LOSSY_PERMILLE: Final = 20
"""Of messages: where so many are lost, every node gives up some view, and writes that down."""
WRITES_SKIPPED_DRAWN_MAX: Final = 3
"""A crash at a write comes at one of the next few."""
ARCHIVE_WRITES_DRAWN_MAX: Final = 29
"""More than a snapshot's worth of blocks, less than all there is."""
RECORD_DRAWN_MAX: Final = 9_999

JOIN_POWERS: Final = (1,) * 7
"""Who joins with a snapshot has lost its memory: it counts as guilty beside the liar."""

_SELDOM: Final = (PROPOSAL_TABLE, STATE_VOTE_TABLE, STATE_TABLE, SNAPSHOT_WRITE)
"""Writes of which a run has few: the next one counts."""
_OFTEN: Final = (VOTE_TABLE, BLOCK_TABLE, BATCH_WRITE, "")
"""Writes of which there are many; the last stands for any."""
_TORN: Final = (VOTE_TABLE, BLOCK_TABLE, BATCH_WRITE)


def _tag(kind: Any) -> str:
    return str(kind.__struct_config__.tag)


_KINDS: Final = tuple(
    _tag(each)
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
    network = random.choice(
        (
            Network(),
            Network(delay_least_ms=1, delay_most_ms=40),
            Network(drop_permille=random.choice((5, 20, 60))),
            Network(duplicate_permille=100, delay_most_ms=15),
        )
    )
    draw = _Draw(random, chosen, views * (WINDOW_MS + network.delay_most_ms))
    if network.drop_permille >= LOSSY_PERMILLE:
        draw.seldom += (TIMEOUT_TABLE,)
    if views >= DROPPING_VIEWS:
        draw.seldom += (DROP_WRITE,)
    liars = draw.liars()
    if powers is None and any(behaviours()[each.behaviour].needs is Need.JOINING for each in liars):
        chosen = JOIN_POWERS
        draw.use(chosen)
    makers = random.sample(draw.makers, random.randint(1, 4))
    count = random.choice((0, 1, 2, 3, 5, 8, FAULTS_DRAWN_MAX))
    faults = sorted((random.choice(makers)() for _ in range(count)), key=lambda each: each.at_ms)
    faults += draw.memory_loss()
    for liar in liars:
        faults += draw.help_liar(liar)
    return Schedule(
        seed=seed,
        powers=chosen,
        views=views,
        network=network,
        traffic=Traffic(interval_ms=random.choice(TRADE_INTERVALS_MS)),
        liars=liars,
        faults=tuple(faults),
    )


def draw_faults(random: Random, powers: tuple[int, ...], views: int) -> tuple[Fault, ...]:
    """Up to `FEW_FAULTS_MAX` faults for an attack of so many views; they make nobody guilty."""
    draw = _Draw(random, powers, views * WINDOW_MS)
    drawn = (random.choice(draw.makers)() for _ in range(random.randint(1, FEW_FAULTS_MAX)))
    return tuple(sorted(drawn, key=lambda each: each.at_ms))


class _Draw:
    """The dice of one schedule."""

    def __init__(self, random: Random, powers: tuple[int, ...], window_ms: int) -> None:
        self._random = random
        self._powers = powers
        self._members = range(len(powers))
        self._window_ms = window_ms
        self._guilty: set[int] = set()
        self.seldom: tuple[str, ...] = _SELDOM
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
            self.torn_write,
            self.disk_failure,
            self.disk_full,
            self.clock,
            self.slow_work,
            self.slow_disk,
        )

    def use(self, powers: tuple[int, ...]) -> None:
        """Go on with another committee, of no fewer members."""
        assert len(powers) >= len(self._powers), "whoever is guilty is still there"
        self._powers = powers
        self._members = range(len(powers))

    # ---- who is guilty -------------------------------------------------------------------------

    def _find_spare(self) -> list[int]:
        """The innocent of whom each, with all the guilty, has less than a third of the power."""
        return [
            index
            for index in self._members
            if index not in self._guilty
            and 3 * sum(self._powers[each] for each in {*self._guilty, index}) < sum(self._powers)
        ]

    def _convict(self, wanted: int | None = None) -> int | None:
        """Some member whose guilt keeps all the guilty below a third of the power; the wanted one,
        if it can be."""
        candidates = self._find_spare()
        if not candidates:
            return None
        chosen = wanted if wanted in candidates else self._random.choice(candidates)
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
            # It strikes when it ends.
            at_ms, duration_ms = at_ms // 2, max(1, at_ms // 2)
            return [RollbackFault(at_ms=at_ms, duration_ms=duration_ms, host=member)]
        if kind == 1:
            # Every other one, without a draw of its own: what is drawn after it stays as it is.
            is_joining = at_ms % 2 == 0
            return [
                WipeFault(at_ms=at_ms, duration_ms=duration_ms, host=member, is_joining=is_joining)
            ]
        return [
            BitFlipFault(
                at_ms=at_ms,
                duration_ms=duration_ms,
                host=member,
                of=self._random.choice(("records", "records", "batches", "snapshots")),
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

    def help_liar(self, liar: Liar) -> list[Fault]:
        """Lies about what nobody asks for, and about views that do not fail, are never told: bring
        about what this one needs."""
        others = [index for index in self._members if index != liar.member]
        first, second = self._random.sample(others, 2)
        at_ms = self._time() // 3
        match behaviours()[liar.behaviour].needs:
            case Need.MISSING_BATCHES:
                return [self._deafen(at_ms, first, liar.member, BatchMessage)]
            case Need.MISSING_BLOCKS:
                away = CrashFault(at_ms=at_ms, duration_ms=1_000, host=second)
                return [
                    self._deafen(at_ms, first, liar.member, Proposal),
                    self._deafen(at_ms, first, liar.member, BatchMessage),
                    away,
                ]
            case Need.LONG_ABSENCE:
                # Back when the attack is over, far behind, and asks the next one first.
                before = (liar.member - 1) % len(self._members)
                return [CrashFault(at_ms=at_ms, duration_ms=FOREVER_MS, host=before)]
            case Need.JOINING:
                return self._join_beside(liar.member)
            case Need.FAILED_VIEWS:
                lost = LossFault(at_ms=at_ms, duration_ms=2_000, permille=700, kinds=(_tag(Vote),))
                return [lost, CrashFault(at_ms=at_ms, duration_ms=600, host=first)]
            case Need.NOTHING:
                return []

    def _join_beside(self, liar: int) -> list[Fault]:
        """Somebody loses its disk, late enough for a snapshot to be there, and hears of snapshots
        from the liar only."""
        # Pieces are asked for in turn, and it is the turn of the second one after it.
        member = self._convict((liar - 2) % len(self._powers))
        if member is None:
            return []
        at_ms = 2 * self._window_ms // 3
        wipe = WipeFault(at_ms=at_ms, duration_ms=1, host=member, is_joining=True)
        honest = tuple(index for index in self._members if index not in (member, liar))
        kinds = (_tag(SnapshotOffer),)
        return [wipe, CutFault(at_ms=at_ms, senders=honest, receivers=(member,), kinds=kinds)]

    def _deafen(self, at_ms: int, host: int, liar: int, kind: type) -> Fault:
        """Somebody hears one kind of message from the liar only, if at all."""
        senders = tuple(index for index in self._members if index not in (host, liar))
        return CutFault(
            at_ms=at_ms, duration_ms=1_500, senders=senders, receivers=(host,), kinds=(_tag(kind),)
        )

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
            permille=self._random.choice((100, 300, 700, 900, 1_000)),
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
        is_seldom = self._random.random() < 0.4
        return CrashAtPersistFault(
            at_ms=self._time() // (3 if is_seldom else 1),
            duration_ms=self._duration(),
            host=self._host(),
            table=self._random.choice(self.seldom if is_seldom else _OFTEN),
            skip=0 if is_seldom else self._random.randrange(WRITES_SKIPPED_DRAWN_MAX + 1),
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

    def disk_full(self) -> Fault:
        return DiskFullFault(at_ms=self._time(), duration_ms=self._duration(), host=self._host())

    def torn_write(self) -> Fault:
        return TornWriteFault(
            at_ms=self._time(),
            duration_ms=self._duration(),
            host=self._host(),
            table=self._random.choice(_TORN),
        )

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
