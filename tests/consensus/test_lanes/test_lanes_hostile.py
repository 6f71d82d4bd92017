"""Byzantine members: nothing they send grows memory without bound or breaks an honest lane."""

import pytest

from consensus.effects import (
    Aggregate,
    BatchStored,
    CheckBatch,
    Received,
    Send,
    StoreBatch,
    Verified,
    Verify,
)
from consensus.lane_limits import LanesConfig
from consensus.messages import (
    BATCHES_MAX_PER_REQUEST,
    Ack,
    BatchMessage,
    BatchRequest,
    LaneCertificate,
    LaneRequest,
)
from consensus.types import AvailabilityCertificate
from crypto.digest import ZERO_DIGEST


@pytest.fixture
def honest(make_world):
    """A world in which member 3 is a puppet, and its honest node 0."""
    world = make_world(4)
    world.puppets = {3}
    world.boot()
    return world, world.nodes[0]


def chain_of(keys, author, length, chain_id, body=b"x"):
    """A lane of this length by its author."""
    messages = []
    parent = ZERO_DIGEST
    for sequence in range(1, length + 1):
        messages.append(keys.batch(author, sequence, parent, body))
        parent = messages[-1].signed_header.header.batch_id(chain_id)
    return messages


def receive(node, sender, *messages):
    """Hand messages over without carrying out what follows."""
    effects = []
    for message in messages:
        effects += node.lanes.step(node.world.now_ms, Received(sender, message))
    return effects


def test_checks_of_one_author_are_bounded(honest, chain_id):
    world, node = honest
    receive(node, 3, *chain_of(world.keys, 3, 300, chain_id))
    assert node.lanes.statistics().checks_pending == world.config.checks_pending_max_per_author


def test_batches_far_ahead_of_the_cursor_are_not_stored(honest, chain_id):
    world, node = honest
    config = world.config
    for message in chain_of(world.keys, 3, config.uncommitted_batches_max + 50, chain_id):
        world.send(3, 0, message)
        world.run(3)
    assert node.lanes.statistics().links == config.uncommitted_batches_max
    assert len(node.store) == config.uncommitted_batches_max


def test_uncommitted_bytes_of_one_author_are_bounded(make_world, chain_id):
    world = make_world(4, config=LanesConfig(uncommitted_size_max_bytes=1000))
    world.puppets = {3}
    world.boot()
    effects = receive(world.nodes[0], 3, *chain_of(world.keys, 3, 30, chain_id, bytes(100)))
    assert sum(isinstance(effect, StoreBatch) for effect in effects) == 10


def test_an_honest_author_waits_for_commits_instead_of_overrunning_the_others(make_world):
    world = make_world(4, config=LanesConfig(own_backlog_batches_max=5))
    world.boot()
    node = world.nodes[0]
    for _ in range(200):
        node.propose(b"x")
        world.run(2)
    assert len(node.store) == 5
    assert not node.lanes.can_propose()
    world.commit_from(node)
    world.run(100)
    assert node.lanes.can_propose()


def test_an_honest_author_waits_when_its_uncommitted_bytes_are_too_many(make_world):
    world = make_world(4, config=LanesConfig(own_backlog_size_max_bytes=100))
    world.boot()
    node = world.nodes[0]
    assert node.propose(bytes(100))
    world.run(50)
    assert not node.lanes.can_propose()


def test_a_batch_from_anybody_but_its_author_is_ignored_unless_wanted(honest):
    world, node = honest
    batch = world.keys.batch(2, 1, ZERO_DIGEST, b"x")
    assert receive(node, 3, batch) == []
    assert node.lanes.statistics().links == 0


@pytest.mark.parametrize("sequence", [0, 1, 2])
def test_a_malformed_batch_costs_nothing_but_its_senders_name(honest, sequence):
    world, node = honest
    parent = ZERO_DIGEST if sequence != 1 else bytes([1]) * 32
    world.send(3, 0, world.keys.batch(3, sequence, parent, b"x"))
    world.run(10)
    assert node.misbehaviour == {(3, "lane.batch_malformed"): 1}
    assert node.lanes.statistics().links == 0


def test_a_batch_with_a_wrong_size_or_a_foreign_epoch_or_author_is_refused(honest):
    world, node = honest
    good = world.keys.batch(3, 1, ZERO_DIGEST, b"x")
    world.send(3, 0, BatchMessage(good.signed_header, b"xx"))
    world.send(3, 0, world.keys.batch(3, 1, ZERO_DIGEST, b"x", epoch=1))
    world.send(3, 0, world.keys.batch(77, 1, ZERO_DIGEST, b"x", signature=bytes(64)))
    world.run(10)
    assert node.misbehaviour == {(3, "lane.batch_malformed"): 2}
    assert node.store == {}


def test_an_invalid_envelope_is_never_acknowledged_and_ends_direct_reception(honest, chain_id):
    world, node = honest
    first, *_ = chain_of(world.keys, 3, 1, chain_id, b"BAD")
    world.send(3, 0, first)
    world.run(50)
    world.send(3, 0, world.keys.batch(3, 1, ZERO_DIGEST, b"good now"))
    world.run(50)
    assert node.misbehaviour == {(3, "batch.envelope_invalid"): 1}
    assert not any(isinstance(sent.message, Ack) for sent in node.sent)
    assert node.lanes.statistics().links == 0


def test_two_batches_at_one_sequence_convict_their_author_and_only_the_first_counts(honest):
    world, node = honest
    one, other, third = (world.keys.batch(3, 1, ZERO_DIGEST, body) for body in (b"1", b"2", b"3"))
    world.send(3, 0, one)
    world.run(50)
    world.send(3, 0, other)
    world.run(50)
    world.send(3, 0, third)
    world.run(50)
    [(offender, evidence)] = node.evidence
    assert offender == 3
    assert {evidence.first, evidence.second} == {one.signed_header, other.signed_header}
    assert len(node.store) == 1
    world.check_safety()


def test_an_unsigned_rival_convicts_nobody(honest):
    world, node = honest
    world.send(3, 0, world.keys.batch(3, 1, ZERO_DIGEST, b"1"))
    world.run(50)
    world.send(3, 0, world.keys.batch(3, 1, ZERO_DIGEST, b"2", signature=bytes(64)))
    world.run(50)
    assert node.evidence == []
    assert node.misbehaviour == {(3, "batch.signature_invalid"): 1}


def test_rivals_of_one_author_are_checked_one_at_a_time(honest):
    world, node = honest
    messages = [world.keys.batch(3, 1, ZERO_DIGEST, b"%d" % index) for index in range(20)]
    effects = receive(node, 3, *messages)
    assert sum(isinstance(effect, CheckBatch) for effect in effects) == 2


def test_a_fork_seen_through_a_certificate_stops_acknowledgements_even_after_a_restart(
    honest, chain_id
):
    world, node = honest
    keys = world.keys
    one, other = (keys.batch(3, 1, ZERO_DIGEST, body) for body in (b"1", b"2"))
    world.send(3, 0, one)
    world.run(50)
    other_id = other.signed_header.header.batch_id(chain_id)
    world.nodes[1].store[other_id] = other
    world.send(3, 0, LaneCertificate(keys.certificate(other, (1, 2))))
    world.run(1000)
    assert other_id in node.store
    one_id = one.signed_header.header.batch_id(chain_id)
    assert world.acked[0, 3, 1] == {one_id}
    for _ in range(2):
        for parent in (one_id, other_id):
            world.send(3, 0, keys.batch(3, 2, parent, b"after"))
            world.run(100)
        node.crash()
        node.boot()
        world.run(1000)
    assert (0, 3, 2) not in world.acked
    world.check_safety()
    assert {offender for offender, _ in node.evidence} == {3}


def test_a_copy_that_an_author_planted_is_passed_on_to_nobody(honest, chain_id):
    world, node = honest
    good = world.keys.batch(3, 1, ZERO_DIGEST, b"x")
    broken = world.keys.batch(3, 1, ZERO_DIGEST, b"x", signature=bytes(64))
    batch_id = good.signed_header.header.batch_id(chain_id)
    requests = (BatchRequest((batch_id,)), LaneRequest(batch_id, 0))
    checks = receive(node, 3, broken)
    assert receive(node, 1, *requests) == [], "its check is not done"
    node.carry_out(checks)
    world.run(50)
    assert node.misbehaviour == {(3, "batch.signature_invalid"): 1}
    assert batch_id in node.store
    assert receive(node, 1, *requests) == [], "its check has failed"
    world.nodes[2].store[batch_id] = good
    world.nodes[2].crash()
    world.nodes[2].boot()
    world.make_block([world.keys.certificate(good, (2, 3))])
    world.run(3000)
    assert node.store[batch_id] == good
    assert [effect.batch_ids for effect in receive(node, 1, *requests)] == [(batch_id,)] * 2


def test_a_planted_copy_that_becomes_durable_late_does_not_count_as_the_sound_one(honest, chain_id):
    world, node = honest
    writes = []
    node.store_batch = writes.append
    good = world.keys.batch(3, 1, ZERO_DIGEST, b"x")
    broken = world.keys.batch(3, 1, ZERO_DIGEST, b"x", signature=bytes(64))
    batch_id = good.signed_header.header.batch_id(chain_id)
    world.nodes[2].store[batch_id] = good
    world.nodes[2].crash()
    world.nodes[2].boot()
    world.send(3, 0, broken)
    world.run(50)
    world.make_block([world.keys.certificate(good, (2, 3))])
    world.run(3000)
    assert [write.signed_header for write in writes] == [broken.signed_header, good.signed_header]

    def finish(write):
        node.store[batch_id] = BatchMessage(write.signed_header, write.body)
        node.handle(node.life, BatchStored(write.token))

    finish(writes[0])
    assert node.delivered == [], "a crash now would leave the planted copy"
    assert receive(node, 1, BatchRequest((batch_id,))) == []
    finish(writes[1])
    assert node.delivered == [(batch_id,)]
    assert len(receive(node, 1, BatchRequest((batch_id,)))) == 1


def test_a_responder_cannot_plant_a_copy_with_a_broken_signature(make_world, chain_id):
    world = make_world(4)
    world.puppets = {1}
    world.boot()
    keys = world.keys
    good = keys.batch(2, 1, ZERO_DIGEST, b"x")
    batch_id = good.signed_header.header.batch_id(chain_id)
    broken = keys.batch(2, 1, ZERO_DIGEST, b"x", signature=bytes(64))
    assert broken.signed_header.header.batch_id(chain_id) == batch_id
    node = world.nodes[0]
    world.nodes[3].store[batch_id] = good
    world.make_block([keys.certificate(good, (1, 3))])
    world.run(10)
    [request] = [sent for sent in node.sent if isinstance(sent.message, BatchRequest)]
    assert request.to == (1,)
    world.send(1, 0, broken)
    world.run(3000)
    assert node.store[batch_id] == good
    assert node.delivered == [(batch_id,)]
    assert node.misbehaviour == {(1, "batch.signature_invalid"): 1}


def test_silent_and_lying_signers_only_delay_a_fetch(make_world, chain_id):
    world = make_world(7)
    world.puppets = {1, 2}
    world.boot()
    messages = chain_of(world.keys, 1, 40, chain_id)
    for message in messages:
        world.nodes[5].store[message.signed_header.header.batch_id(chain_id)] = message
    world.make_block([world.keys.certificate(messages[-1], (1, 2, 5))])
    world.run(60_000)
    for index in (0, 3, 4, 6):
        assert [len(ids) for ids in world.nodes[index].delivered] == [40]


def test_an_acknowledgement_in_anothers_name_or_for_an_unknown_batch_is_refused(honest):
    world, node = honest
    node.propose(b"x")
    world.run(1)
    keys = world.keys
    unknown = keys.batch(0, 1, ZERO_DIGEST, b"never proposed")
    world.send(3, 0, keys.ack(1, unknown))
    world.send(3, 0, keys.ack(3, unknown))
    world.send(3, 0, keys.ack(3, keys.batch(1, 1, ZERO_DIGEST, b"another's lane")))
    world.run(10)
    assert node.misbehaviour == {(3, "lane.ack_forged"): 2, (3, "lane.ack_mismatch"): 1}
    assert node.lanes.statistics().acks_pending <= 1


def test_a_poisoned_acknowledgement_costs_one_round_and_its_sender_is_heard_no_more(honest):
    world, node = honest
    keys = world.keys
    for member in (1, 2):
        world.nodes[member].crash()
    node.propose(b"x")
    world.run(20)
    [batch] = node.store.values()
    good = keys.ack(3, batch)
    world.send(3, 0, Ack(good.data, 3, keys.ack(1, batch).signature))
    world.run(20)
    assert node.misbehaviour == {(3, "lane.ack_invalid"): 1}
    world.send(3, 0, good)
    world.run(20)
    assert node.lanes.certified_tips() == {}
    for member in (1, 2):
        world.nodes[member].boot()
    world.run(2000)
    assert node.lanes.certified_tips()[0].data.sequence == 1


def test_certificates_under_verification_are_bounded_for_each_sender(honest, chain_id):
    world, node = honest
    certificates = [
        LaneCertificate(world.keys.certificate(message, (1, 2)))
        for message in chain_of(world.keys, 3, 50, chain_id)
    ]
    effects = receive(node, 3, *certificates)
    [verify] = [effect for effect in effects if isinstance(effect, Verify)]
    assert node.lanes.statistics().certificates_pending == 2
    effects = node.lanes.step(0, Verified(verify.token, (True,)))
    [verify] = [effect for effect in effects if isinstance(effect, Verify)]
    assert node.lanes.step(0, Verified(verify.token, (True,)))
    assert node.lanes.certified_tips()[3].data.sequence == 50


def test_a_certificate_below_honest_power_or_with_a_bad_bitmap_is_not_even_verified(honest):
    world, node = honest
    batch = world.keys.batch(3, 1, ZERO_DIGEST, b"x")
    good = world.keys.certificate(batch, (1, 2))
    weak = world.keys.certificate(batch, (1,))
    stray_bit = AvailabilityCertificate(good.data, b"\xf0", good.signature)
    long = AvailabilityCertificate(good.data, good.signers + b"\x00", good.signature)
    for certificate in (weak, stray_bit, long):
        world.send(3, 0, LaneCertificate(certificate))
    world.run(50)
    assert node.misbehaviour == {(3, "lane.certificate_malformed"): 3}
    assert node.lanes.statistics().certificates_pending == 0
    assert node.lanes.certified_tips() == {}


def test_a_forged_certificate_is_refused_and_its_sender_heard_no_more(honest):
    world, node = honest
    batch = world.keys.batch(3, 1, ZERO_DIGEST, b"x")
    good = world.keys.certificate(batch, (1, 2))
    world.send(3, 0, LaneCertificate(AvailabilityCertificate(good.data, b"\x0e", good.signature)))
    world.run(50)
    assert node.misbehaviour == {(3, "lane.certificate_invalid"): 1}
    world.send(3, 0, LaneCertificate(good))
    world.run(50)
    assert node.lanes.certified_tips() == {}


def test_a_known_certificate_is_not_verified_twice(make_world, make_keys):
    world = make_world(4)
    world.boot()
    world.nodes[1].propose(b"x")
    world.run(100)
    node = world.nodes[0]
    certificate = node.lanes.certified_tips()[1]
    effects = node.lanes.step(world.now_ms, Received(1, LaneCertificate(certificate)))
    assert not any(isinstance(effect, (Verify, Aggregate)) for effect in effects)


def test_requests_for_what_nobody_knows_are_served_within_the_allowance(honest):
    world, node = honest
    effects = []
    for index in range(100):
        ids = tuple(bytes([index, each]) * 16 for each in range(BATCHES_MAX_PER_REQUEST))
        effects += receive(node, 3, BatchRequest(ids), LaneRequest(bytes([index]) * 32, 0))
    asked = sum(len(effect.batch_ids) for effect in effects)
    assert asked << 20 == world.config.served_size_max_bytes_per_window


def test_repeating_a_batch_or_an_acknowledgement_is_answered_at_a_limited_rate(honest):
    world, node = honest
    batch = world.keys.batch(3, 1, ZERO_DIGEST, b"x")
    world.send(3, 0, batch)
    world.run(50)
    replies = [effect for effect in receive(node, 3, *[batch] * 50) if isinstance(effect, Send)]
    assert len(replies) == 1


def test_an_invented_gap_is_asked_of_its_author_alone_with_growing_waits(honest):
    world, node = honest
    world.send(3, 0, world.keys.batch(3, 5, bytes([5]) * 32, b"x"))
    world.run(20_000)
    requests = [sent for sent in node.sent if isinstance(sent.message, LaneRequest)]
    assert {sent.to for sent in requests} == {(3,)}
    assert len(requests) < 15


def test_links_below_the_cursor_are_kept_in_a_bounded_number(make_world):
    world = make_world(4, config=LanesConfig(links_retained_max=32))
    world.boot()
    node = world.nodes[0]
    for _ in range(100):
        node.propose(b"x")
        world.run(20)
        world.commit_from(node)
    world.run(1000)
    assert len(node.delivered) > 20
    for each in world.nodes:
        assert each.lanes.statistics().links == 8
        assert each.lanes.statistics().blocks_owed == 0
