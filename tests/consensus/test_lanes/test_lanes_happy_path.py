"""Batches are spread, certified, committed and delivered while nothing goes wrong."""

from itertools import pairwise

import pytest

from consensus.effects import SignIdentity, StoreBatch
from consensus.messages import Ack, BatchMessage, LaneCertificate


@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_a_batch_is_certified_committed_and_delivered_everywhere(make_world, size):
    world = make_world(size)
    world.boot()
    world.nodes[0].propose(b"first")
    world.run(200)
    for node in world.nodes:
        assert node.lanes.certified_tips()[0].data.sequence == 1
        assert node.advanced[node.life, 0] == 1
    world.commit_from(world.nodes[-1])
    world.run(200)
    for node in world.nodes:
        assert len(node.delivered) == 1
        assert [node.store[each].body for each in node.delivered[0]] == [b"first"]
        assert node.lanes.certified_tips() == {}
    world.check_safety()


def test_a_world_with_nothing_left_to_do_falls_silent(make_world):
    world = make_world(4)
    world.boot()
    world.nodes[2].propose(b"only")
    world.run(200)
    world.commit_from(world.nodes[0])
    world.run(2000)
    assert world.is_quiet()
    assert not any(node.misbehaviour for node in world.nodes)


def test_a_batch_is_durable_before_it_is_broadcast(make_world):
    world = make_world(4)
    world.boot()
    author = world.nodes[1]
    author.propose(b"x")
    while not any(isinstance(sent.message, BatchMessage) for sent in author.sent):
        assert len(author.store) == 0
        world.run(1)
    assert len(author.store) == 1


def test_own_batches_are_signed_and_stored_one_at_a_time(make_world):
    world = make_world(4)
    world.boot()
    lanes = world.nodes[0].lanes
    [sign] = lanes.propose_batch(0, b"a")
    assert isinstance(sign, SignIdentity)
    assert not lanes.can_propose()


def test_acknowledgements_cost_one_signature_an_interval_not_one_a_batch(make_world):
    world = make_world(4)
    world.boot()
    author = world.nodes[0]
    proposed = 0
    for _ in range(200):
        proposed += author.propose(b"load")
        world.run(1)
    world.run(100)
    assert proposed > 20
    for node in world.nodes[1:]:
        acks = [sent for sent in node.sent if isinstance(sent.message, Ack)]
        assert len(acks) <= 300 // world.config.ack_interval_ms
        assert node.lanes.certified_tips()[0].data.sequence == proposed


def test_certificates_form_steadily_under_load_in_a_large_committee(make_world):
    world = make_world(31)
    world.latency_ms = (1, 30)
    world.boot()
    author = world.nodes[0]
    progress = []
    for _ in range(60):
        for _ in range(5):
            author.propose(b"load")
            world.run(2)
        progress.append(author.advanced.get((author.life, 0), 0))
    stalls = sum(1 for before, after in pairwise(progress[10:]) if before == after)
    assert stalls < 15
    world.run(500)
    assert author.lanes.certified_tips()[0].data.sequence == author.lanes._author.newest.sequence
    assert any(isinstance(sent.message, LaneCertificate) for sent in author.sent)


def test_nothing_is_stored_twice(make_world):
    world = make_world(4)
    stored = []
    for node in world.nodes:
        carry_out = node.carry_out_one

        def count(effect, node=node, carry_out=carry_out):
            if isinstance(effect, StoreBatch):
                stored.append((node.index, effect.batch_id))
            carry_out(effect)

        node.carry_out_one = count
    world.boot()
    for _ in range(50):
        world.rng.choice(world.nodes).propose(b"x")
        world.run(3)
    assert len(stored) == len(set(stored))
