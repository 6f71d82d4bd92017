"""Whole nodes in a deterministic world: whatever fails, one order, one result, promises kept.

`NodeCluster.settle` ends every scenario: it brings all nodes up, waits until everything is
ordered, executed and certified everywhere, asks every oracle for its last word, checks that money
is conserved, and replays the archived chain from genesis.
"""

import random

import msgspec
import pytest

from consensus.chain import ARCHIVE_BLOCK_TABLE
from consensus.effects import Store, compute_key
from engine.instructions import PlaceOrder, Side
from localnet.sim.links import Cut, Scope
from localnet.sim.node_world import NodeConditions
from localnet.sim.nodes import EXPIRY_HEIGHTS, NodeCluster, make_config
from localnet.sim.oracles.watchers import Watcher
from localnet.sim.traders import BASE_PRICE_TICKS, MARKET
from node.events import DeliveredNotice, OpaqueReply
from node.protocol import ReceiptLevel
from node.recovery import ORDER_SNAPSHOT_TABLE


class _Opaque(Watcher):
    """Counts opaque transactions that one node accepted from clients and delivered."""

    def __init__(self) -> None:
        self.accepted = 0
        self.delivered: dict[int, int] = {}

    def on_effect(self, index, effect):
        match effect:
            case OpaqueReply(_, _, count, _):
                self.accepted += count
            case DeliveredNotice(_, _, _, opaque):
                total = sum(count for _, count, _ in opaque)
                self.delivered[index] = self.delivered.get(index, 0) + total
            case _:
                pass


def test_every_node_delivers_and_executes_everything_once():
    cluster = NodeCluster(1)
    opaque = _Opaque()
    cluster.world.observers.append(opaque)
    cluster.start()
    cluster.trade(15, 2000)
    cluster.run(2000)
    cluster.settle()
    assert cluster.order.fills > 50
    lasting = {each for each, height in cluster.expiries.items() if height == EXPIRY_HEIGHTS}
    assert lasting <= cluster.order.passed.keys()
    for index in cluster.members:
        for envelope_id, level in cluster.promises.levels[index].items():
            if level is not ReceiptLevel.EXECUTED:
                # Expired on its way; whoever took it says so, to others it stays available.
                assert envelope_id not in lasting
                assert level in (ReceiptLevel.REFUSED, ReceiptLevel.AVAILABLE)
        assert opaque.delivered[index] == opaque.accepted > 0


def test_the_same_seed_gives_the_same_run():
    def run() -> str:
        cluster = NodeCluster(5)
        cluster.start()
        cluster.trade(20, 600)
        cluster.run(400)
        cluster.crash(1)
        cluster.run(200)
        cluster.settle()
        return cluster.world.trace_hash

    assert run() == run()


def test_one_node_down_stops_nobody():
    cluster = NodeCluster(2)
    cluster.start(0, 1, 3)
    cluster.trade(20, 1500)
    cluster.run(1500)
    assert len(cluster.order.passed) > 20
    cluster.settle()


@pytest.mark.parametrize("seed", range(3))
def test_each_node_in_turn_crashes_and_comes_back(seed: int):
    cluster = NodeCluster(seed)
    cluster.start()
    cluster.trade(20, 2500)
    for index in cluster.members:
        cluster.run(300)
        cluster.crash(index)
        cluster.run(250)
        cluster.start(index)
    cluster.settle()


@pytest.mark.parametrize("seed", range(12))
def test_all_nodes_crash_at_once_and_keep_their_promises(seed: int):
    cluster = NodeCluster(seed)
    moments = random.Random(seed)
    cluster.start()
    cluster.trade(12, 1200)
    for _ in range(3):
        cluster.run(moments.randint(1, 400))
        cluster.crash()
        cluster.run(moments.randint(0, 100))
        cluster.start()
    cluster.settle()
    assert cluster.promises.available


def test_seven_nodes_go_on_with_two_down():
    cluster = NodeCluster(3, 7)
    cluster.start()
    cluster.trade(25, 1000)
    cluster.run(250)
    cluster.crash(1, 4)
    cluster.run(1000)
    cluster.settle()


@pytest.mark.parametrize("seed", range(2))
def test_a_network_that_loses_and_doubles_messages_changes_no_result(seed: int):
    conditions = NodeConditions(drop_permille=80, duplicate_permille=100)
    cluster = NodeCluster(seed, conditions=conditions)
    cluster.start()
    cluster.trade(25, 1500)
    cluster.run(1700)
    conditions.drop_permille = 0
    cluster.settle()


def test_a_long_absent_node_catches_up_in_everything():
    cluster = NodeCluster(4)
    cluster.start()
    cluster.trade(20, 4000)
    cluster.run(200)
    cluster.crash(2)
    cluster.run(3800)
    cluster.start(2)
    cluster.settle()


@pytest.mark.parametrize("seed", range(4))
def test_a_power_loss_takes_the_archive_tail_and_nothing_else(seed: int):
    """Safety records and batches are synced, the archive's newest writes are not."""
    cluster = NodeCluster(seed, config=make_config(snapshot_interval_blocks=5))
    cluster.start()
    cluster.trade(20, 2500)
    for index in cluster.members:
        cluster.run(500)
        cluster.world.lose_power(index, cluster.world.random.randint(1, 200))
        cluster.run(100)
        cluster.start()
    cluster.settle()


@pytest.mark.parametrize("seed", range(4))
def test_a_power_loss_on_all_nodes_is_survived(seed: int):
    cluster = NodeCluster(seed, config=make_config(snapshot_interval_blocks=5))
    cluster.start()
    cluster.trade(20, 1500)
    cluster.run(800)
    for index in cluster.members:
        cluster.world.lose_power(index, cluster.world.random.randint(1, 150))
    cluster.start()
    cluster.run(700)
    cluster.settle()


def test_all_nodes_lose_power_and_everything_that_no_sync_kept():
    """Nothing bounds how much of the archive a power cut takes back but what the node itself had
    synced before it dropped safety records: without that, the blocks in between are nowhere."""
    cluster = NodeCluster(3, config=make_config(snapshot_interval_blocks=1_000))
    cluster.start()
    cluster.trade(20, 20_000)
    assert cluster.run_until(lambda: cluster.lowest_committed() > 150, 20_000)
    for index in cluster.members:
        cluster.world.lose_power(index, 100_000)
        assert not cluster.world.disk(index).archive_log
    cluster.start()
    cluster.stop_trading()
    cluster.run(3_000)
    cluster.settle()
    assert cluster.lowest_committed() > 150


def test_an_engine_ahead_of_the_archive_waits_for_the_chain_to_reach_it():
    cluster = NodeCluster(6)
    cluster.start()
    cluster.trade(20, 1500)
    cluster.run(700)
    cluster.world.stop(1)
    disk = cluster.world.disk(1)
    engine_height = max(disk.engine_snapshots)
    archived = disk.table(Store.ARCHIVE, ARCHIVE_BLOCK_TABLE)
    while compute_key(engine_height - 5) in archived:
        disk.lose_archive_tail(1)
    cluster.start(1)
    cluster.run(800)
    cluster.settle()


@pytest.mark.parametrize("is_lost_whole", [False, True])
def test_an_engine_behind_the_order_snapshot_repeats_from_further_back(is_lost_whole: bool):
    cluster = NodeCluster(7, config=make_config(snapshot_interval_blocks=6))
    cluster.start()
    cluster.trade(20, 1500)
    cluster.run(900)
    cluster.crash(1)
    snapshots = cluster.world.disk(1).engine_snapshots
    if is_lost_whole:
        snapshots.clear()
    else:
        del snapshots[max(snapshots)]
    cluster.run(100)
    cluster.start(1)
    cluster.run(500)
    cluster.settle()


@pytest.mark.parametrize("seed", range(3))
def test_a_snapshot_at_every_height_agrees_with_every_moment_of_a_crash(seed: int):
    cluster = NodeCluster(seed, config=make_config(snapshot_interval_blocks=1))
    moments = random.Random(seed)
    cluster.start()
    cluster.trade(20, 1200)
    for _ in range(6):
        cluster.run(moments.randint(20, 250))
        index = moments.randrange(4)
        cluster.crash(index)
        cluster.run(moments.randint(1, 60))
        cluster.start(index)
    cluster.settle()


def test_a_stop_in_order_resumes_where_it_stopped():
    cluster = NodeCluster(8)
    cluster.start()
    cluster.trade(20, 1000)
    cluster.run(1000)
    for index in cluster.members:
        cluster.world.stop(index)
    cluster.start()
    for index in cluster.members:
        statistics = cluster.core(index).statistics()
        assert statistics.executed_height == max(cluster.world.disk(index).engine_snapshots)
    cluster.settle()


def test_slow_engines_stop_new_orders_and_nothing_else():
    limit = 8
    cluster = NodeCluster(9, config=make_config(execution_lag_max_blocks=limit))
    cluster.start()
    cluster.trade(20, 3000)
    cluster.run(300)
    usual_ms = cluster.world.node_conditions.engine_ms
    cluster.world.node_conditions.engine_ms = (400, 500)
    height = cluster.lowest_committed()
    cluster.run(2700)
    blocks = {height: block for height, (_, block) in cluster.order.blocks.items()}
    above = [blocks[each] for each in sorted(blocks) if each > height]
    assert len(above) > limit
    assert any(not block.lanes for block in above), "at the limit blocks are empty"
    certified = 0
    for each in sorted(blocks):
        certificate = blocks[each].state_certificate
        certified = certificate.header.height if certificate else certified
        assert not blocks[each].lanes or each - certified <= limit
    cluster.world.node_conditions.engine_ms = usual_ms
    cluster.settle()


def test_a_node_with_a_slow_engine_holds_little_and_catches_up():
    config = msgspec.structs.replace(
        make_config(),
        queued_blocks_max=30,
        queued_loaded_blocks_max=10,
        execution_ahead_max=4,
    )
    cluster = NodeCluster(10, config=config)
    cluster.start()
    cluster.trade(20, 3000)
    cluster.world.hosts[2].engine_ms = (150, 250)
    has_been_behind = False
    for _ in range(100):
        cluster.run(30)
        statistics = cluster.core(2).statistics()
        has_been_behind |= statistics.is_catching_up
        waiting = statistics.delivered_height - statistics.executed_height
        assert waiting <= config.execution_ahead_max
        # What is in the tree and one sync response may come on top.
        assert statistics.queued_blocks <= config.queued_blocks_max + 80
    assert has_been_behind
    cluster.world.hosts[2].engine_ms = None
    cluster.settle()


@pytest.mark.parametrize("seed", range(3))
def test_a_full_queue_after_an_absence_is_worked_off_in_portions(seed: int):
    config = msgspec.structs.replace(
        make_config(), queued_loaded_blocks_max=3, execution_ahead_max=1
    )
    cluster = NodeCluster(seed, config=config)
    cluster.start()
    cluster.trade(25, 2000)
    cluster.run(200)
    cluster.crash(0)
    cluster.run(1500)
    cluster.start(0)
    cluster.settle()


def test_an_envelope_at_two_nodes_is_executed_once_and_refused_nowhere():
    cluster = NodeCluster(11)
    cluster.start()
    cluster.run(100)
    for _ in range(20):
        order = PlaceOrder(MARKET, Side.BUY, BASE_PRICE_TICKS, 1)
        cluster.submit(cluster.make_envelope(cluster.accounts[0], [order]), 0, 1, 2)
        cluster.run(15)
    cluster.settle()
    assert len(cluster.order.passed) == 20
    assert not cluster.promises.refused


def test_an_expired_envelope_is_refused_by_the_node_that_took_it():
    cluster = NodeCluster(12)
    cluster.start()
    cluster.run(300)
    # The batch is made in time, and acknowledged too late.
    cluster.world.rules = [Cut(Scope(kinds=frozenset({"batch"})))]
    height = cluster.lowest_committed()
    order = PlaceOrder(MARKET, Side.BUY, BASE_PRICE_TICKS, 1)
    envelope = cluster.make_envelope(cluster.accounts[0], [order], expiry_height=height + 3)
    cluster.submit(envelope, 0)
    cluster.run(1500)
    cluster.world.rules = []
    cluster.settle()
    (envelope_id,) = cluster.expiries
    assert envelope_id in cluster.order.ordered
    assert envelope_id not in cluster.order.passed
    assert cluster.promises.refused == {envelope_id: "envelope.expired"}
    assert cluster.promises.levels[0][envelope_id] is ReceiptLevel.REFUSED


@pytest.mark.parametrize("seed", range(3))
def test_a_node_without_its_archive_starts_over_from_the_others(seed: int):
    """The whole archive of one node is lost: it starts over from the others and its batches."""
    cluster = NodeCluster(seed)
    cluster.start()
    cluster.trade(25, 1500)
    cluster.run(700)
    cluster.crash(3)
    disk = cluster.world.disk(3)
    disk.stores[Store.ARCHIVE].clear()
    disk.archive_log.clear()
    cluster.start(3)
    cluster.run(800)
    cluster.settle()


def test_a_node_that_is_killed_again_and_again_comes_forward_on_a_slow_chain():
    """A slow chain takes many lives for the heights between two saved states; what it takes in
    time is saved as well."""
    config = make_config(snapshot_interval_blocks=1_000_000, snapshot_interval_ms=1_000)
    cluster = NodeCluster(3, config=config)
    cluster.start()
    cluster.trade(20, 7_500)
    saved = [0]
    for _ in range(4):
        cluster.run(1_700)
        cluster.crash(1)
        saved.append(max(cluster.world.disk(1).engine_snapshots, default=0))
        cluster.run(50)
        cluster.start(1)
    assert sorted(set(saved)) == saved, "every life begins above the one before"
    cluster.settle()
    orders = cluster.world.disk(1).table(Store.ARCHIVE, ORDER_SNAPSHOT_TABLE)
    assert {compute_key(height) for height in saved[1:]} <= set(orders)
