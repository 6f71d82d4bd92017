"""Schedules run to a verdict, twice alike; and a broken rule is found and named."""

from collections import Counter

import msgspec
import pytest

from consensus.core import ConsensusCore
from consensus.messages import CommittedResponse
from consensus.outbox import Outbox
from localnet.sim import node_world
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
    LateJoinFault,
    LossFault,
    PartitionFault,
    PowerLossFault,
    RollbackFault,
    SlowWorkFault,
    WipeFault,
    kind_of,
)
from localnet.sim.generator import generate
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.watchers import Watcher
from localnet.sim.scenario import REPLAY_EVERY, run_schedule
from localnet.sim.schedule import (
    Liar,
    Schedule,
    TwinLinks,
    decode_schedule,
    encode_schedule,
)
from mempool.batch import BatchError, BatchVerdict

FAULTS = (
    PartitionFault(at_ms=200, duration_ms=600, side=(0, 1)),
    CutFault(at_ms=200, duration_ms=600, senders=(0,), receivers=(1, 2)),
    LossFault(at_ms=200, duration_ms=900, permille=300),
    DuplicateFault(at_ms=200, duration_ms=900, permille=500),
    DelayFault(at_ms=200, duration_ms=900, least_ms=10, most_ms=200),
    BandwidthFault(at_ms=200, duration_ms=900, bytes_per_s=20_000),
    CrashFault(at_ms=300, duration_ms=500, host=2),
    CrashAtPersistFault(at_ms=300, duration_ms=500, host=2, table="vote", is_durable=True),
    CrashAtPersistFault(at_ms=300, duration_ms=500, host=2, table="vote"),
    PowerLossFault(at_ms=400, duration_ms=500, host=1, archive_writes=12),
    DiskFailureFault(at_ms=400, duration_ms=500, host=1),
    BitFlipFault(at_ms=500, duration_ms=200, host=3, record=17, bit=99),
    RollbackFault(at_ms=200, duration_ms=700, host=3),
    WipeFault(at_ms=500, duration_ms=200, host=3),
    LateJoinFault(at_ms=0, duration_ms=900, host=3),
    ClockFault(at_ms=300, duration_ms=500, host=0, offset_ms=-5_000),
    ClockFault(at_ms=300, duration_ms=500, host=0, offset_ms=5_000),
    SlowWorkFault(at_ms=300, duration_ms=800, host=2, least_ms=50, most_ms=150),
)


@pytest.mark.parametrize("fault", FAULTS, ids=kind_of)
def test_each_fault_strikes_and_breaks_no_promise(fault) -> None:
    outcome = run_schedule(Schedule(seed=5, views=60, faults=(fault,)))
    assert outcome.violation is None
    assert outcome.coverage[f"fault.{kind_of(fault)}"] == 1
    assert outcome.committed_height > 10
    assert outcome.fills > 0


@pytest.mark.parametrize("seed", range(24))
def test_a_seed_is_the_same_run_each_time_and_holds_every_oracle(seed: int) -> None:
    schedule = generate(seed, views=15)
    first, again = run_schedule(schedule), run_schedule(decode_schedule(encode_schedule(schedule)))
    assert first.violation is None
    assert first == again


def test_a_quiet_run_makes_promises_that_bind() -> None:
    clusters: list[NodeCluster] = []
    outcome = run_schedule(Schedule(seed=9, views=40), clusters.append)
    assert outcome.violation is None
    assert len(clusters[0].promises.available) >= 20


@pytest.mark.parametrize("seed", [10, 11])
def test_one_seed_in_ten_ends_with_a_replay_of_the_chain(seed: int) -> None:
    outcome = run_schedule(Schedule(seed=seed, views=15))
    assert outcome.violation is None
    is_replayed = seed % REPLAY_EVERY == 0
    assert outcome.coverage.get("replay.run", 0) == is_replayed
    if is_replayed:
        assert outcome.coverage["replay.height"] >= outcome.committed_height
        assert outcome.coverage["replay.checkpoint"] > 0


def test_a_disk_that_tells_another_story_than_the_run_is_found_by_the_replay(monkeypatch) -> None:
    """Every disk loses the batches of one block once all has come to rest."""
    come_to_rest = NodeCluster.come_to_rest

    def come_to_rest_and_forget(self, duration_max_ms) -> None:
        come_to_rest(self, duration_max_ms)
        forgotten = min(self.world.disk(0).batches)
        for index in self.hosts:
            self.world.disk(index).batches.pop(forgotten, None)

    monkeypatch.setattr(NodeCluster, "come_to_rest", come_to_rest_and_forget)
    violation = run_schedule(Schedule(seed=10, views=15)).violation
    assert violation is not None
    assert (violation.oracle, violation.phase) == ("replay", "replay")
    assert violation.verdict.exit_code == 22


def test_who_lags_is_served_as_much_at_once_as_a_real_host_serves(monkeypatch) -> None:
    monkeypatch.setattr("node.serving.SYNC_RESPONSE_MAX_BYTES", 2_000)
    served: list[int] = []

    class Responses(Watcher):
        messages = (CommittedResponse,)

        def on_sent(self, index, message) -> None:
            served.append(len(message.blocks))

    crash = CrashFault(at_ms=50, duration_ms=0, host=0)
    outcome = run_schedule(
        Schedule(seed=5, views=80, faults=(crash,)),
        lambda cluster: cluster.world.observers.append(Responses()),
    )
    assert outcome.violation is None
    assert len(served) > 5
    assert 1 < max(served) < 20


def test_other_seeds_are_other_runs() -> None:
    schedules = [Schedule(seed=seed, views=5) for seed in (1, 2)]
    assert len({run_schedule(each).trace_hash for each in schedules}) == 2


def test_twins_that_both_speak_for_one_member_are_within_f() -> None:
    outcome = run_schedule(
        Schedule(
            seed=3,
            views=30,
            twins=(1,),
            twin_links=tuple(
                # Each half of the committee hears one twin only, and the two do not meet.
                TwinLinks(view=view, masks=(0b01111, 0b00011, 0b11111, 0b11111, 0b11100))
                for view in range(1, 20)
            ),
        )
    )
    assert outcome.violation is None
    assert outcome.coverage["timeout.sent"] > 0


@pytest.mark.parametrize("behaviour", ["silent", "equivocating_leader"])
def test_with_a_liar_the_others_agree_and_go_on(behaviour: str) -> None:
    liars = (Liar(member=1, behaviour=behaviour),)
    outcome = run_schedule(Schedule(seed=4, views=30, liars=liars))
    assert outcome.violation is None
    assert outcome.committed_height > 15


def test_a_vote_that_leaves_before_it_is_durable_is_found_and_the_oracle_named(monkeypatch) -> None:
    send = Outbox.send

    def send_at_once(self, to, message, after=()) -> None:
        send(self, to, message)

    monkeypatch.setattr(Outbox, "send", send_at_once)
    violation = run_schedule(Schedule(seed=1, views=5)).violation
    assert violation is not None
    assert (violation.oracle, violation.phase) == ("SignedOnce", "attack")
    assert "sent, not durable" in violation.detail


@pytest.mark.one_run
def test_every_node_checks_and_opens_for_itself(monkeypatch) -> None:
    """A check that came out otherwise on one node would go unseen if its peers' were reused."""
    checked: Counter[bytes] = Counter()
    opened: Counter[int] = Counter()
    check_batch, make_block_input = node_world.check_batch, node_world.make_block_input

    def check(batch, scheme, chain_id):
        checked[batch.author_signing_bytes] += 1
        return check_batch(batch, scheme, chain_id)

    def open_height(**fields):
        opened[fields["height"]] += 1
        return make_block_input(**fields)

    monkeypatch.setattr(node_world, "check_batch", check)
    monkeypatch.setattr(node_world, "make_block_input", open_height)
    outcome = run_schedule(Schedule(seed=3, views=8))
    assert outcome.violation is None
    assert checked
    assert set(checked.values()) == {4}
    assert opened
    assert set(opened.values()) == {4}


@pytest.mark.one_run
def test_one_node_that_checks_otherwise_than_its_peers_is_seen(monkeypatch) -> None:
    seen: Counter[bytes] = Counter()
    check_batch = node_world.check_batch

    def check(batch, scheme, chain_id):
        verdict = check_batch(batch, scheme, chain_id)
        seen[batch.author_signing_bytes] += 1
        if seen[batch.author_signing_bytes] > 3:
            return BatchVerdict(BatchError.ENVELOPE_INVALID, None, "planted")
        return verdict

    monkeypatch.setattr(node_world, "check_batch", check)
    assert run_schedule(Schedule(seed=3, views=8)).violation is not None


@pytest.mark.parametrize("seed", range(1, 7))
def test_whoever_looks_after_every_event_finds_nothing_more(monkeypatch, seed) -> None:
    schedule = generate(seed, 20, (1, 1, 1, 1))
    schedule = msgspec.structs.replace(
        schedule, faults=(*schedule.faults, ClockFault(at_ms=300, host=1, offset_ms=-400))
    )
    looks: Counter[bool] = Counter()
    is_anything_new = ConsensusCore._is_anything_new

    def count(core) -> bool:
        looks[answer := is_anything_new(core)] += 1
        return answer

    monkeypatch.setattr(ConsensusCore, "_is_anything_new", count)
    outcome = run_schedule(schedule)
    assert looks[False] > sum(looks.values()) // 4
    monkeypatch.setattr(ConsensusCore, "_is_anything_new", lambda core: True)
    assert run_schedule(schedule) == outcome


def test_a_node_looks_when_its_clock_was_put_back_and_while_it_fetches(monkeypatch) -> None:
    is_anything_new = ConsensusCore._is_anything_new
    seen: Counter[str] = Counter()

    def watch(core) -> bool:
        answer = is_anything_new(core)
        for name, is_so in (
            ("put back", core._now_ms < core._settled_at_ms),
            ("fetching", core._exchange.sync.is_busy),
        ):
            if is_so and not core._has_acted and not core._may_propose:
                seen[name] += 1
                assert answer, name
        return answer

    monkeypatch.setattr(ConsensusCore, "_is_anything_new", watch)
    fetching = generate(102, 100, (1, 1, 1, 1))
    faults = (
        LossFault(at_ms=100, duration_ms=3_000, permille=250),
        ClockFault(at_ms=300, host=1, offset_ms=-400),
    )
    put_back = Schedule(seed=1, views=40, faults=faults)
    for schedule in (fetching, put_back):
        assert run_schedule(schedule).violation is None
    assert set(seen) == {"put back", "fetching"}
