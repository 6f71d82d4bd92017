"""Fetching blocks from members that do not help, or lie."""

from itertools import combinations, pairwise
from typing import Final

import pytest
from msgspec.structs import replace

from consensus.bans import Bans
from consensus.block_tree import BlockTree, make_root
from consensus.messages import (
    Advance,
    BlockRequest,
    BlockResponse,
    CommittedRequest,
    CommittedResponse,
    Message,
)
from consensus.recovery import make_genesis_tip
from consensus.sync import FAR_HEIGHTS, BlockSync
from consensus.types import Block
from localnet.sim.keys import CHAIN_ID, Keys
from localnet.sim.solo import Solo

KEYS: Final = Keys(powers=(1,) * 7)
FAULTY: Final = 2
RETRY_MS: Final = 100


def make_chain(length: int) -> list[Block]:
    """Newest first."""
    chain: list[Block] = []
    qc = KEYS.genesis
    for view in range(1, length + 1):
        chain.append(KEYS.make_block(view, qc))
        qc = KEYS.make_qc(chain[-1])
    return chain[::-1]


CHAIN: Final = make_chain(3)
STRANGER: Final = KEYS.make_block(9, KEYS.genesis, time_ms=77)
PROOF: Final = KEYS.make_qc(CHAIN[0])

ANSWERS: Final[dict[str, Message]] = {
    "nothing": BlockResponse(()),
    "another block": BlockResponse((STRANGER,)),
    "a broken chain": BlockResponse((CHAIN[0], STRANGER)),
    "another kind of answer": CommittedResponse((), None, 0),
    "a bad proof": CommittedResponse((CHAIN[0],), replace(PROOF, signature=b"\xc0" + bytes(95)), 3),
}


def ask_seven(me: int) -> Solo:
    """A node that lacks the newest certified block of a chain."""
    solo = Solo(KEYS, me)
    solo.receive((me + 1) % 7, Advance(KEYS.make_qc(CHAIN[0]), None))
    return solo


def asked(solo: Solo) -> list[int]:
    """Whom the node asked, in order."""
    return [to[0] for to, each in solo.sent if isinstance(each, BlockRequest | CommittedRequest)]


@pytest.mark.parametrize("answer", sorted(ANSWERS))
@pytest.mark.parametrize("me", range(7))
def test_members_that_do_not_help_cost_one_round_trip_each(me: int, answer: str) -> None:
    solo = ask_seven(me)
    for turn in range(FAULTY):
        peers = asked(solo)
        assert len(peers) == turn + 1, "the next is asked at once, without any time passing"
        solo.receive(peers[-1], ANSWERS[answer])
    peers = asked(solo)
    assert len(set(peers)) == len(peers) == FAULTY + 1
    solo.receive(peers[-1], BlockResponse(tuple(CHAIN)))
    assert solo.committed == [1, 2]
    assert solo.now_ms == 0


def test_whoever_lies_about_a_block_is_not_asked_for_it_again() -> None:
    solo = ask_seven(0)
    (liar,) = asked(solo)
    solo.receive(liar, ANSWERS["a broken chain"])
    assert solo.refusals == ["sync.chain_broken"]
    for _ in range(40):
        solo.wait(solo.config.sync_retry_ms)
    assert liar not in asked(solo)[1:]
    assert set(asked(solo)) == set(range(1, 7))


def test_who_is_banned_is_not_asked_and_its_request_is_over_at_once() -> None:
    tree = BlockTree(make_root(make_genesis_tip(CHAIN_ID, KEYS.committee, 0)))
    bans = Bans()
    sync = BlockSync(CHAIN_ID, 7, 0, tree, RETRY_MS, bans)
    sync.want(PROOF)
    ((first, _),) = sync.next_requests(0)
    bans.add(first, *(each for each in range(7) if each not in (first, 5, 6)))
    ((second, _),) = sync.next_requests(0)
    assert second in {5, 6} - {first}


def test_members_with_nothing_to_give_are_each_asked_once_in_a_round_that_lasts() -> None:
    tree = BlockTree(make_root(make_genesis_tip(CHAIN_ID, KEYS.committee, 0)))
    sync = BlockSync(CHAIN_ID, 7, 0, tree, RETRY_MS, Bans())
    sync.want(PROOF)
    now_ms, times = 0, [0]
    for _ in range(5):
        peers: list[int] = []
        while requests := sync.next_requests(now_ms):
            peers += [peer for peer, _ in requests]
            sync.pass_over(peers[-1])
        assert sorted(peers) == [1, 2, 3, 4, 5, 6]
        deadline_ms = sync.compute_deadline_ms(now_ms)
        assert deadline_ms is not None
        now_ms = deadline_ms
        times.append(now_ms)
        sync.expire(now_ms)
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits == sorted(waits)
    assert waits[0] == RETRY_MS


def test_a_late_answer_does_not_send_a_far_node_back_over_blocks_that_commit_nothing_yet() -> None:
    """Blocks of views that do not follow each other commit only with later ones. If all that one
    answer holds are such, a second copy of it must not make the node ask for them again: the third
    copy would do the same, for ever."""
    tree = BlockTree(make_root(make_genesis_tip(CHAIN_ID, KEYS.committee, 0)))
    sync = BlockSync(CHAIN_ID, 7, 0, tree, RETRY_MS, Bans())
    first = KEYS.make_block(1, KEYS.genesis)
    second = KEYS.make_block(3, KEYS.make_qc(first))
    newest = KEYS.make_qc(make_chain(2 * FAR_HEIGHTS)[0])
    answer = CommittedResponse((first, second), KEYS.make_qc(second), newest.height)
    sync.want(newest)
    ((peer, request),) = sync.next_requests(0)
    assert request == CommittedRequest(1)
    for block_id, block in sync.take_committed(peer, answer):
        tree.insert(block, block_id)
    assert tree.root.height == 0
    for _ in range(3):
        ((peer, request),) = sync.next_requests(0)
        assert request == CommittedRequest(3)
        assert sync.take_committed(peer, answer) == []


def test_not_every_request_begins_with_the_same_member() -> None:
    firsts: dict[int, set[int]] = {}
    for me in range(7):
        tree = BlockTree(make_root(make_genesis_tip(CHAIN_ID, KEYS.committee, 0)))
        sync = BlockSync(CHAIN_ID, 7, me, tree, RETRY_MS, Bans())
        for number in range(6):
            block = KEYS.make_block(number + 1, KEYS.genesis, time_ms=number + 1)
            sync.want(KEYS.make_qc(block, signers=KEYS.everyone))
            ((peer, _),) = sync.next_requests(0)
            firsts.setdefault(me, set()).add(peer)
            chain = sync.take_blocks(peer, BlockResponse((block,)))
            tree.insert(block, chain[0][0])
    assert all(len(peers) == 6 for peers in firsts.values())


def test_no_two_liars_can_hold_a_helpful_member_up_for_the_retry_time() -> None:
    """Whoever they are, and whichever of the ways to be of no use they choose."""
    for liars in combinations(range(1, 7), FAULTY):
        for answer in ANSWERS.values():
            solo = ask_seven(0)
            while solo.now_ms == 0 and not solo.committed:
                peer = asked(solo)[-1]
                solo.receive(peer, answer if peer in liars else BlockResponse(tuple(CHAIN)))
                if len(asked(solo)) > FAULTY + 1:
                    break
            assert solo.committed == [1, 2]


LONG_CHAIN: Final = make_chain(FAR_HEIGHTS + 8)[::-1]


@pytest.mark.parametrize("held", [0, 1, 5])
@pytest.mark.parametrize("share", [1, 2, 64])
def test_answers_of_any_length_lead_past_what_is_here_already(held: int, share: int) -> None:
    """The blocks above the root that a node has and has not committed may fill a whole answer."""
    tree = BlockTree(make_root(make_genesis_tip(CHAIN_ID, KEYS.committee, 0)))
    for block in LONG_CHAIN[:held]:
        tree.insert(block, block.block_id(CHAIN_ID))
    sync = BlockSync(CHAIN_ID, 7, 0, tree, RETRY_MS, Bans())
    sync.want(KEYS.make_qc(LONG_CHAIN[-1]))
    asked_from: list[int] = []
    for _ in range(len(LONG_CHAIN) + 1):
        requests = sync.next_requests(0)
        if not requests:
            break
        ((peer, request),) = requests
        assert isinstance(request, CommittedRequest)
        asked_from.append(request.from_height)
        blocks = LONG_CHAIN[request.from_height - 1 : request.from_height - 1 + share]
        response = CommittedResponse(tuple(blocks), KEYS.make_qc(blocks[-1]), len(LONG_CHAIN))
        assert sync.is_solicited(peer, response)
        for block_id, block in sync.take_committed(peer, response):
            if tree.get(block_id) is None:
                tree.insert(block, block_id)
    assert tree.get(LONG_CHAIN[-1].block_id(CHAIN_ID)) is not None
    assert asked_from == sorted(set(asked_from)), "nothing is asked for twice"
    assert sync.next_requests(0) == []
