"""A node that follows: it executes and serves the chain, and signs nothing, whatever it is told."""

from consensus.effects import Misbehaviour, Sign, SignIdentity, Store
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.watchers import Watcher
from node.events import EnvelopesSubmitted, SubmitReply
from node.recovery import CHECKPOINT_TABLE, recover_node

FOLLOWER = 3


class Watch(Watcher):
    """What the follower does."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.seen = []

    def on_effect(self, index, effect):
        if index == self.index:
            self.seen.append(effect)

    def of(self, *kinds):
        return [each for each in self.seen if isinstance(each, kinds)]


def make_cluster(seed, **options):
    cluster = NodeCluster(seed, followers=(FOLLOWER,), **options)
    watch = Watch(FOLLOWER)
    cluster.world.observers += (watch,)
    return cluster, watch


def own_checkpoints(cluster, index):
    return cluster.world.disk(index).table(Store.ARCHIVE, CHECKPOINT_TABLE)


def test_a_follower_comes_to_the_same_roots_and_signs_nothing():
    cluster, watch = make_cluster(1)
    cluster.start()
    cluster.trade(40, 1_000)
    cluster.run(1_000)
    cluster.crash(FOLLOWER)
    cluster.run(300)
    cluster.start(FOLLOWER)
    cluster.settle()
    cluster.run(3_000)
    ours, theirs = own_checkpoints(cluster, FOLLOWER), own_checkpoints(cluster, 0)
    assert len(ours) > 10
    assert not {key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]}
    assert cluster.core(FOLLOWER).certified_height > 20
    assert cluster.lowest_committed() - cluster.core(FOLLOWER).committed_height < 5
    assert not watch.of(Sign, SignIdentity)
    assert not watch.of(Misbehaviour)
    assert not any(cluster.world.disk(FOLLOWER).stores[Store.SAFETY].values())


def test_a_follower_takes_no_orders():
    cluster, watch = make_cluster(3)
    cluster.start()
    cluster.run(500)
    envelope = cluster.make_envelope(cluster.accounts[0], [])
    cluster.world.tell(FOLLOWER, EnvelopesSubmitted(FOLLOWER, 1, (envelope,)))
    cluster.run(100)
    (reply,) = watch.of(SubmitReply)
    assert [each.code for each in reply.results] == ["node.follows"]


def test_a_member_that_lost_its_memory_follows_without_a_word_against_it_or_by_it():
    """Its earlier votes stand in certificates, and its earlier batches in lanes."""
    cluster = NodeCluster(4, guilty=(FOLLOWER,))
    cluster.start()
    cluster.trade(40, 800)
    cluster.run(800)
    cluster.crash(FOLLOWER)
    watch = Watch(FOLLOWER)
    cluster.world.observers += (watch,)
    cluster.wipe(FOLLOWER)
    cluster.start(FOLLOWER)
    cluster.trade(40, 500)
    cluster.run(10_000)
    theirs = own_checkpoints(cluster, 0)
    ours = own_checkpoints(cluster, FOLLOWER)
    assert len(ours) > 10
    assert not {key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]}
    assert not watch.of(Sign, SignIdentity, Misbehaviour)


def test_following_is_asked_for_and_never_the_way_of_a_home_whose_records_are_empty():
    cluster = NodeCluster(5)
    disk = cluster.world.disk(0)
    first = recover_node(cluster.genesis, 0, {}, disk, disk, 0)
    follower = recover_node(cluster.genesis, 0, None, disk, disk, 0)
    assert first.consensus.is_first_start
    assert not follower.consensus.is_first_start
