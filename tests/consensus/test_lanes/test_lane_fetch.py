"""Whom a node asks for what it misses, when what it gets is worth nothing."""

import pytest

from consensus.effects import Send
from consensus.lane_chain import LANE_START, LaneChain, LanePoint, Link
from consensus.lane_fetch import UNREADY_MAX_PER_LANE, LaneFetcher, Target
from consensus.lane_limits import LanesConfig
from consensus.messages import BatchMessage, BatchRequest, LaneRequest
from consensus.types import SignedBatchHeader
from crypto.digest import ZERO_DIGEST

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


def test_every_failed_check_passes_the_turn_on_and_a_good_one_ends_the_memory(make_keys, chain_id):
    [message], [batch_id] = chain_of(make_keys(4), 1, chain_id)
    tip = LanePoint(1, batch_id)
    lane = Lane()
    for source in (1, 3, 1, 3):
        assert lane.poll(tip) == [(source,)]
        link = lane.accept(message, batch_id)
        assert lane.poll(tip) == []
        lane.chain.discard(link)
    lane.poll(tip)
    link = lane.accept(message, batch_id)
    link.is_stored = link.is_checked = True
    assert lane.poll(tip) == []
    assert lane.fetcher.count_unready() == 0


def test_turns_are_forgotten_with_the_target_and_bounded(make_keys, chain_id):
    messages, ids = chain_of(make_keys(4), UNREADY_MAX_PER_LANE + 10, chain_id)
    tip = LanePoint(len(ids), ids[-1])
    lane = Lane()
    links = []
    for message, batch_id in reversed(list(zip(messages, ids, strict=True))):
        lane.poll(tip)
        links.append(lane.accept(message, batch_id))
    assert lane.fetcher.count_unready() == UNREADY_MAX_PER_LANE
    for link in links:
        lane.chain.discard(link)
    lane.poll(None)
    assert lane.fetcher.count_unready() == 0
