"""Crashes: what was available stays available, and nobody contradicts itself."""

import pytest

from consensus.effects import Persist, ServeBatches
from consensus.lane_chain import LanePoint, Link
from consensus.lane_limits import REBROADCAST_BATCHES_MAX, RECHECKS_PENDING_MAX
from consensus.lane_recovery import recover_lanes
from consensus.messages import BatchMessage, LaneRequest


def certify(world, author, count):
    """Propose until `count` batches of a lane are certified at the author."""
    node = world.nodes[author]
    proposed = 0
    while proposed < count:
        proposed += node.propose(b"%d" % proposed)
        world.run(2)
    world.run(100)
    assert node.advanced[node.life, author] == count


@pytest.mark.parametrize("archive_survives", [True, False])
def test_what_was_available_survives_the_kill_of_all_nodes_at_once(make_world, archive_survives):
    world = make_world(4)
    world.boot()
    certify(world, 1, 5)
    for node in world.nodes:
        node.crash()
    world.run(100)
    for node in world.nodes:
        if not archive_survives:
            node.archive.clear()
        node.boot()
    world.run(1000)
    for node in world.nodes:
        assert node.lanes.certified_tips()[1].data.sequence == 5
    world.commit_from(world.nodes[0])
    world.run(500)
    for node in world.nodes:
        assert [node.store[each].body for each in node.delivered[0]] == [
            b"0",
            b"1",
            b"2",
            b"3",
            b"4",
        ]
    world.check_safety()


def test_what_was_available_is_ordered_even_if_its_author_never_returns(make_world):
    world = make_world(4)
    world.boot()
    certify(world, 1, 3)
    for node in world.nodes:
        node.crash()
    for node in world.nodes:
        if node.index != 1:
            node.boot()
    world.run(500)
    assert world.nodes[3].lanes.certified_tips()[1].data.sequence == 3
    world.commit_from(world.nodes[3])
    world.run(500)
    assert all(len(node.delivered) == 1 for node in world.live())


@pytest.mark.parametrize("kill_after_ms", range(0, 16))
def test_an_author_killed_at_any_moment_continues_its_lane_without_contradiction(
    make_world, kill_after_ms
):
    world = make_world(4, seed=kill_after_ms)
    world.boot()
    author = world.nodes[2]
    author.propose(b"before")
    world.run(kill_after_ms)
    author.crash()
    world.run(50)
    author.boot()
    world.run(1000)
    while not author.propose(b"after"):
        world.run(1)
    world.run(1000)
    tips = author.lanes.certified_tips()[2].data
    for node in world.nodes:
        assert node.evidence == []
        assert node.lanes.certified_tips()[2].data == tips
    bodies = [author.store[each].body for each in author.lanes.chain_for(2, tips.batch_id, 0)]
    assert bodies in ([b"before", b"after"], [b"after"])
    world.check_safety()


def test_a_member_that_slept_pulls_the_prefix_that_it_missed(make_world):
    world = make_world(4)
    world.boot()
    sleeper = world.nodes[3]
    sleeper.crash()
    certify(world, 0, 40)
    sleeper.boot()
    world.run(100)
    world.nodes[0].propose(b"new")
    world.run(1000)
    assert any(isinstance(sent.message, LaneRequest) for sent in sleeper.sent)
    tip = sleeper.lanes.certified_tips()[0].data
    assert tip.sequence == 41
    assert len(sleeper.lanes.chain_for(0, tip.batch_id, 0)) == 41


def test_a_committed_block_is_delivered_by_a_member_that_saw_none_of_it(make_world):
    world = make_world(4)
    world.boot()
    sleeper = world.nodes[3]
    sleeper.crash()
    for _ in range(5):
        for author in (0, 1, 2):
            world.nodes[author].propose(b"from %d" % author)
        world.run(50)
        world.commit_from(world.nodes[0])
        world.run(50)
    world.nodes[0].crash()
    sleeper.boot()
    world.run(3000)
    assert len(sleeper.delivered) == len(world.blocks) >= 5
    assert sleeper.delivered == world.nodes[1].delivered


def test_an_author_that_lost_its_disk_continues_after_what_the_others_certified(make_world):
    world = make_world(4)
    world.boot()
    certify(world, 1, 4)
    author = world.nodes[1]
    author.crash()
    author.store.clear()
    author.archive.clear()
    author.boot()
    world.make_block([world.nodes[0].lanes.certified_tips()[1]])
    world.run(1000)
    assert len(author.delivered) == 1
    while not author.propose(b"new"):
        world.run(1)
    world.run(500)
    assert author.lanes.certified_tips()[1].data.sequence == 5
    assert all(node.evidence == [] for node in world.nodes)


def test_a_damaged_stored_batch_is_fetched_again_after_a_restart(make_world):
    world = make_world(4)
    world.boot()
    certify(world, 0, 3)
    node = world.nodes[2]
    node.crash()
    batch_id = next(iter(node.store))
    good = node.store[batch_id]
    node.store[batch_id] = BatchMessage(good.signed_header, b"BAD")
    node.boot()
    world.run(1000)
    world.commit_from(node)
    world.run(1000)
    assert node.store[batch_id] == good
    assert node.alarms == {"lane.stored_batch_invalid": 1}
    assert node.misbehaviour == {}
    assert node.delivered == world.nodes[0].delivered != []


def test_recovery_keeps_what_is_above_the_cursors_and_of_this_epoch(make_keys, chain_id):
    keys = make_keys(4)
    batches = {}
    for sequence, epoch in ((1, 0), (2, 0), (3, 0), (4, 1)):
        message = keys.batch(1, sequence, bytes([sequence]) * 32, b"x", epoch=epoch)
        batches[message.signed_header.header.batch_id(chain_id)] = message
    index = [(batch_id, message.signed_header) for batch_id, message in batches.items()]
    certificates = [keys.certificate(message, (0, 1)) for message in list(batches.values())[:3]]
    recovered = recover_lanes(
        0, {1: LanePoint(1, index[0][0])}, reversed(index), [*reversed(certificates)]
    )
    assert [link.batch_id for link in recovered.links] == [index[1][0], index[2][0]]
    assert all(isinstance(link, Link) and link.is_stored for link in recovered.links)
    assert [each.data.sequence for each in recovered.certificates] == [3]


def test_stored_batches_are_checked_again_a_few_at_a_time(make_world):
    world = make_world(4)
    world.boot()
    certify(world, 0, 3 * RECHECKS_PENDING_MAX)
    node = world.nodes[1]
    node.crash()
    node.boot()
    assert node.lanes.statistics().checks_pending == RECHECKS_PENDING_MAX
    world.run(500)
    tip = node.lanes.certified_tips()[0].data
    assert len(node.lanes.chain_for(0, tip.batch_id, 0)) == 3 * RECHECKS_PENDING_MAX


def test_an_author_repeats_only_its_newest_batches_and_ever_more_slowly(make_world):
    world = make_world(4)
    world.boot()
    for node in world.nodes[1:]:
        node.crash()
    author = world.nodes[0]
    served = []
    carry_out = author.carry_out_one

    def note(effect):
        if isinstance(effect, ServeBatches):
            served.append((world.now_ms, effect))
        carry_out(effect)

    author.carry_out_one = note
    for _ in range(200):
        author.propose(b"x")
        world.run(1)
    assert len(author.store) > REBROADCAST_BATCHES_MAX
    world.run(60_000)
    assert all(len(effect.batch_ids) == REBROADCAST_BATCHES_MAX for _, effect in served)
    assert len({now_ms for now_ms, _ in served}) < 16
    for node in world.nodes[1:]:
        node.boot()
    world.run(10_000)
    assert author.lanes.certified_tips()[0].data.sequence == len(author.store)


def test_archived_certificates_share_writes_and_only_the_newest_is_kept(make_world):
    world = make_world(4)
    world.boot()
    node = world.nodes[0]
    writes = []
    carry_out = node.carry_out_one

    def note(effect):
        if isinstance(effect, Persist):
            writes.append(effect)
        carry_out(effect)

    node.carry_out_one = note
    for _ in range(300):
        for author in world.nodes:
            author.propose(b"x")
        world.run(1)
    assert len(writes) <= 1 + 300 // world.config.tick_ms
    assert len(node.archive) == 4
