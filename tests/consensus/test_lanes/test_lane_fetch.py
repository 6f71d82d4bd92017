"""Whom a node asks for what it misses, when what it gets is worth nothing."""

import pytest

from consensus.effects import Received, Send
from consensus.lane_chain import LANE_START, LaneChain, LanePoint, Link
from consensus.lane_fetch import LaneFetcher, Target
from consensus.lane_limits import FAILED_BATCHES_MAX_PER_LANE, LanesConfig
from consensus.lane_targets import SOURCES_MAX
from consensus.lanes import Lanes
from consensus.messages import BatchMessage, BatchRequest, LaneRequest
from consensus.types import AckData, AvailabilityCertificate, SignedBatchHeader
from crypto.bitmap import encode_bitmap
from crypto.digest import ZERO_DIGEST
from localnet.sim.keys import Keys

AUTHOR = 2


def chain_of(keys, length, chain_id):
    """A lane, oldest first: the messages and their ids."""
    messages, ids = [], [ZERO_DIGEST]
    for sequence in range(1, length + 1):
        messages.append(keys.batch(AUTHOR, sequence, ids[-1], b"x"))
        ids.append(messages[-1].signed_header.header.batch_id(chain_id))
    return messages, ids[1:]


def answer_with_broken_signatures(world, liar, messages, ids):
    """Let a member answer every request at once, with copies whose signature is broken."""
    requests = []
    send = world.send

    def lie(sender, to, message):
        send(sender, to, message)
        if to != liar or not isinstance(message, (BatchRequest, LaneRequest)):
            return
        requests.append(sender)
        wanted = ids
        if isinstance(message, BatchRequest):
            wanted = message.batch_ids
        for batch_id, good in reversed(list(zip(ids, messages, strict=True))):
            if batch_id in wanted:
                header = good.signed_header.header
                send(liar, sender, BatchMessage(SignedBatchHeader(header, bytes(64)), good.body))

    world.send = lie
    return requests


@pytest.mark.parametrize("length", [1, 40])
def test_a_signer_whose_answers_fail_their_check_cannot_starve_a_node(make_world, chain_id, length):
    world = make_world(4)
    world.puppets = {1}
    world.boot()
    messages, ids = chain_of(world.keys, length, chain_id)
    for batch_id, message in zip(ids, messages, strict=True):
        world.nodes[3].store[batch_id] = message
    world.nodes[3].crash()
    world.nodes[3].boot()
    requests = answer_with_broken_signatures(world, 1, messages, ids)
    node = world.nodes[0]
    world.make_block([world.keys.certificate(messages[-1], (1, 3))])
    world.run(10_000)
    assert requests, "the liar was asked"
    assert node.delivered == [tuple(ids)]
    assert node.misbehaviour[1, "batch.signature_invalid"]


def outrun_every_answer(world, liar, messages):
    """Let a member send broken copies of everything at the moment at which anybody is asked."""
    send = world.send

    def race(sender, to, message):
        if isinstance(message, (BatchRequest, LaneRequest)):
            for good in reversed(messages):
                header = good.signed_header.header
                copy = BatchMessage(SignedBatchHeader(header, bytes(64)), good.body)
                world.later(0, lambda copy=copy: receive(world.nodes[sender], liar, copy))
        send(sender, to, message)

    world.send = race


def receive(node, sender, message):
    node.handle(node.life, Received(sender, message))


@pytest.mark.parametrize(
    "liar", [0, 1, AUTHOR], ids=["a stranger", "a signer", "the author itself"]
)
def test_a_member_that_outruns_every_answer_with_a_broken_copy_cannot_starve_a_node(
    make_world, chain_id, liar
):
    world = make_world(5)
    world.puppets = {0, 1, AUTHOR}
    world.boot()
    messages, ids = chain_of(world.keys, 20, chain_id)
    for batch_id, message in zip(ids, messages, strict=True):
        world.nodes[3].store[batch_id] = message
    world.nodes[3].crash()
    world.nodes[3].boot()
    outrun_every_answer(world, liar, messages)
    node = world.nodes[4]
    world.make_block([world.keys.certificate(messages[-1], (1, AUTHOR, 3))])
    world.run(10_000)
    assert node.delivered == [tuple(ids)]
    assert node.store == dict(zip(ids, messages, strict=True))


class Lane:
    """A fetcher, one lane, and two sources of everything."""

    def __init__(self):
        self.now_ms = 0
        self.chain = LaneChain(LANE_START)
        self.fetcher = LaneFetcher(LanesConfig())

    def poll(self, tip):
        self.now_ms += 1
        targets = [Target(tip, 0, (1, 3), is_urgent=True)] if tip is not None else []
        effects = self.fetcher.poll(self.now_ms, AUTHOR, self.chain, targets)
        return [effect.to for effect in effects if isinstance(effect, Send)]

    def accept(self, message, batch_id):
        header = message.signed_header.header
        link = Link(batch_id, message.signed_header)
        self.chain.add(link)
        self.fetcher.on_accepted(self.now_ms, AUTHOR, self.chain, header)
        return link

    def fail(self, link, sender):
        self.chain.discard(link)
        self.fetcher.on_failed(AUTHOR, link.batch_id, sender)


def test_every_failed_check_passes_the_turn_on_and_a_good_one_ends_the_memory(make_keys, chain_id):
    [message], [batch_id] = chain_of(make_keys(4), 1, chain_id)
    tip = LanePoint(1, batch_id)
    lane = Lane()
    for source in (1, 3, 1, 3):
        assert lane.poll(tip) == [(source,)]
        assert lane.fetcher.is_answer(AUTHOR, tip, source)
        link = lane.accept(message, batch_id)
        assert lane.poll(tip) == []
        lane.fail(link, source)
    assert lane.poll(tip) == [(1,)]
    link = lane.accept(message, batch_id)
    link.is_stored = link.is_checked = True
    assert lane.poll(tip) == []
    assert lane.fetcher.count_failed() == 0


def test_only_who_was_asked_may_answer_and_not_after_a_bad_copy(make_keys, chain_id):
    [message], [batch_id] = chain_of(make_keys(4), 1, chain_id)
    tip = LanePoint(1, batch_id)
    lane = Lane()
    assert lane.poll(tip) == [(1,)]
    assert [lane.fetcher.is_answer(AUTHOR, tip, sender) for sender in (0, 1, 3)] == [
        False,
        True,
        False,
    ]
    lane.now_ms += LanesConfig().fetch_retry_ms
    assert lane.poll(tip) == [(3,)]
    assert lane.fetcher.is_answer(AUTHOR, tip, 1), "a late answer is still one"
    lane.fail(lane.accept(message, batch_id), 1)
    assert lane.poll(tip) == [(3,)]
    assert not lane.fetcher.is_answer(AUTHOR, tip, 1)
    assert lane.fetcher.is_answer(AUTHOR, tip, 3)


def test_failed_copies_are_forgotten_with_the_target_and_bounded(make_keys, chain_id):
    messages, ids = chain_of(make_keys(4), FAILED_BATCHES_MAX_PER_LANE + 10, chain_id)
    tip = LanePoint(len(ids), ids[-1])
    lane = Lane()
    lane.poll(tip)
    for link in [lane.accept(*each) for each in reversed(list(zip(messages, ids, strict=True)))]:
        lane.fail(link, 1)
    assert lane.fetcher.count_failed() == FAILED_BATCHES_MAX_PER_LANE
    lane.poll(None)
    assert lane.fetcher.count_failed() == 0


def test_whom_to_ask_is_remembered_for_so_many_sets_of_signers():
    targets = Lanes(LanesConfig(), bytes(32), Keys((1,) * 12).committee, 0)._targets
    data = AckData(0, AUTHOR, 1, bytes(32))

    def find_sources(number):
        signers = [place for place in range(11) if number >> place & 1]
        bitmap = encode_bitmap([1 + place for place in signers], 12)
        return targets.find_sources(AvailabilityCertificate(data, bitmap, bytes(96)))

    first = find_sources(1)
    assert first == (1,)
    for number in range(2, SOURCES_MAX + 2):
        find_sources(number)
    assert targets._sources.cache_info()[2:] == (SOURCES_MAX, SOURCES_MAX)
    assert find_sources(1) == first


def test_the_prefix_that_is_held_is_told_from_rivals_and_from_what_a_fork_makes_doubtful(
    make_keys, chain_id
):
    keys = make_keys(4)
    messages, ids = chain_of(keys, 5, chain_id)
    links = [
        Link(batch_id, message.signed_header, is_stored=True, is_checked=True)
        for batch_id, message in zip(ids, messages, strict=True)
    ]
    points = [LanePoint(link.sequence, link.batch_id) for link in links]
    chain = LaneChain(points[0])
    for link in links[1:4]:
        chain.add(link)
    chain.apply_ready()
    assert [chain.is_in_prefix(point) for point in points] == [False, True, True, True, False]
    rival = keys.batch(AUTHOR, 3, ids[1], b"y").signed_header
    place = LanePoint(3, rival.header.batch_id(chain_id))
    assert not chain.is_in_prefix(place)
    assert not chain.is_above_cursor(place)
    assert chain.is_above_cursor(points[2])
    chain.add(Link(place.batch_id, rival, is_stored=True, is_checked=True))
    # Now it takes a walk to tell, and the tip alone is known at once.
    assert [chain.is_in_prefix(point) for point in (points[2], place, points[3])] == [
        False,
        False,
        True,
    ]
    assert all(chain.is_above_cursor(point) for point in (points[2], points[3], place))
    assert chain.find_hole(points[4], 1) == points[4]
    assert chain.find_hole(place, 1) is None
