"""What `recover_node` and a restarted core make of stores that do not fit together."""

from typing import get_args

import pytest
from msgspec import structs

from committee.committee import COMMITTEE_SIZE_MAX
from consensus.chain import ARCHIVE_BLOCK_TABLE
from consensus.effects import (
    CheckBatch,
    Halt,
    Persist,
    Signed,
    Store,
    TimerFired,
    Token,
    compute_key,
)
from consensus.evidence import Evidence
from consensus.lane_certificates import CERTIFICATE_TABLE
from consensus.ownership import Component
from consensus.recovery import RecoveryError
from consensus.types import AvailabilityCertificate, CheckpointHeader
from crypto.bitmap import decode_bitmap, encode_bitmap
from crypto.codec import decode, encode
from localnet.sim.nodes import NodeCluster, make_config
from localnet.sim.oracles.watchers import Watcher
from node.batch_checks import OPENED_BATCHES_MAX, OPENINGS_MAX
from node.core import NodeCore
from node.delivery import DeliveryRecord
from node.events import OpenBatches
from node.offences import EVIDENCE_TABLE
from node.recovery import (
    BLOCK_ID_TABLE,
    CERTIFICATE_BY_HEIGHT_TABLE,
    CHECKPOINT_TABLE,
    DELIVERY_TABLE,
    EVIDENCE_RECOVERED_MAX,
    ORDER_SNAPSHOT_TABLE,
    OrderSnapshot,
    RecoveredNode,
    recover_node,
)


@pytest.fixture
def cluster():
    """Four nodes that ran for a while; node 0 is down, with snapshots at multiples of 20."""
    cluster = NodeCluster(1)
    cluster.start()
    cluster.trade(20, 900)
    cluster.run(900)
    cluster.settle()
    cluster.crash(0)
    return cluster


def recover(cluster, engine_height=None) -> RecoveredNode:
    disk = cluster.world.disk(0)
    if engine_height is None:
        engine_height = max(disk.engine_snapshots)
    return recover_node(cluster.genesis, 0, disk.stores[Store.SAFETY], disk, disk, engine_height)


def table(cluster, name):
    return cluster.world.disk(0).table(Store.ARCHIVE, name)


def delivered_with_batches(cluster) -> list[DeliveryRecord]:
    records = table(cluster, DELIVERY_TABLE)
    decoded = [decode(DeliveryRecord, records[key]) for key in sorted(records)]
    return [record for record in decoded if record.batches]


def newest_with_batches(cluster) -> DeliveryRecord:
    return delivered_with_batches(cluster)[-1]


def test_nothing_stored_is_a_first_start():
    cluster = NodeCluster(1)
    recovered = recover(cluster, 0)
    assert recovered.order_state.height == 0
    assert recovered.blocks == recovered.delivered_batches == recovered.evidence == ()
    assert recovered.own_checkpoint is None
    assert recovered.consensus.is_first_start


def test_the_newest_order_snapshot_not_ahead_of_the_engine_is_taken(cluster):
    snapshots = sorted(int.from_bytes(key, "big") for key in table(cluster, ORDER_SNAPSHOT_TABLE))
    assert len(snapshots) >= 2
    older, newer = snapshots[-2:]
    for engine_height, expected in ((newer, newer), (newer + 1, newer), (newer - 1, older), (0, 0)):
        recovered = recover(cluster, engine_height)
        assert recovered.order_state.height == recovered.ledger.height == expected
        assert recovered.blocks[0].block.height == expected + 1
        assert recovered.blocks[-1].block.height == recovered.consensus.tip.height


def test_the_own_checkpoint_is_the_newest_that_the_engine_has_reached(cluster):
    recovered = recover(cluster, 20)
    assert recovered.own_checkpoint is not None
    assert recovered.own_checkpoint.height <= 20
    assert recover(cluster, 0).own_checkpoint is None


def test_a_missing_block_is_a_gap(cluster):
    tip_height = recover(cluster).consensus.tip.height
    del table(cluster, ARCHIVE_BLOCK_TABLE)[compute_key(tip_height)]
    with pytest.raises(RecoveryError) as caught:
        recover(cluster)
    assert caught.value.code == "recovery.gap"


def test_a_missing_batch_of_a_delivered_block_is_a_gap(cluster):
    batch_id = newest_with_batches(cluster).batches[0].batch_id
    del cluster.world.disk(0).batches[batch_id]
    with pytest.raises(RecoveryError) as caught:
        recover(cluster, 0)
    assert caught.value.code == "recovery.gap"


def test_another_header_under_the_id_of_a_delivered_batch_is_damage(cluster):
    one, other = (each.batches[0].batch_id for each in delivered_with_batches(cluster)[-2:])
    batches = cluster.world.disk(0).batches
    batches[one] = batches[other]
    with pytest.raises(RecoveryError) as caught:
        recover(cluster, 0)
    assert caught.value.code == "recovery.damaged"


@pytest.fixture
def idle(cluster):
    """Nothing is to be delivered again, so that a start asks for no batch."""
    table(cluster, DELIVERY_TABLE).clear()
    return cluster


def find_acknowledged(cluster) -> dict[int, bytes]:
    """By lane, the newest batch that a certificate with a signature of node 0 names."""
    newest = {}
    for block in recover(cluster).consensus.blocks:
        for tip in block.lanes:
            if 0 in decode_bitmap(tip.signers, 4):
                newest[tip.data.author] = tip.data.batch_id
    return newest


@pytest.mark.parametrize("is_archive_cut", [False, True])
def test_lost_batches_that_were_acknowledged_are_amnesia(idle, is_archive_cut):
    """A power cut may take the newest certificates from the archive: blocks name them too."""
    if is_archive_cut:
        table(idle, CERTIFICATE_TABLE).clear()
    recover(idle)
    idle.world.disk(0).batches.clear()
    with pytest.raises(RecoveryError) as caught:
        recover(idle)
    assert caught.value.code == "recovery.amnesia"


def test_one_lost_batch_suffices_whosever_it_is(idle):
    table(idle, CERTIFICATE_TABLE).clear()
    batches = idle.world.disk(0).batches
    named = find_acknowledged(idle)
    assert 0 in named, "authors acknowledge their own batches"
    assert len(named) >= 2
    for author, batch_id in named.items():
        lost = batches.pop(batch_id)
        with pytest.raises(RecoveryError, match=f"recovery.amnesia: .* of lane {author}"):
            recover(idle)
        batches[batch_id] = lost
    recover(idle)


def test_what_only_others_acknowledged_may_be_missing(idle):
    records = table(idle, CERTIFICATE_TABLE)
    key, value = min(records.items())
    held = decode(AvailabilityCertificate, value)
    data = structs.replace(held.data, sequence=held.data.sequence + 1, batch_id=bytes(32))
    records[key] = encode(structs.replace(held, data=data, signers=encode_bitmap((1, 2), 4)))
    recover(idle)


def test_who_follows_acknowledged_nothing_and_may_start_without_batches(idle):
    disk = idle.world.disk(0)
    disk.batches.clear()
    recover_node(idle.genesis, 0, None, disk, disk, max(disk.engine_snapshots))


@pytest.mark.parametrize(
    "name",
    [
        ARCHIVE_BLOCK_TABLE,
        DELIVERY_TABLE,
        CHECKPOINT_TABLE,
        CERTIFICATE_BY_HEIGHT_TABLE,
        ORDER_SNAPSHOT_TABLE,
        CERTIFICATE_TABLE,
    ],
)
def test_a_damaged_record_is_told_from_a_missing_one(cluster, name):
    records = table(cluster, name)
    records[max(records)] = b"\xc1"
    with pytest.raises(RecoveryError) as caught:
        recover(cluster, 10**6)
    assert caught.value.code == "recovery.damaged"


def test_damaged_evidence_is_not_swallowed(cluster):
    table(cluster, EVIDENCE_TABLE)[bytes(8) + b"DoubleVote"] = b"\xc1"
    with pytest.raises(RecoveryError) as caught:
        recover(cluster)
    assert caught.value.code == "recovery.damaged"


def test_no_more_evidence_is_read_than_there_can_be(cluster, monkeypatch):
    assert COMMITTEE_SIZE_MAX * len(get_args(Evidence)) <= EVIDENCE_RECOVERED_MAX
    table(cluster, EVIDENCE_TABLE)[bytes(8) + b"DoubleVote"] = b"\xc1"
    monkeypatch.setattr("node.recovery.EVIDENCE_RECOVERED_MAX", 0)
    assert recover(cluster).evidence == ()


@pytest.mark.parametrize("field", ["order_state_root", "ledger_root"])
def test_an_order_snapshot_must_restore_to_its_roots(cluster, field):
    records = table(cluster, ORDER_SNAPSHOT_TABLE)
    taken = decode(OrderSnapshot, records[max(records)])
    fields = {name: getattr(taken, name) for name in OrderSnapshot.__struct_fields__}
    records[max(records)] = encode(OrderSnapshot(**(fields | {field: bytes(32)})))
    with pytest.raises(RecoveryError) as caught:
        recover(cluster)
    assert caught.value.code == "recovery.damaged"


# ---- what the core finds out later -----------------------------------------------------------


class _Halts(Watcher):
    def __init__(self) -> None:
        self.codes: list[str] = []

    def on_effect(self, index, effect):
        if isinstance(effect, Halt):
            self.codes.append(effect.code)


def watch_halts(cluster) -> _Halts:
    halts = _Halts()
    cluster.world.observers[:] = [halts]
    return halts


def replay_from_genesis(cluster) -> None:
    cluster.world.disk(0).engine_snapshots.clear()
    cluster.start(0)
    cluster.run(300)


def test_a_replay_with_another_order_root_halts(cluster):
    halts = watch_halts(cluster)
    record = newest_with_batches(cluster)
    changed = DeliveryRecord(record.height, bytes(32), record.batches)
    table(cluster, DELIVERY_TABLE)[compute_key(record.height)] = encode(changed)
    replay_from_genesis(cluster)
    assert halts.codes == ["node.nondeterministic"]
    assert cluster.core(0).step(cluster.world.now_ms, None) == []


def test_a_delivered_batch_that_is_damaged_on_disk_halts(cluster):
    halts = watch_halts(cluster)
    batch_id = newest_with_batches(cluster).batches[0].batch_id
    header, body = cluster.world.disk(0).batches[batch_id]
    cluster.world.disk(0).batches[batch_id] = (header, body[:-1] + bytes([body[-1] ^ 1]))
    replay_from_genesis(cluster)
    assert halts.codes == ["node.stored_batch_invalid"]


def test_an_engine_with_another_result_halts_before_it_signs(cluster):
    halts = watch_halts(cluster)
    votes = cluster.world.disk(0).stores[Store.SAFETY]["state_vote"]
    key = min(votes)
    header = decode(CheckpointHeader, votes[key])
    fields = {name: getattr(header, name) for name in CheckpointHeader.__struct_fields__}
    votes[key] = encode(CheckpointHeader(**(fields | {"market_root": bytes(32)})))
    replay_from_genesis(cluster)
    assert halts.codes == ["state.nondeterministic"]


def test_consensus_hears_of_nothing_before_it_has_started(cluster):
    """Blocks that were committed and not delivered, and certificates that were not archived: the
    lanes learn the certificates again from the blocks, while consensus has yet to begin."""
    delivered_height = 10
    for name in (DELIVERY_TABLE, ORDER_SNAPSHOT_TABLE):
        for key in [key for key in table(cluster, name) if key > compute_key(delivered_height)]:
            del table(cluster, name)[key]
    table(cluster, CERTIFICATE_TABLE).clear()
    recovered = recover(cluster, 0)
    undelivered = [each for each in recovered.blocks if each.record is None]
    assert any(each.block.lanes for each in undelivered)
    core = NodeCore(cluster.config, cluster.genesis, 0, recovered)
    consensus, calls = core._consensus, []
    start, on_payload = consensus.start, consensus.on_payload
    consensus.start = lambda now_ms: calls.append("start") or start(now_ms)
    consensus.on_payload = lambda now_ms: calls.append("payload") or on_payload(now_ms)
    effects = core.start(cluster.world.now_ms)
    assert calls == ["start"]
    written = {
        put.key
        for effect in effects
        if isinstance(effect, Persist)
        for put in effect.puts
        if put.table == BLOCK_ID_TABLE
    }
    assert {each.block_id for each in undelivered} <= written, "the crash may have come between"


class _Work(Watcher):
    """What the restarted core asks of its workers."""

    def __init__(self) -> None:
        self.checks = 0
        self.openings: list[int] = []

    def on_effect(self, index, effect):
        if index == 0 and isinstance(effect, CheckBatch):
            self.checks += 1
        if index == 0 and isinstance(effect, OpenBatches):
            self.openings.append(len(effect.batches))


def test_a_restart_opens_what_it_delivered_in_few_requests_and_checks_none_of_it_again():
    cluster = NodeCluster(2, config=make_config(snapshot_interval_blocks=1000))
    cluster.start()
    cluster.trade(8, 900)
    cluster.run(900)
    cluster.settle()
    cluster.crash(0)
    recovered = recover(cluster, 0)
    assert all(replayed.record is not None for replayed in recovered.blocks)
    delivered = len(recovered.delivered_batches)
    assert delivered > 16
    work = _Work()
    cluster.world.observers.append(work)
    cluster.start(0)
    cluster.settle()
    assert sum(work.openings) == delivered
    assert len(work.openings) <= -(-delivered // OPENED_BATCHES_MAX) + OPENINGS_MAX
    assert work.checks == 0, "everybody's batches were delivered before the crash"


def test_a_node_starts_once(cluster):
    core = NodeCore(cluster.config, cluster.genesis, 0, recover(cluster))
    core.start(0)
    with pytest.raises(AssertionError):
        core.start(0)


@pytest.mark.parametrize(
    "event",
    [
        TimerFired("nobody/tick"),
        TimerFired("node/tick"),
        Signed(Token(Component.NODE, 2**40), bytes(64)),
    ],
    ids=repr,
)
def test_an_event_that_is_nobodys_is_not_swallowed(cluster, event):
    core = NodeCore(cluster.config, cluster.genesis, 0, recover(cluster))
    core.start(0)
    with pytest.raises(ValueError, match=r"nobody|never asked"):
        core.step(1, event)
