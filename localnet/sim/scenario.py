"""One run of one schedule: attack, heal, make progress, come to rest; and the verdict.

While the attack lasts only safety is asked for. Then everything is healed (the network's global
stabilisation time), and liveness is asked for as well: within `HEAL_VIEWS_MAX` views every
honest node commits again, everything that was promised is kept, and all engines agree. One run in
`REPLAY_EVERY` ends with a replay of the whole chain from a disk.
"""

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from consensus.messages import Advance, Message
from crypto.bls import BlsScheme
from crypto.ed25519 import Ed25519Identity
from localnet.byzantine import BehaviourFailedError, find_behaviour
from localnet.sim.coverage import Coverage
from localnet.sim.faults import Fault, Nemesis, kind_of
from localnet.sim.keys import Keys
from localnet.sim.links import Filter, Passage
from localnet.sim.node_world import NodeConditions
from localnet.sim.nodes import NodeCluster, make_config
from localnet.sim.oracles.memory import validate_weight
from localnet.sim.oracles.watch import watch
from localnet.sim.schedule import CALM_VIEWS, Schedule, validate_schedule
from localnet.sim.violation import BrokenRuleError, Violation, make_violation
from localnet.sim.watchdog import watching
from localnet.verdicts import Verdict

VIEW_MAX_MS: Final = 2_500
"""Of attack, for each view under attack: an attack that stops all views ends so."""

HEAL_MAX_MS: Final = 60_000
"""Within this time after healing, progress; it covers the longest view timeout a few times."""

HEAL_VIEWS_MAX: Final = 60
"""And within this many views. Leaders are drawn at random, and three views in a row with honest
leaders always commit. In 60 views there are no such three once in 1.6 million runs if two of seven
lie; once in 93,000 at the limit, a third of the power."""

REPLAY_EVERY: Final = 10
"""Of seeds, so many to one whose run ends with a replay of the chain, as `rota replay` does it."""

WEIGH_EVERY: Final = 5
"""Of seeds, so many to one at whose end a node's memory is weighed."""

CATCH_UP_MAX_MS: Final = 60_000
PROGRESS_BLOCKS: Final = 3
REST_MAX_MS: Final = 120_000


class Outcome(Struct, frozen=True):
    """What one run came to."""

    seed: int
    trace_hash: str
    """Digest of every event in order: equal for equal schedules and equal code."""
    views: int
    committed_height: int
    orders: int
    fills: int
    virtual_ms: int
    steps: int
    violation: Violation | None
    coverage: dict[str, int]
    phases: dict[str, int] = {}
    """When each phase after the attack began, in ms of virtual time."""
    not_asked: dict[str, str] = {}
    """What this run was not held to, each with the reason: `liveness`, `rest`, `replay`."""


def run_schedule(
    schedule: Schedule, prepare: Callable[[NodeCluster], None] | None = None
) -> Outcome:
    """Run a schedule from its beginning to its verdict. `prepare` may add observers.

    Raises `ScheduleError` for a schedule that names what does not exist, and
    `BehaviourFailedError` for a broken behaviour of somebody's own; everything that goes
    wrong in the run itself is the outcome's `violation`.
    """
    validate_schedule(schedule)
    return _Run(schedule, prepare).run()


class _Run:
    def __init__(self, schedule: Schedule, prepare: Callable[[NodeCluster], None] | None) -> None:
        self.schedule = schedule
        network, disks = schedule.network, schedule.disks
        conditions = NodeConditions(
            persist_ms=(disks.write_least_ms, max(disks.write_least_ms, disks.write_most_ms)),
            delay_ms=(network.delay_least_ms, max(network.delay_least_ms, network.delay_most_ms)),
            drop_permille=network.drop_permille,
            duplicate_permille=network.duplicate_permille,
        )
        self.conditions = conditions
        real = schedule.real_signatures
        self.cluster = NodeCluster(
            schedule.seed,
            powers=schedule.powers,
            conditions=conditions,
            guilty=sorted(schedule.byzantine()),
            liars={liar.member: find_behaviour(liar.behaviour) for liar in schedule.liars},
            twins=schedule.twins,
            keys=Keys(schedule.powers, BlsScheme(), Ed25519Identity()) if real else None,
            config=make_config(leader_seed=schedule.leader_seed_bytes()),
        )
        self.bounds, self.joining = watch(self.cluster, schedule)
        self.coverage = Coverage()
        self.cluster.world.observers.append(self.coverage)
        self.nemesis = Nemesis(self.cluster.world, schedule.faults)
        self.nemesis.on_strike.append(self._note_strike)
        self.phase = "attack"
        self.phases: dict[str, int] = {}
        self.views = 0
        self.heal_views = 0
        """Views between healing and progress."""
        self.not_asked: dict[str, str] = {}
        if prepare is not None:
            prepare(self.cluster)

    def run(self) -> Outcome:
        violation = None
        try:
            with watching(lambda: self.cluster.world.steps):
                self._attack()
                self._heal()
                self._rest()
                self._replay()
        except BehaviourFailedError:
            raise  # It says nothing about the product.
        except Exception as error:
            # Whatever a node or an oracle raises is the finding that the run is for.
            violation = make_violation(error, self.cluster.world.now_ms, self.phase)
        order = self.cluster.order
        counts = self.coverage.counts
        counts.update({f"fault.{kind}": count for kind, count in self.nemesis.struck.items()})
        for node in self.cluster.lying:
            counts[f"lie.{node.behaviour.name}"] += node.lies
        counts.update(f"fault_drawn.{kind_of(fault)}" for fault in self.schedule.faults)
        counts.update({f"stopped.{code}": count for code, count in self.nemesis.stopped.items()})
        counts.update(f"not_asked.{name}" for name in self.not_asked)
        justice = self.cluster.justice
        counts.update(f"convicted.{kind}" for _, kind in justice.proven)
        if justice.found:
            counts["evidence.found"] += justice.found.total()
        return Outcome(
            seed=self.schedule.seed,
            trace_hash=self.cluster.world.trace_hash,
            views=self.views,
            committed_height=max(order.blocks, default=0),
            orders=len(order.passed),
            fills=order.fills,
            virtual_ms=self.cluster.world.now_ms,
            steps=self.cluster.world.steps,
            violation=violation,
            coverage=dict(sorted(counts.items())),
            phases=self.phases,
            not_asked=self.not_asked,
        )

    def _enter(self, phase: str) -> None:
        self.phase = phase
        self.phases[phase] = self.cluster.world.now_ms

    # ---- phases --------------------------------------------------------------------------------

    def _attack(self) -> None:
        cluster, schedule = self.cluster, self.schedule
        if schedule.twin_links:
            cluster.world.rules.append(Filter(_TwinNetwork(schedule)))
        present = [host for host in cluster.hosts if host not in self.nemesis.absent]
        if present:
            cluster.start(*present)
        duration_max_ms = _count_attacked_views(schedule) * VIEW_MAX_MS
        if schedule.traffic is not None:
            cluster.trade(schedule.traffic.interval_ms, duration_max_ms)
        cluster.run_until(lambda: self._count_views() >= schedule.views, duration_max_ms)

    def _heal(self) -> None:
        self._enter("heal")
        cluster = self.cluster
        cluster.stop_trading()
        self.conditions.drop_permille = self.conditions.duplicate_permille = 0
        self.conditions.persist_ms = NodeConditions().persist_ms
        self.nemesis.heal()
        if not self.schedule.is_within_f():
            self._skip("liveness")
            return
        start = max(cluster.order.blocks, default=0)
        first_view = self._find_highest_view()
        cluster.trade(100, HEAL_MAX_MS)
        is_alive = cluster.run_until(
            lambda: cluster.lowest_committed() >= start + PROGRESS_BLOCKS, HEAL_MAX_MS
        )
        self.heal_views = self._find_highest_view() - first_view
        # An attack that stopped all views still makes a run of the length that was asked for.
        views = self.schedule.views
        is_whole = is_alive and cluster.run_until(
            lambda: self._count_views() >= views, max(HEAL_MAX_MS, views * VIEW_MAX_MS)
        )
        cluster.stop_trading()
        words = None
        if not is_alive:
            words = f"no progress after healing: {cluster.describe()}"
        elif self.heal_views > HEAL_VIEWS_MAX:
            words = f"progress only {self.heal_views} views after healing"
        elif not is_whole:
            words = f"healed, and no more than {self.views} of {views} views"
        if words is not None and self._has_quorum():
            raise LivenessLostError(words)
        if words is not None:
            self._skip("liveness")

    def _rest(self) -> None:
        self._enter("rest")
        if self._has_quorum() and self.schedule.is_within_f():
            self.cluster.come_to_rest(REST_MAX_MS)
            self._catch_up()
            if self.schedule.seed % WEIGH_EVERY == 0:
                self._weigh()
            for watcher in self.cluster.world.observers:
                watcher.at_rest()
        else:
            self._skip("rest")
        self.bounds.check()
        self._count_views()

    def _catch_up(self) -> None:
        """Who lost its memory may be wrong in what it signs, and not in what it holds."""
        cluster, joining = self.cluster, self.joining
        height = cluster.lowest_certified()
        cluster.run_until(lambda: not joining.find_behind(height), CATCH_UP_MAX_MS)
        joining.validate(height)
        late = self.nemesis.absent.intersection(cluster.running())
        for name, hosts in (("joined.amnesiac", joining.find_judged()), ("joined.late", late)):
            if hosts:
                self.coverage.counts[name] += len(hosts)

    def _weigh(self) -> None:
        """Weigh some node's memory."""
        running = self.cluster.running()
        index = running[self.schedule.seed // WEIGH_EVERY % len(running)]
        validate_weight(self.cluster, index)
        self.coverage.counts["memory.weighed"] += 1

    def _replay(self) -> None:
        """Repeat the chain on some honest node's disk, in a share of the runs."""
        if self.schedule.seed % REPLAY_EVERY != 0:
            return
        if not self._has_quorum() or not self.schedule.is_within_f():
            self._skip("replay")
            return
        self._enter("replay")
        heights, compared = self.cluster.validate_replay()
        self.coverage.counts["replay.run"] += 1
        self.coverage.counts["replay.height"] += heights
        self.coverage.counts["replay.checkpoint"] += compared

    def _skip(self, name: str) -> None:
        """Note that something is not asked for, and why: no violation of it could be found."""
        schedule, running = self.schedule, self.cluster.running()
        total = sum(schedule.powers)
        if schedule.is_within_f():
            members = list(running)
            words = "are up and honest" if members else "nobody is up and honest"
            limit = "which is no quorum"
        else:
            members = sorted(schedule.byzantine())
            words, limit = "lie, have twins or lose their memory", "a third or more"
        names = ", ".join(f"node{member}" for member in members)
        power = sum(schedule.powers[member] for member in members)
        self.not_asked[name] = f"{names} {words}: power {power} of {total}, {limit}".lstrip()

    # ---- questions -----------------------------------------------------------------------------

    def _count_views(self) -> int:
        self.views = max(self.views, self._find_highest_view())
        return self.views

    def _find_highest_view(self) -> int:
        cluster = self.cluster
        return max((cluster.core(each).view for each in cluster.running()), default=0)

    def _has_quorum(self) -> bool:
        """Is more than two thirds of the power honest and up? Liveness needs it."""
        powers = self.schedule.powers
        return 3 * sum(powers[index] for index in self.cluster.running()) > 2 * sum(powers)

    def _note_strike(self, fault: Fault) -> None:
        """Did it strike while some honest node was locked on a block that it had not committed?"""
        cluster = self.cluster
        is_locked = any(
            cluster.core(index).statistics().consensus.high_qc_view
            > self.coverage.committed_views.get(index, 0)
            for index in cluster.running()
        )
        if is_locked:
            self.coverage.counts[f"fault_under_lock.{kind_of(fault)}"] += 1


class LivenessLostError(BrokenRuleError):
    """Everything is healed, and nothing is committed."""

    oracle = "liveness"
    verdict = Verdict.LIVENESS


def _count_attacked_views(schedule: Schedule) -> int:
    """Where twins split a committee so that no view ends, the views after theirs never come: the
    run goes through those once it is healed."""
    if not schedule.twin_links:
        return schedule.views
    last = max(links.view for links in schedule.twin_links)
    return min(schedule.views, last + CALM_VIEWS)


class _TwinNetwork:
    """Who hears whom about which view."""

    def __init__(self, schedule: Schedule) -> None:
        self._masks = {links.view: links.masks for links in schedule.twin_links}

    def __call__(self, passage: Passage) -> bool:
        view = view_of(passage.message)
        masks = None if view is None else self._masks.get(view)
        return masks is None or bool(masks[passage.sender] >> passage.receiver & 1)


def view_of(message: Message) -> int | None:
    """The view that a consensus message is about; None for the rest."""
    if isinstance(message, Advance):
        # It opens the view after its newest certificate, so that is the view that it is about:
        # who may not hear of a view need not learn that it has begun.
        return max(message.qc.view, 0 if message.tc is None else message.tc.view) + 1
    held: Any = getattr(message, "view", None)
    if held is None:
        held = getattr(getattr(message, "data", None), "view", None)
    return None if held is None else int(held)
