"""The smaller parts of the core, each on its own."""

from itertools import pairwise

import pytest
from msgspec.structs import replace

from committee.schedule import LeaderSchedule
from consensus.backoff import (
    DOUBLINGS_MAX,
    GROWTHS_MAX,
    compute_doubling_wait_ms,
    compute_growing_wait_ms,
)
from consensus.bans import Bans
from consensus.block_tree import (
    COMMITTED_BLOCKS_KEPT,
    ORPHANS_MAX,
    TREE_BLOCKS_MAX,
    BlockTree,
    make_root,
)
from consensus.certificates import CertificateCache
from consensus.config import ConsensusConfig
from consensus.effects import Aggregated, Store, Token
from consensus.evidence import (
    EVIDENCE_SIZE_MAX_BYTES,
    EvidenceError,
    decode_evidence,
    make_double_batch,
    make_double_proposal,
    make_double_state_vote,
    make_double_timeout,
    make_double_vote,
    validate_evidence,
    verify_evidence,
)
from consensus.intake import PENDING_MAX_PER_PEER, Intake
from consensus.messages import Advance, StateVote
from consensus.pacemaker import LOST_VIEWS_PER_GROWTH, Pacemaker, Urgency
from consensus.payload import validate_child
from consensus.recovery import RecoveryError, make_genesis_tip, recover
from consensus.safety import STATE_KEY, STATE_TABLE, make_initial_state
from consensus.serving import SERVE_BURST, SERVE_REFILL_MS, TokenBucket
from consensus.sync import REQUESTS_IN_FLIGHT_MAX, TARGETS_MAX, BlockSync
from consensus.types import BatchHeader, Block, CheckpointHeader, SignedBatchHeader
from consensus.validation import Check, ValidationError
from consensus.votes import TimeoutCollector, VoteCollector
from crypto.codec import encode
from crypto.digest import ZERO_DIGEST
from crypto.scheme import Claim
from localnet.sim.keys import CHAIN_ID, Keys
from localnet.sim.solo import Solo

KEYS = Keys()
GENESIS = KEYS.genesis
CONFIG = ConsensusConfig()


def make_tree() -> BlockTree:
    return BlockTree(make_root(make_genesis_tip(CHAIN_ID, KEYS.committee, 0)))


def make_chain(length: int, salt: int = 0) -> list[tuple[bytes, Block]]:
    chain: list[tuple[bytes, Block]] = []
    qc = GENESIS
    for view in range(1, length + 1):
        block = KEYS.make_block(view, qc, time_ms=view * 1_000 + salt)
        chain.append((block.block_id(CHAIN_ID), block))
        qc = KEYS.make_qc(block)
    return chain


# ---- block tree ------------------------------------------------------------------------------


def test_a_commit_returns_the_chain_oldest_first_and_drops_forks() -> None:
    tree = make_tree()
    chain, fork = make_chain(4), make_chain(3, salt=7)
    for block_id, block in [*chain, *fork]:
        tree.insert(block, block_id)
    node = tree.get(chain[2][0])
    assert node is not None
    assert [each.height for each in tree.commit(node)] == [1, 2, 3]
    assert len(tree) == 1
    assert tree.get(fork[0][0]) is None
    assert tree.find_block(chain[0][0]) == chain[0][1]


def test_committed_blocks_stay_at_hand_for_a_bounded_window() -> None:
    tree = make_tree()
    chain = make_chain(COMMITTED_BLOCKS_KEPT + 10)
    for block_id, block in chain:
        tree.commit(tree.insert(block, block_id))
    kept = [block_id for block_id, _ in chain if tree.find_block(block_id) is not None]
    assert kept == [block_id for block_id, _ in chain[-COMMITTED_BLOCKS_KEPT:]]


def test_orphans_are_bounded_and_the_oldest_view_goes_first() -> None:
    tree = make_tree()
    chain = make_chain(ORPHANS_MAX + 5)
    for block_id, block in reversed(chain[1:]):
        tree.add_orphan(block, block_id)
    assert tree.orphan_count == ORPHANS_MAX
    assert tree.find_block(chain[1][0]) is None
    assert tree.find_missing_ancestor(chain[-1][0]) == chain[4][0]


def test_a_full_tree_says_so() -> None:
    tree = make_tree()
    for number in range(TREE_BLOCKS_MAX):
        assert not tree.is_full
        block = KEYS.make_block(1, GENESIS, time_ms=number + 1)
        tree.insert(block, number.to_bytes(32, "big"))
    assert tree.is_full


# ---- blocks against their parents ------------------------------------------------------------


def test_a_child_is_checked_against_its_ancestors() -> None:
    config = ConsensusConfig(execution_lag_max_blocks=4)
    tree = make_tree()
    lane = KEYS.certify_lane(0, 3)
    block1 = KEYS.make_block(1, GENESIS, time_ms=10, lanes=(lane,))
    parent = tree.insert(block1, block1.block_id(CHAIN_ID))
    good = KEYS.make_block(2, KEYS.make_qc(block1), time_ms=11)
    validate_child(config, tree, parent, good)
    broken = {
        "block.height": replace(good, height=3),
        "block.view_not_above_parent": replace(good, view=1),
        "block.time_not_above_parent": replace(good, time_ms=10),
        "block.lane_not_above_cursor": replace(good, lanes=(lane,)),
    }
    for code, block in broken.items():
        with pytest.raises(ValidationError, match=code):
            validate_child(config, tree, parent, block)


def test_execution_lag_stops_lanes_and_a_state_certificate_lets_them_in_again() -> None:
    config = ConsensusConfig(execution_lag_max_blocks=4)
    tree = make_tree()
    chain = make_chain(4)
    for block_id, block in chain:
        parent = tree.insert(block, block_id)
    lanes = (KEYS.certify_lane(0, 1),)
    late = KEYS.make_block(5, KEYS.make_qc(chain[-1][1]), time_ms=9_000, lanes=lanes)
    with pytest.raises(ValidationError, match=r"block.execution_lag"):
        validate_child(config, tree, parent, late)
    validate_child(config, tree, parent, replace(late, lanes=()))
    certified = replace(late, state_certificate=KEYS.certify_state(1, chain[0][0]))
    validate_child(config, tree, parent, certified)
    foreign = replace(late, state_certificate=KEYS.certify_state(1, bytes(32)))
    with pytest.raises(ValidationError, match=r"block.state_of_another_chain"):
        validate_child(config, tree, parent, foreign)


def test_a_leader_reports_results_and_leaves_lanes_out_when_execution_lags() -> None:
    config = ConsensusConfig(execution_lag_max_blocks=3, idle_interval_ms=200)
    solo = Solo(me=2, config=config)
    solo.payload.tips[1] = solo.keys.certify_lane(1, 1)
    block = None
    qc = GENESIS
    for view in range(1, 6):
        if solo.keys.schedule.leader(view) == 2:
            solo.wait(300)
            block = solo.proposals()[-1].block
            qc = solo.keys.make_qc(block)
        else:
            solo.payload.tips[1] = solo.keys.certify_lane(1, view)
            _, qc = solo.extend(qc, view, time_ms=solo.now_ms + view)
        solo.receive(0, Advance(qc, None))
    assert block is not None
    assert block.height == 5
    assert block.lanes == ()
    assert [proposal.block.height for proposal in solo.proposals()] == [1, 2, 5]
    assert solo.proposals()[0].block.lanes


# ---- pacemaker -------------------------------------------------------------------------------


def test_the_timer_backs_off_with_views_lost_and_only_a_commit_resets_it() -> None:
    pacemaker = Pacemaker(CONFIG)
    pacemaker.enter_view(0, 1, is_after_loss=False)
    waits = [pacemaker.deadline_ms]
    lost_max = (GROWTHS_MAX + 2) * LOST_VIEWS_PER_GROWTH
    for lost in range(1, lost_max + 1):
        # Certificates without commits neither stretch the timer nor keep it short.
        for view, is_after_loss in ((2 * lost, True), (2 * lost + 1, False)):
            pacemaker.enter_view(0, view, is_after_loss=is_after_loss)
            waits.append(pacemaker.deadline_ms)
    # After 0, 3, 6, 9 and 12 lost views of two each.
    assert waits[:: 2 * LOST_VIEWS_PER_GROWTH][:5] == [1_000, 1_500, 2_250, 3_375, 5_062]
    assert waits == sorted(waits)
    assert waits.count(11_390) > 2 * LOST_VIEWS_PER_GROWTH
    pacemaker.record_commit(1)
    pacemaker.enter_view(0, 2 * lost_max + 2, is_after_loss=False)
    assert pacemaker.deadline_ms == 1_000


@pytest.mark.parametrize(("powers", "dead", "wait_max_s"), [((1,) * 4, 1, 30), ((1,) * 7, 2, 60)])
def test_dead_leaders_of_less_than_a_third_leave_no_long_gap_between_commits(
    powers: tuple[int, ...], dead: int, wait_max_s: int
) -> None:
    """Leaders are drawn independently, so in 20,000 views there are long runs without two living
    ones in a row; what such a run costs is a few timeouts, as most of its views are not lost."""
    schedule = LeaderSchedule(Keys(powers).committee, b"any")
    pacemaker = Pacemaker(CONFIG)
    now_ms = height = committed_ms = longest_ms = 0
    is_certified = False
    for view in range(1, 20_001):
        pacemaker.enter_view(now_ms, view, is_after_loss=view > 1 and not is_certified)
        if schedule.leader(view) < dead:
            now_ms, is_certified = pacemaker.deadline_ms, False
            continue
        if is_certified:
            height += 1
            pacemaker.record_commit(height)
            longest_ms, committed_ms = max(longest_ms, now_ms - committed_ms), now_ms
        is_certified = True
    assert height > 8_000
    assert longest_ms < wait_max_s * 1_000


def test_a_parent_time_ahead_of_the_clock_does_not_delay_proposals() -> None:
    pacemaker = Pacemaker(CONFIG)
    assert pacemaker.compute_proposal_time_ms(1_000, 900_000, Urgency.WORK) == 1_020
    assert pacemaker.compute_proposal_time_ms(1_000, 950, Urgency.IDLE) == 1_150
    assert pacemaker.compute_proposal_time_ms(1_000, 999, Urgency.COMPLETION) == 1_004


def test_a_block_ahead_of_the_clock_is_voted_for_later_and_an_old_one_never() -> None:
    solo = Solo()
    drift_ms, age_ms = solo.config.clock_drift_ms, solo.config.block_age_max_ms
    solo.extend(GENESIS, 1, time_ms=drift_ms + 100)
    assert solo.voted_views == []
    solo.wait(99)
    assert solo.voted_views == []
    solo.wait(1)
    assert solo.voted_views == [1]
    old = Solo(config=ConsensusConfig(base_view_timeout_ms=60_000))
    old.wait(age_ms + 100)
    old.extend(GENESIS, 1, time_ms=99)
    assert old.voted_views == []


def test_honest_power_of_timeouts_makes_everybody_time_out() -> None:
    solo = Solo()
    solo.receive(0, solo.keys.make_timeout(0, 1, GENESIS))
    assert solo.timed_out_views == []
    solo.receive(1, solo.keys.make_timeout(1, 1, GENESIS))
    assert solo.timed_out_views == [1]
    # With its own that is a quorum of timeouts: the certificate goes out at once.
    statistics = solo.core.statistics()
    assert (statistics.tcs_formed, statistics.timeouts_by_amplification) == (1, 1)
    (advance,) = solo.sent_of(Advance)
    assert advance.tc is not None
    assert advance.tc.view == 1
    assert solo.view == 2


# ---- collectors ------------------------------------------------------------------------------


def test_a_vote_quorum_is_of_power_and_of_one_content() -> None:
    keys = Keys((3, 1, 1, 1))
    collector = VoteCollector(
        CHAIN_ID, keys.committee, Bans(), lambda view, is_complete: 0 if is_complete else 5
    )
    block = keys.make_block(1, keys.genesis)
    other = keys.make_block(1, keys.genesis, time_ms=9)
    for member, chosen in ((1, block), (2, block), (3, other)):
        assert collector.add(0, keys.make_vote(member, chosen)) is None
    assert collector.compute_due_ms() == {}
    assert collector.add(10, keys.make_vote(0, block)) is None
    assert collector.compute_due_ms() == {1: 10}
    token = Token("t", 1)
    aggregate = collector.start(1, token)
    assert [index for index, _, _ in aggregate.partials] == [0, 1, 2]
    bitmap, signature = keys.aggregate((0, 1, 2), aggregate.message)
    qc = collector.finish(Aggregated(token, (0, 1, 2), signature, ()))
    assert qc == keys.make_qc(block, signers=(0, 1, 2))
    assert qc is not None
    assert qc.signers == bitmap
    assert collector.compute_due_ms() == {}


def test_a_timeout_certificate_groups_by_report_and_survives_culprits() -> None:
    keys = Keys((1,) * 7)
    collector = TimeoutCollector(CHAIN_ID, keys.committee, Bans())
    qc1 = keys.make_qc(keys.make_block(1, keys.genesis))
    tc2 = keys.make_tc(2, keys.genesis)
    for member in range(3):
        collector.add(keys.make_timeout(member, 3, keys.genesis, last_tc=tc2))
    for member in range(4, 6):
        collector.add(keys.make_timeout(member, 3, qc1, tip_view=2, last_tc=tc2))
    assert collector.is_due
    tokens = [Token("t", 1), Token("t", 2)]
    first, second = collector.start(tokens)
    lower, higher = keys.aggregate((0, 1, 2), first.message), keys.aggregate((5,), second.message)
    assert collector.finish(Aggregated(tokens[0], (0, 1, 2), lower[1], ())) is None
    assert collector.finish(Aggregated(tokens[1], (5,), higher[1], (4,))) is None
    assert not collector.is_due
    collector.add(keys.make_timeout(6, 3, qc1, tip_view=2, last_tc=tc2))
    collector.add(keys.make_timeout(4, 3, qc1, tip_view=2, last_tc=tc2))
    assert collector.is_due
    tokens = [Token("t", 3), Token("t", 4)]
    first, second = collector.start(tokens)
    assert [index for index, _, _ in second.partials] == [5, 6]
    both = keys.aggregate((5, 6), second.message)
    collector.finish(Aggregated(tokens[0], (0, 1, 2), lower[1], ()))
    tc = collector.finish(Aggregated(tokens[1], (5, 6), both[1], ()))
    assert tc == keys.make_tc(3, qc1, [((0, 1, 2), 0, 0), ((5, 6), 1, 2)])


# ---- intake and cache ------------------------------------------------------------------------


def test_a_certificate_under_verification_is_not_verified_twice() -> None:
    intake: Intake[str] = Intake(CertificateCache())
    qc = KEYS.make_qc(KEYS.make_block(1, GENESIS))
    claim = Claim((b"k",), b"m", b"s")
    check = Check(qc, (claim,))
    own = Check(None, (Claim((b"o",), b"m", b"s"),))
    assert intake.submit(0, "first", [check, own], Token("t", 1)) is not None
    assert intake.submit(1, "second", [check], Token("t", 2)) is None
    # The first message's own signature is bad: that is no fault of the second.
    verdicts = intake.resolve(Token("t", 1), (True, False))
    assert [(each.subject, each.is_valid) for each in verdicts] == [
        ("first", False),
        ("second", True),
    ]
    assert intake.pending_count == 0


def test_what_one_peer_has_waiting_is_bounded_and_leaves_room_for_others() -> None:
    intake: Intake[int] = Intake(CertificateCache())
    for number in range(PENDING_MAX_PER_PEER):
        assert intake.has_room(0)
        intake.submit(0, number, [Check(None, (Claim((b"k",), b"m", b"s"),))], Token("t", number))
    assert not intake.has_room(0)
    assert intake.has_room(1)
    intake.resolve(Token("t", 0), (True,))
    assert intake.has_room(0)


def test_the_certificate_cache_is_bounded_and_compares_whole_contents() -> None:
    cache = CertificateCache(capacity=2)
    certificates = [KEYS.make_qc(KEYS.make_block(view, GENESIS)) for view in (1, 2, 3)]
    for certificate in certificates:
        cache.add(certificate)
    assert len(cache) == 2
    assert certificates[0] not in cache
    assert certificates[2] in cache
    assert replace(certificates[2], signature=bytes(96)) not in cache
    lane = KEYS.certify_lane(0, 1)
    cache.add(lane)
    assert lane in cache


# ---- serving ---------------------------------------------------------------------------------


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(SERVE_BURST, SERVE_REFILL_MS)
    assert sum(bucket.take(5) for _ in range(100)) == SERVE_BURST
    assert not bucket.take(5 + SERVE_REFILL_MS - 1)
    assert bucket.take(5 + SERVE_REFILL_MS)
    assert sum(bucket.take(10**9) for _ in range(100)) == SERVE_BURST


def test_who_speaks_of_a_view_long_past_is_told_what_ended_it() -> None:
    solo = Solo()
    qc3 = solo.run_views(3)
    solo.receive(0, Advance(qc3, None))
    late = solo.keys.make_block(1, GENESIS, time_ms=9)
    solo.propose(late)
    solo.receive(1, solo.keys.make_timeout(1, 2, solo.keys.make_qc(late)))
    replies = [(to, each) for to, each in solo.sent if isinstance(each, Advance)]
    assert replies == [((late.author,), Advance(qc3, None)), ((1,), Advance(qc3, None))]


# ---- fetching --------------------------------------------------------------------------------


def test_retries_rotate_slow_down_and_try_the_other_way_now_and_then() -> None:
    sync = BlockSync(CHAIN_ID, 4, 3, make_tree(), retry_ms=100, bans=Bans())
    qc = KEYS.make_qc(make_chain(2)[-1][1])
    sync.want(qc)
    kinds: list[str] = []
    peers: list[int] = []
    times: list[int] = [0]
    for _ in range(6):
        ((peer, message),) = sync.next_requests(times[-1])
        assert sync.next_requests(times[-1]) == []
        kinds.append(type(message).__name__)
        peers.append(peer)
        deadline_ms = sync.compute_deadline_ms(times[-1])
        assert deadline_ms is not None
        times.append(deadline_ms)
        sync.expire(deadline_ms)
    assert kinds == ["BlockRequest", "BlockRequest", "CommittedRequest"] * 2
    assert sorted(peers) == [0, 0, 1, 1, 2, 2]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits == sorted(waits)
    assert waits[0] == 100


def test_what_is_under_way_and_what_is_wanted_are_bounded() -> None:
    sync = BlockSync(CHAIN_ID, 4, 3, make_tree(), retry_ms=100, bans=Bans())
    for salt in range(20):
        sync.want(KEYS.make_qc(make_chain(2, salt)[-1][1]))
    assert sync.target_count == TARGETS_MAX
    assert len(sync.next_requests(0)) == REQUESTS_IN_FLIGHT_MAX
    assert sync.next_requests(0) == []


# ---- evidence --------------------------------------------------------------------------------


def sign_result(author: int, root: bytes) -> StateVote:
    top = 2**63 - 1
    header = CheckpointHeader(0, top, root, top, root, root, root)
    return StateVote(header, author, KEYS.sign(author, header.signing_bytes(CHAIN_ID)))


def test_each_kind_of_evidence_convicts_and_a_changed_byte_does_not() -> None:
    schemes = (KEYS.scheme, KEYS.identity_scheme)
    block, other = KEYS.make_block(1, GENESIS), KEYS.make_block(1, GENESIS, time_ms=77)
    qc1 = KEYS.make_qc(block)
    tc2 = KEYS.make_tc(2, qc1)
    proposals = [KEYS.make_proposal(each) for each in (block, other)]
    header = BatchHeader(0, 1, 5, ZERO_DIGEST, ZERO_DIGEST, 10)
    signed: list[SignedBatchHeader] = []
    for each in (header, replace(header, size_bytes=11)):
        unsigned = SignedBatchHeader(each, bytes(64))
        message = unsigned.author_signing_bytes(CHAIN_ID)
        signature = KEYS.identity_scheme.sign(KEYS.identity_secrets[1], message)
        signed.append(SignedBatchHeader(each, signature))
    halves = [(each.block.block_id(CHAIN_ID), each.signature) for each in proposals]
    evidences = [
        make_double_vote(KEYS.make_vote(0, other), KEYS.make_vote(0, block)),
        make_double_timeout(
            KEYS.make_timeout(0, 3, qc1, last_tc=tc2),
            KEYS.make_timeout(0, 3, qc1, last_tc=tc2, tip_view=2),
        ),
        make_double_proposal(block.author, 0, 1, halves[1], halves[0]),
        make_double_batch(signed[1], signed[0]),
        make_double_state_vote(*(sign_result(0, bytes([each]) * 32) for each in (2, 1))),
    ]
    for evidence in evidences:
        encoded = encode(evidence)
        assert len(encoded) <= EVIDENCE_SIZE_MAX_BYTES
        assert decode_evidence(encoded) == evidence
        assert verify_evidence(evidence, KEYS.committee, CHAIN_ID, *schemes)
        assert not verify_evidence(evidence, KEYS.committee, bytes(32), *schemes)
        other_epoch = replace(KEYS.committee, epoch=3)
        assert not verify_evidence(evidence, other_epoch, CHAIN_ID, *schemes)
    assert encode(evidences[0]) == encode(
        make_double_vote(KEYS.make_vote(0, block), KEYS.make_vote(0, other))
    )
    with pytest.raises(EvidenceError):
        decode_evidence(bytes(EVIDENCE_SIZE_MAX_BYTES + 1))


def test_votes_of_two_views_contradict_nothing() -> None:
    one, other = (KEYS.make_vote(0, KEYS.make_block(view, GENESIS)) for view in (1, 2))
    with pytest.raises(EvidenceError):
        validate_evidence(make_double_vote(one, other), KEYS.committee)


# ---- recovery --------------------------------------------------------------------------------


def test_an_archive_without_a_safety_record_is_amnesia() -> None:
    tip = encode(make_genesis_tip(CHAIN_ID, KEYS.committee, 0))
    with pytest.raises(RecoveryError, match=r"recovery.amnesia"):
        recover(CHAIN_ID, KEYS.committee, 0, {}, tip)


def test_damaged_or_foreign_records_are_refused() -> None:
    with pytest.raises(RecoveryError, match=r"recovery.damaged"):
        recover(CHAIN_ID, KEYS.committee, 0, {STATE_TABLE: {STATE_KEY: b"\x00"}}, None)
    state = encode(make_initial_state(5, GENESIS))
    with pytest.raises(RecoveryError, match=r"recovery.epoch"):
        recover(CHAIN_ID, KEYS.committee, 0, {STATE_TABLE: {STATE_KEY: state}}, None)


def test_a_tip_newer_than_the_safety_state_raises_the_view() -> None:
    chain = make_chain(3)
    qc = KEYS.make_qc(chain[-1][1])
    tip = replace(make_genesis_tip(CHAIN_ID, KEYS.committee, 0), height=3, view=3, qc=qc)
    state = {STATE_TABLE: {STATE_KEY: encode(make_initial_state(0, GENESIS))}}
    assert recover(CHAIN_ID, KEYS.committee, 0, state, encode(tip)).safety.high_qc == qc


def test_an_idle_pace_slower_than_the_view_timer_is_refused() -> None:
    with pytest.raises(ValueError, match="idle_interval_ms"):
        ConsensusConfig(idle_interval_ms=500, base_view_timeout_ms=400)


def test_old_safety_records_are_dropped_but_the_window_stays() -> None:
    solo = Solo()
    qc = GENESIS
    for view in range(1, 4 * COMMITTED_BLOCKS_KEPT):
        if solo.keys.schedule.leader(view) == solo.me:
            tc = solo.keys.make_tc(view, qc)
            continue
        is_direct = qc.view + 1 == view
        _, qc = solo.extend(qc, view, tc=None if is_direct else tc)
    blocks = solo.disk.table(Store.SAFETY, "pending_block")
    heights = [int.from_bytes(key[:8], "big") for key in blocks]
    committed = solo.core.statistics().committed_height
    assert committed > 100
    assert min(heights) > 1
    assert min(heights) <= committed - COMMITTED_BLOCKS_KEPT + 1
    assert len(heights) < 2 * COMMITTED_BLOCKS_KEPT
    assert len(solo.disk.table(Store.SAFETY, "vote")) < 3 * COMMITTED_BLOCKS_KEPT


def test_waits_grow_by_half_or_double_and_then_stay() -> None:
    growing = [compute_growing_wait_ms(100, attempts) for attempts in range(GROWTHS_MAX + 3)]
    assert growing == [100, 150, 225, 337, 506, 759, 1139, 1139, 1139]
    doubling = [compute_doubling_wait_ms(10, attempts) for attempts in range(DOUBLINGS_MAX + 3)]
    assert doubling == [10, 20, 40, 80, 160, 160, 160]
    assert compute_growing_wait_ms(100, 10**9) == 1139
    assert compute_doubling_wait_ms(10, 10**9) == 160
