"""The archive keeps as many order snapshots as a restart may need, and no more."""

from consensus.effects import Delete, Persist, Put, Store, Token, compute_key
from localnet.sim.disk import NodeDisk
from localnet.sim.nodes import NodeCluster, make_config
from node.recovery import ORDER_SNAPSHOT_TABLE, ORDER_SNAPSHOTS_KEPT, OrderSnapshots
from node.workers.snapshots import SNAPSHOTS_KEPT


def list_heights(cluster: NodeCluster, index: int) -> list[int]:
    table = cluster.world.disk(index).table(Store.ARCHIVE, ORDER_SNAPSHOT_TABLE)
    return sorted(int.from_bytes(key, "big") for key in table)


def count_reached(cluster: NodeCluster, index: int) -> int:
    executed = cluster.core(index).statistics().executed_height
    return sum(height <= executed for height in list_heights(cluster, index))


def test_only_what_the_engine_has_long_passed_goes() -> None:
    kept = OrderSnapshots([10])
    for height in range(20, 10 * ORDER_SNAPSHOTS_KEPT + 1, 10):
        assert kept.add(height, executed_height=height) == ()
    last = 10 * (ORDER_SNAPSHOTS_KEPT + 1)
    assert kept.add(last, executed_height=last - 1) == ()
    expected = Delete(ORDER_SNAPSHOT_TABLE, compute_key(30))
    assert kept.add(last + 10, executed_height=last + 10) == (expected,)


def test_an_engine_that_lags_keeps_every_snapshot_above_it() -> None:
    kept = OrderSnapshots(())
    for height in range(1, 300):
        assert kept.add(height, executed_height=0) == ()
    below = compute_key(299 - ORDER_SNAPSHOTS_KEPT + 1)
    assert kept.add(300, executed_height=299) == (Delete(ORDER_SNAPSHOT_TABLE, below),)


def test_there_are_more_than_the_engine_keeps_states() -> None:
    assert ORDER_SNAPSHOTS_KEPT >= 2 * SNAPSHOTS_KEPT


def test_a_long_run_keeps_few_and_a_restart_from_any_saved_state_finds_its_own() -> None:
    cluster = NodeCluster(5, config=make_config(snapshot_interval_blocks=1))
    cluster.start()
    cluster.trade(20, 2_000)
    cluster.run(2_000)
    for index in cluster.members:
        reached = count_reached(cluster, index)
        assert ORDER_SNAPSHOTS_KEPT <= reached <= ORDER_SNAPSHOTS_KEPT + 1
    assert cluster.lowest_committed() > 3 * ORDER_SNAPSHOTS_KEPT
    cluster.crash(1)
    states = cluster.world.disk(1).engine_snapshots
    assert set(states) <= set(list_heights(cluster, 1))
    del states[max(states)]
    cluster.start(1)
    cluster.run(300)
    cluster.settle()


def test_lives_too_short_for_many_snapshots_leave_no_more_of_them() -> None:
    cluster = NodeCluster(6, config=make_config(snapshot_interval_blocks=3))
    cluster.start()
    cluster.trade(20, 3_000)
    for _ in range(6):
        cluster.run(450)
        cluster.crash(1)
        cluster.run(20)
        cluster.start(1)
    cluster.run(300)
    assert cluster.lowest_committed() > 3 * 2 * ORDER_SNAPSHOTS_KEPT
    assert count_reached(cluster, 1) <= ORDER_SNAPSHOTS_KEPT + 1
    cluster.settle()


def test_a_power_cut_that_takes_a_snapshot_gives_back_what_went_for_it() -> None:
    disk = NodeDisk()
    keys = [compute_key(height) for height in (1, 2, 3)]
    for key in keys[:2]:
        put = Put(ORDER_SNAPSHOT_TABLE, key, b"state")
        disk.apply(Persist(Token("test", 1), Store.ARCHIVE, (put,)))
    last = Put(ORDER_SNAPSHOT_TABLE, keys[2], b"state")
    drop = Delete(ORDER_SNAPSHOT_TABLE, keys[1])
    disk.apply(Persist(Token("test", 2), Store.ARCHIVE, (last,), (drop,)))
    table = disk.table(Store.ARCHIVE, ORDER_SNAPSHOT_TABLE)
    assert sorted(table) == keys[1:]
    disk.lose_archive_tail(1)
    assert sorted(table) == keys[:2]
