"""The rules that the lanes are built from, one at a time."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.lane_acks import AckCollector, AckSigner, compute_ack_sequence
from consensus.lane_chain import LANE_START, LaneChain, LanePoint, Link
from consensus.lane_fetch import LaneFetcher, Target
from consensus.lane_limits import (
    ACKS_PENDING_MAX_PER_MEMBER,
    OWN_BACKLOG_BATCHES_MAX,
    OWN_BACKLOG_SIZE_MAX_BYTES,
    SERVE_WINDOW_MS,
    UNCOMMITTED_BATCHES_MAX,
    UNCOMMITTED_SIZE_MAX_BYTES,
    LanesConfig,
)
from consensus.lane_serve import LaneServer, ServeMeter
from consensus.messages import (
    BATCHES_MAX_PER_REQUEST,
    SYNC_RESPONSE_MAX_BYTES,
    BatchRequest,
    LaneRequest,
)
from consensus.ownership import Component, Tokens
from crypto.digest import ZERO_DIGEST
from crypto.types import BATCH_BODY_MAX_BYTES

CONFIG = LanesConfig()


@pytest.fixture
def lane(make_keys, chain_id):
    """Makes ready links of author 1: `lane(parent_link, body)`."""
    keys = make_keys(4)

    def make(parent=None, body=b"x", *, ready=True):
        sequence = 1 if parent is None else parent.sequence + 1
        parent_id = ZERO_DIGEST if parent is None else parent.batch_id
        message = keys.batch(1, sequence, parent_id, body)
        batch_id = message.signed_header.header.batch_id(chain_id)
        return Link(batch_id, message.signed_header, ready, ready)

    return make


def point(link):
    return LanePoint(link.sequence, link.batch_id)


# ---- the ruler rule -------------------------------------------------------------------------


def trailing_zeros(number):
    return (number & -number).bit_length()


@given(above=st.integers(0, 10_000), span=st.integers(1, 3000))
def test_the_ruler_picks_the_number_with_the_highest_power_of_two(above, span):
    picked = compute_ack_sequence(above, above + span)
    window = range(above + 1, above + span + 1)
    assert picked == max(window, key=trailing_zeros)


@given(seed=st.integers(0, 2**32), stride_log2=st.integers(0, 6))
def test_every_walk_with_small_steps_meets_at_the_multiples_of_a_power_of_two(seed, stride_log2):
    rng = random.Random(seed)
    stride = 1 << stride_log2
    acked = held = 0
    visited = set()
    while acked < 1024:
        held = max(held, min(acked + rng.randint(1, stride), 1024))
        if held > acked:
            acked = compute_ack_sequence(acked, held)
            visited.add(acked)
    assert visited >= set(range(stride, 1025, stride))


@given(above=st.integers(0, 5000), span=st.integers(1, 5000))
def test_an_idle_lane_is_acknowledged_to_its_end_in_a_logarithmic_number_of_steps(above, span):
    steps = 0
    while above < 5000 + span:
        above = compute_ack_sequence(above, 5000 + span)
        steps += 1
    assert steps <= 2 * (5000 + span).bit_length()


# ---- the chain ------------------------------------------------------------------------------


def test_the_prefix_grows_only_over_ready_links_in_one_chain(lane):
    chain = LaneChain(LANE_START)
    first = lane()
    second = lane(first, ready=False)
    third = lane(second)
    for link in (third, second, first):
        chain.add(link)
    chain.apply_ready()
    assert chain.tip == point(first)
    second.is_stored = True
    chain.apply_ready()
    assert chain.tip == point(first)
    second.is_checked = True
    chain.apply_ready()
    assert chain.tip == point(third)


def test_nothing_at_or_above_a_fork_is_acknowledged_until_it_is_committed(lane):
    chain = LaneChain(LANE_START)
    first = lane()
    one, other = lane(first, b"one"), lane(first, b"other")
    after = lane(one)
    for link in (first, one, after, other):
        chain.add(link)
    chain.apply_ready()
    assert chain.tip == point(after)
    assert chain.find_ackable() == point(first)
    chain.apply_commit(point(one))
    assert chain.find_ackable() == point(after)


def test_a_fork_is_frozen_whichever_of_its_branches_came_first(lane):
    for order in ((0, 1), (1, 0)):
        chain = LaneChain(LANE_START)
        branches = [lane(None, b"one"), lane(None, b"other")]
        for index in order:
            chain.add(branches[index])
        chain.apply_ready()
        assert chain.find_ackable() == LANE_START


@pytest.mark.parametrize("is_signed_first", [True, False])
def test_an_acknowledgement_is_withdrawn_when_a_rival_below_it_is_committed(
    lane, chain_id, is_signed_first
):
    chain = LaneChain(LANE_START)
    first, rival = lane(None, b"one"), lane(None, b"other")
    second = lane(first)
    for link in (first, second):
        chain.add(link)
    chain.apply_ready()
    signer = AckSigner(CONFIG, chain_id, 0, 0, Tokens(Component.LANES))
    (sign,) = signer.poll(0, 1, chain, 0)
    signing = [lambda: signer.on_signed(1, sign.token, bytes(96))]
    if is_signed_first:
        signing.pop()()
    chain.apply_commit(point(rival))
    for finish in signing:
        finish()
    assert signer.newest(1).data.sequence == 2
    signer.on_committed(1, chain)
    assert signer.newest(1) is None
    assert signer.resend(10**9) == []
    # The place stays taken: another batch there would contradict what was signed.
    chain.add(lane(rival))
    chain.apply_ready()
    assert chain.find_ackable().sequence <= 2
    assert signer.poll(10**9, 1, chain, 1) == []


def test_the_chain_behind_a_tip_goes_by_digest_and_stops_by_sequence(lane):
    chain = LaneChain(LANE_START)
    first = lane()
    one, other = lane(first, b"one"), lane(first, b"other")
    tip = lane(other)
    for link in (first, one, other, tip):
        chain.add(link)
    assert chain.compute_chain(tip.batch_id, 0) == (
        first.batch_id,
        other.batch_id,
        tip.batch_id,
    )
    assert chain.compute_chain(tip.batch_id, 2) == (tip.batch_id,)


def test_a_hole_is_found_below_any_number_of_links(lane):
    chain = LaneChain(LANE_START)
    first = lane()
    second = lane(first)
    third = lane(second)
    chain.add(first)
    chain.add(third)
    assert chain.find_hole(point(third), 0) == point(second)
    assert chain.find_hole(point(third), 2) is None
    assert chain.compute_chain(third.batch_id, 0) is None


def test_bodies_above_the_cursor_are_counted_and_pruned_links_are_gone(lane):
    chain = LaneChain(LANE_START)
    links = [lane(None, b"12")]
    for _ in range(4):
        links.append(lane(links[-1], b"12"))
    for link in links:
        chain.add(link)
    assert chain.uncommitted_size_bytes == 10
    chain.apply_commit(point(links[2]))
    assert chain.uncommitted_size_bytes == 4
    chain.prune(3)
    assert len(chain) == 3
    assert chain.uncommitted_size_bytes == 4


# ---- collecting acknowledgements ------------------------------------------------------------


def test_an_author_aggregates_the_highest_sequence_that_honest_power_covers(make_keys, chain_id):
    keys = make_keys(4)
    collector = AckCollector(chain_id, keys.committee, Tokens(Component.LANES))
    batches = [keys.batch(0, sequence, bytes(32), b"x") for sequence in (1, 2, 3)]
    collector.offer(keys.ack(0, batches[2]))
    assert collector.aggregate() == []
    for signer in (0, 1):
        collector.offer(keys.ack(signer, batches[0]))
        collector.offer(keys.ack(signer, batches[1]))
    [effect] = collector.aggregate()
    assert collector.aggregate() == []
    certificate = collector.on_aggregated(keys.aggregate(effect))
    assert certificate.data.sequence == 2


def test_a_poisoned_acknowledgement_is_isolated_and_its_sender_banned(make_keys, chain_id):
    keys = make_keys(4)
    collector = AckCollector(chain_id, keys.committee, Tokens(Component.LANES))
    batch = keys.batch(0, 1, bytes(32), b"x")
    bad = keys.ack(1, batch)
    poisoned = type(bad)(bad.data, 2, bad.signature)
    for ack in (poisoned, keys.ack(0, batch)):
        collector.offer(ack)
    [effect] = collector.aggregate()
    assert collector.on_aggregated(keys.aggregate(effect)) is None
    assert (2 in collector.bans, len(collector.bans)) == (True, 1)
    collector.offer(keys.ack(2, batch))
    collector.offer(keys.ack(3, batch))
    [effect] = collector.aggregate()
    assert [each[0] for each in effect.partials] == [0, 3]
    assert collector.on_aggregated(keys.aggregate(effect)) is not None


def test_one_member_cannot_fill_the_collector(make_keys, chain_id):
    keys = make_keys(4)
    collector = AckCollector(chain_id, keys.committee, Tokens(Component.LANES))
    for sequence in range(1, 200):
        collector.offer(keys.ack(3, keys.batch(0, sequence, bytes(32), b"x")))
    assert len(collector) == ACKS_PENDING_MAX_PER_MEMBER
    assert collector.newest_of(3) == 199


# ---- fetching and serving -------------------------------------------------------------------


def test_a_lone_hole_is_asked_for_by_id_and_a_gap_as_a_stretch(lane):
    first = lane()
    second = lane(first)
    third = lane(second)
    chain = LaneChain(LANE_START)
    fetcher = LaneFetcher(CONFIG)
    [send] = fetcher.poll(0, 1, chain, [Target(point(third), 0, (2, 3), is_urgent=True)])
    assert (send.to, send.message) == ((2,), LaneRequest(third.batch_id, 0))
    chain.add(first)
    chain.add(third)
    chain.apply_ready()
    [send] = fetcher.poll(0, 1, chain, [Target(point(third), 0, (2, 3), is_urgent=True)])
    assert send.message == BatchRequest((second.batch_id,))


def test_the_tips_of_many_missed_blocks_are_asked_for_together(lane):
    links = [lane()]
    for _ in range(39):
        links.append(lane(links[-1]))
    tips = links[1::2]
    targets = [Target(point(tip), tip.sequence - 2, (2,), is_urgent=True) for tip in tips]
    fetcher = LaneFetcher(CONFIG)
    chain = LaneChain(LANE_START)
    [send] = fetcher.poll(0, 1, chain, targets)
    assert send.message == BatchRequest(tuple(tip.batch_id for tip in tips[:16]))
    for tip in tips[:16]:
        assert fetcher.is_wanted(1, point(tip))
        chain.add(tip)
        is_complete = fetcher.on_accepted(0, 1, chain, tip.signed_header.header)
        assert is_complete == (tip is tips[15])
    [send] = fetcher.poll(0, 1, chain, targets)
    assert send.message.batch_ids[:2] == (links[0].batch_id, links[2].batch_id)


def test_a_stretch_makes_each_parent_wanted_until_it_meets_what_is_held(lane):
    links = [lane()]
    for _ in range(9):
        links.append(lane(links[-1]))
    chain = LaneChain(LANE_START)
    for link in links[:5]:
        chain.add(link)
    chain.apply_ready()
    target = Target(point(links[-1]), 0, (2,), is_urgent=True)
    fetcher = LaneFetcher(CONFIG)
    [send] = fetcher.poll(0, 1, chain, [target])
    assert send.message == LaneRequest(links[-1].batch_id, 5)
    for link in reversed(links[5:]):
        assert fetcher.is_wanted(1, point(link))
        chain.add(link)
        assert fetcher.on_accepted(0, 1, chain, link.signed_header.header) == (link is links[5])
    assert fetcher.poll(0, 1, chain, [target]) == []
    assert len(fetcher) == 0


def test_sources_are_asked_in_turn_and_the_wait_doubles_once_all_were(lane):
    target = Target(point(lane()), 0, (2, 3), is_urgent=True)
    fetcher = LaneFetcher(CONFIG)
    chain = LaneChain(LANE_START)
    asked = []
    for now_ms in range(2000):
        for send in fetcher.poll(now_ms, 1, chain, [target]):
            asked.append((now_ms, send.to[0]))
    wait_ms = CONFIG.fetch_retry_ms
    assert asked[:4] == [(0, 2), (wait_ms, 3), (2 * wait_ms, 2), (4 * wait_ms, 3)]


def test_an_uncommitted_hole_is_given_time_to_arrive_by_itself(lane):
    target = Target(point(lane()), 0, (2,), is_urgent=False)
    fetcher = LaneFetcher(CONFIG)
    chain = LaneChain(LANE_START)
    assert fetcher.poll(0, 1, chain, [target]) == []
    assert fetcher.poll(CONFIG.fetch_delay_ms - 1, 1, chain, [target]) == []
    assert len(fetcher.poll(CONFIG.fetch_delay_ms, 1, chain, [target])) == 1


def test_a_gap_that_only_its_author_vouches_for_does_not_hold_up_what_was_committed(lane):
    link = lane()
    fetcher = LaneFetcher(CONFIG)
    chain = LaneChain(LANE_START)
    invented = Target(LanePoint(9, bytes(32)), 0, (1,), is_urgent=False)
    fetcher.poll(0, 1, chain, [invented])
    assert len(fetcher.poll(100, 1, chain, [invented])) == 1
    urgent = Target(point(link), 0, (2,), is_urgent=True)
    [send] = fetcher.poll(101, 1, chain, [urgent, invented])
    assert send.to == (2,)


def test_lanes_with_invented_gaps_are_fetched_a_few_at_a_time():
    fetcher = LaneFetcher(CONFIG)
    for now_ms in (0, 1000):
        for author in range(100):
            target = Target(LanePoint(5, bytes(32)), 0, (author,), is_urgent=False)
            fetcher.poll(now_ms, author, LaneChain(LANE_START), [target])
    assert len(fetcher) == CONFIG.fetches_in_flight_max


def test_a_peer_gets_no_more_than_its_allowance_in_a_window():
    meter = ServeMeter(CONFIG)
    most = CONFIG.served_size_max_bytes_per_window
    assert meter.charge(0, 1, most)
    assert not meter.charge(1, 1, 1)
    assert meter.charge(1, 2, 1)
    assert meter.charge(SERVE_WINDOW_MS, 1, 1)


def test_an_unknown_batch_costs_the_allowance_of_the_largest():
    config = LanesConfig(served_size_max_bytes_per_window=2 * BATCH_BODY_MAX_BYTES)
    server = LaneServer(config, [LaneChain(LANE_START)], frozenset())
    ids = tuple(bytes([index]) * 32 for index in range(5))
    [serve] = server.serve_batches(0, 1, BatchRequest(ids))
    assert serve.batch_ids == ids[:2]


def test_an_answer_ends_with_the_batch_that_makes_it_too_large(lane):
    chain = LaneChain(LANE_START)
    links = [lane(None, bytes(BATCH_BODY_MAX_BYTES))]
    for _ in range(9):
        links.append(lane(links[-1], bytes(BATCH_BODY_MAX_BYTES)))
    for link in links:
        chain.add(link)
    server = LaneServer(CONFIG, [chain], frozenset())
    [serve] = server.serve_lane(0, 2, LaneRequest(links[-1].batch_id, 0))
    assert len(serve.batch_ids) == SYNC_RESPONSE_MAX_BYTES // BATCH_BODY_MAX_BYTES


def test_a_stretch_is_served_newest_first_and_capped(lane):
    chain = LaneChain(LANE_START)
    links = [lane()]
    for _ in range(30):
        links.append(lane(links[-1]))
    for link in links:
        chain.add(link)
    server = LaneServer(CONFIG, [chain], frozenset())
    [serve] = server.serve_lane(0, 2, LaneRequest(links[-1].batch_id, 0))
    newest_first = [link.batch_id for link in reversed(links)]
    assert list(serve.batch_ids) == newest_first[:BATCHES_MAX_PER_REQUEST]
    [serve] = server.serve_lane(0, 2, LaneRequest(links[-1].batch_id, 29))
    assert list(serve.batch_ids) == newest_first[:2]


def test_repeated_ids_in_a_request_are_served_once(lane):
    chain = LaneChain(LANE_START)
    link = lane()
    chain.add(link)
    server = LaneServer(CONFIG, [chain], frozenset())
    [serve] = server.serve_batches(0, 2, BatchRequest((link.batch_id,) * 16))
    assert serve.batch_ids == (link.batch_id,)


# ---- limits ---------------------------------------------------------------------------------


def test_an_author_stops_well_below_what_the_others_store():
    assert 2 * OWN_BACKLOG_BATCHES_MAX <= UNCOMMITTED_BATCHES_MAX
    assert 2 * OWN_BACKLOG_SIZE_MAX_BYTES <= UNCOMMITTED_SIZE_MAX_BYTES
