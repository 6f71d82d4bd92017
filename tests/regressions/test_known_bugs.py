"""Bugs that other implementations of this family of protocols had: each has a test of its own.

S are safety bugs, L liveness bugs, D denials of service.
"""

import pytest
from msgspec.structs import replace

from committee.committee import Committee
from consensus.effects import EvidenceFound, Halt, Persist, ServeCommitted, Store
from consensus.evidence import EvidenceError, make_double_timeout, validate_evidence
from consensus.messages import (
    Advance,
    BlockRequest,
    BlockResponse,
    CommittedRequest,
    CommittedResponse,
    Proposal,
    Timeout,
    Vote,
)
from consensus.serving import SERVE_BURST
from consensus.sync import ATTEMPTS_MAX
from consensus.types import QC, TimeoutGroup
from consensus.votes import VIEW_AHEAD_MAX
from crypto.digest import Domain, digest
from localnet.sim.cluster import Cluster
from localnet.sim.links import Partition
from localnet.sim.network import Conditions, CrashPoint
from localnet.sim.solo import FOLLOWER, Solo

OTHER_CHAIN = digest(Domain.GENESIS, b"another chain")


@pytest.fixture
def solo() -> Solo:
    return Solo()


def assert_refused(solo: Solo, code: str) -> None:
    assert solo.refusals[-1:] == [code]


# ---- safety ----------------------------------------------------------------------------------


def test_s1_the_view_of_a_certificate_is_signed(solo: Solo) -> None:
    _, qc = solo.extend(solo.keys.genesis, 1)
    forged = QC(replace(qc.data, view=40), qc.signers, qc.signature)
    solo.receive(0, Advance(forged, None))
    assert_refused(solo, "signature.invalid")
    assert solo.view == 1


def test_s2_nothing_but_the_exact_genesis_certificate_skips_verification(solo: Solo) -> None:
    genesis = solo.keys.genesis
    block = solo.keys.make_block(1, genesis)
    forgeries = [
        replace(genesis, data=replace(genesis.data, view=7)),
        replace(genesis, data=replace(genesis.data, height=7, view=7)),
        replace(genesis, signature=bytes([1]) * 96, data=replace(genesis.data, view=7)),
        replace(genesis, data=replace(solo.keys.make_vote_data(block), view=7)),
    ]
    for forged in forgeries:
        solo.receive(0, Advance(forged, None))
        assert solo.refusals.pop() in {"qc.power", "qc.height_zero"}
    zero_view = replace(genesis, data=replace(solo.keys.make_vote_data(block), view=0))
    tc = solo.keys.make_tc(1, zero_view, [((0, 1, 2), 0, 0)])
    solo.receive(0, Advance(genesis, tc))
    assert_refused(solo, "qc.view_zero")
    assert solo.view == 1
    # The genuine one is not shadowed by any of them.
    solo.run_views(1)
    assert solo.voted_views == [1]


def test_s3_two_chain_with_non_consecutive_views_does_not_commit(solo: Solo) -> None:
    keys = solo.keys
    _, qc1 = solo.extend(keys.genesis, 1)
    _, qc3 = solo.extend(qc1, 3, tc=keys.make_tc(2, qc1))
    solo.receive(0, Advance(qc3, None))
    assert solo.committed == []
    _, qc5 = solo.extend(qc3, 5, tc=keys.make_tc(4, qc3))
    solo.receive(0, Advance(qc5, None))
    assert solo.committed == []
    _, qc6 = solo.extend(qc5, 6)
    solo.receive(0, Advance(qc6, None))
    assert solo.committed == [1, 2, 3]


def test_s3_certificate_views_decide_and_never_block_views(solo: Solo) -> None:
    keys = solo.keys
    # Block views 1 and 2 are consecutive; the certificates of views 1 and 3 are not.
    block1, qc1 = solo.extend(keys.genesis, 1)
    block2, _ = solo.extend(qc1, 2)
    solo.receive(0, Advance(keys.make_qc(block2, view=3), None))
    assert solo.committed == []
    # Block views 1 and 6 are not consecutive; certificates of views 5 and 6 are.
    other = Solo()
    other.propose(block1)
    again = keys.make_qc(block1, view=5)
    _, qc6 = other.extend(again, 6)
    other.receive(0, Advance(qc6, None))
    assert other.committed == [1]


@pytest.mark.parametrize("reported", [0, 2])
def test_s4_a_timeout_certificate_carries_the_maximum_that_its_signers_reported(
    solo: Solo, reported: int
) -> None:
    keys = solo.keys
    qc1 = solo.run_views(1)
    solo.receive(0, Advance(solo.keys.make_qc(solo.keys.make_block(2, qc1)), None))
    lying = keys.make_tc(5, qc1, [((0, 1, 2), reported, 0)])
    solo.receive(0, Advance(keys.genesis, lying))
    assert_refused(solo, "tc.high_qc_not_maximum")


def test_s4_a_report_cannot_name_a_view_at_or_above_its_own(solo: Solo) -> None:
    qc1 = solo.run_views(1)
    solo.receive(0, Advance(qc1, solo.keys.make_tc(1, qc1, [((0, 1, 2), 1, 0)])))
    assert_refused(solo, "tc.high_qc_view")


def test_s4_a_forged_certificate_inside_a_genuine_one_is_refused_again_and_again(
    solo: Solo,
) -> None:
    keys = solo.keys
    _, qc1 = solo.extend(keys.genesis, 1)
    forged = replace(qc1, data=replace(qc1.data, block_id=bytes(32)))
    tc = keys.make_tc(4, forged)
    for _ in range(3):
        solo.receive(0, Advance(keys.genesis, tc))
        assert_refused(solo, "signature.invalid")
    assert solo.view == 1


def test_s5_a_timed_out_view_is_never_voted_in(solo: Solo) -> None:
    solo.wait(solo.config.base_view_timeout_ms)
    assert solo.timed_out_views == [1]
    block, _ = solo.extend(solo.keys.genesis, 1, time_ms=solo.now_ms)
    assert solo.voted_views == []
    solo.wait(5 * solo.config.base_view_timeout_ms)
    solo.propose(block)
    assert solo.voted_views == []
    solo.restart()
    solo.propose(block)
    assert solo.voted_views == []


def test_s6_a_restart_forgets_no_vote(solo: Solo) -> None:
    solo.holds_signatures = True
    solo.extend(solo.keys.genesis, 1)
    assert solo.voted_views == []
    solo.holds_signatures = False
    solo.restart()
    first = solo.sent_of(Vote)
    solo.extend(solo.keys.genesis, 1, time_ms=7)
    assert solo.sent_of(Vote) == first
    assert len(first) == 1


def test_s7_a_restart_forgets_no_timeout(solo: Solo) -> None:
    solo.holds_signatures = True
    solo.wait(solo.config.base_view_timeout_ms)
    solo.holds_signatures = False
    solo.restart()
    assert solo.timed_out_views == [1]
    solo.extend(solo.keys.genesis, 1, time_ms=solo.now_ms)
    assert solo.voted_views == []


def test_s8_the_lock_survives_a_restart(solo: Solo) -> None:
    qc2 = solo.run_views(2)
    solo.extend(qc2, 3)
    solo.restart()
    solo.wait(solo.config.base_view_timeout_ms)
    assert solo.sent_of(Timeout)[-1].data.high_qc_view == 2
    assert solo.sent_of(Timeout)[-1].high_qc == qc2


def test_s9_a_leader_proposes_the_same_block_after_a_restart() -> None:
    solo = Solo(me=2)
    solo.wait(solo.config.idle_interval_ms)
    (first,) = solo.proposals()
    solo.payload.tips[0] = solo.keys.certify_lane(0, 1)
    solo.wait(100)
    solo.restart()
    solo.wait(500)
    assert solo.proposals() == [first, first]


def test_s10_after_an_equivocation_the_certified_block_is_followed_not_the_first_seen(
    solo: Solo,
) -> None:
    keys = solo.keys
    solo.extend(keys.genesis, 1, time_ms=5)
    certified = keys.make_block(1, keys.genesis, time_ms=6)
    qc1 = keys.make_qc(certified, signers=(0, 1, 2))
    block2 = keys.make_block(2, qc1, time_ms=7)
    solo.propose(block2)
    requests = [(to, each) for to, each in solo.sent if isinstance(each, BlockRequest)]
    assert [each.block_id for _, each in requests] == [qc1.block_id]
    (peer,) = requests[0][0]
    solo.receive(peer, BlockResponse((certified,)))
    assert solo.voted_views == [1, 2]
    solo.receive(0, Advance(keys.make_qc(block2), None))
    assert solo.committed == [1]
    assert solo.core.statistics().committed_height == 1


def test_s11_the_parent_is_the_block_that_the_certificate_names(solo: Solo) -> None:
    block, qc1 = solo.extend(solo.keys.genesis, 1)
    solo.propose(replace(solo.keys.make_block(2, qc1), parent_id=block.parent_id))
    assert_refused(solo, "block.parent_mismatch")
    solo.propose(replace(solo.keys.make_block(2, qc1), height=5))
    assert_refused(solo, "block.height")
    assert solo.voted_views == [1]


def test_s12_commits_come_oldest_first_and_never_twice(solo: Solo) -> None:
    keys = solo.keys
    qc4 = solo.run_views(4)
    _, qc6 = solo.extend(qc4, 6, tc=keys.make_tc(5, qc4))
    _, qc8 = solo.extend(qc6, 8, tc=keys.make_tc(7, qc6))
    _, qc9 = solo.extend(qc8, 9)
    for qc in (qc9, qc8, qc9, qc6, qc4):
        solo.receive(0, Advance(qc, None))
    assert solo.committed == [1, 2, 3, 4, 5, 6][: len(solo.committed)]
    assert solo.core.statistics().committed_height == 6


def test_s13_a_missing_justification_is_not_a_skipped_check(solo: Solo) -> None:
    keys = solo.keys
    qc1 = solo.run_views(1)
    solo.propose(keys.make_block(4, qc1))
    assert_refused(solo, "block.view_unjustified")
    solo.receive(0, keys.make_timeout(0, 4, qc1))
    assert_refused(solo, "timeout.view_unjustified")
    assert solo.view == 1


def test_s14_no_member_is_counted_twice(solo: Solo) -> None:
    keys = solo.keys
    block = keys.make_block(1, keys.genesis)
    two = keys.make_qc(block, signers=(0, 1))
    solo.receive(0, Advance(replace(two, signers=bytes([0b10011])), None))
    assert_refused(solo, "qc.signers")
    solo.receive(0, Advance(two, None))
    assert_refused(solo, "qc.power")
    overlapping = keys.make_tc(3, keys.genesis, [((0, 1), 0, 0), ((1, 2), 0, 1)])
    solo.receive(0, Advance(keys.genesis, overlapping))
    assert_refused(solo, "tc.signers_overlap")
    member = keys.committee.members[0]
    with pytest.raises(ValueError, match="share one"):
        Committee(epoch=0, members=(member, replace(member, name="other")))


def test_s15_one_content_with_two_signatures_convicts_nobody(solo: Solo) -> None:
    one = solo.keys.make_timeout(0, 1, solo.keys.genesis)
    other = replace(one, signature=bytes([7]) * 96)
    with pytest.raises(EvidenceError):
        validate_evidence(make_double_timeout(one, other), solo.keys.committee)
    solo.receive(0, one, other)
    assert not [each for each in solo.effects if isinstance(each, EvidenceFound)]


def test_s16_signatures_of_another_chain_or_epoch_are_worth_nothing(solo: Solo) -> None:
    keys = solo.keys
    block = keys.make_block(1, keys.genesis)
    data = keys.make_vote_data(block)
    foreign = QC(data, *keys.aggregate((0, 1, 2), data.signing_bytes(OTHER_CHAIN)))
    solo.receive(0, Advance(foreign, None))
    assert_refused(solo, "signature.invalid")
    proposal = keys.make_proposal(block)
    foreign_signature = keys.sign(block.author, proposal.signing_bytes(OTHER_CHAIN))
    solo.receive(block.author, replace(proposal, signature=foreign_signature))
    assert_refused(solo, "signature.invalid")
    later = QC(replace(data, epoch=1), foreign.signers, foreign.signature)
    unbanned = next(each for each in keys.everyone if each not in (0, block.author, solo.me))
    solo.receive(unbanned, Advance(later, None))
    assert_refused(solo, "qc.epoch")
    assert solo.view == 1


# ---- liveness --------------------------------------------------------------------------------


def test_l1_a_timeout_is_broadcast_until_its_view_ends(solo: Solo) -> None:
    solo.wait(6 * solo.config.base_view_timeout_ms)
    timeouts = solo.sent_of(Timeout)
    assert len(timeouts) >= 5
    assert len(set(timeouts)) == 1
    solo.receive(0, Advance(solo.keys.genesis, solo.keys.make_tc(1, solo.keys.genesis)))
    assert solo.view == 2
    count = len(timeouts)
    solo.wait(100)
    assert len(solo.sent_of(Timeout)) == count


def test_l1_a_committee_times_out_together_over_a_very_lossy_network() -> None:
    conditions = Conditions(drop_permille=200)
    cluster = Cluster(seed=21, conditions=conditions)
    cluster.start(0, 1, 2)
    cluster.submit_every(50, until_ms=60_000)
    cluster.run_until_height(5, 300_000, indices=(0, 1, 2))


def test_l2_a_restart_remembers_the_timeout_certificate(solo: Solo) -> None:
    solo.receive(0, Advance(solo.keys.genesis, solo.keys.make_tc(6, solo.keys.genesis)))
    assert solo.view == 7
    while not solo.timed_out_views:
        solo.wait(100)
    solo.restart()
    assert solo.view == 7
    assert solo.timed_out_views == [7, 7]


def test_l3_nodes_that_restart_in_different_views_find_each_other() -> None:
    cluster = Cluster(seed=22)
    cluster.start()
    cluster.world.run_for(600)
    for index in cluster.members:
        cluster.world.crash(index)
        cluster.world.run_for(1_700 * index)
        cluster.world.rules = [Partition(frozenset({index}))]
        cluster.start(index)
    cluster.world.rules = []
    cluster.run_until_height(cluster.lowest_height() + 5, 60_000)


def test_l4_the_own_vote_is_counted_again_after_a_restart() -> None:
    cluster = Cluster(seed=23)
    crashed: set[int] = set()

    def crash_once(index: int, persist: Persist) -> CrashPoint | None:
        is_vote = any(put.table == "vote" for put in persist.puts)
        if not is_vote or index in crashed:
            return None
        crashed.add(index)
        return CrashPoint.AFTER_DURABLE

    cluster.world.crash_at = crash_once
    cluster.start()
    assert cluster.world.run_until(lambda: len(crashed) == 4, 1_000)
    cluster.start()
    # Every vote of view 1 was durable and none had left. No timeout is needed to go on.
    assert cluster.world.run_until(lambda: cluster.core(0).statistics().high_qc_view >= 1, 400)
    assert all(cluster.core(index).statistics().timeouts_by_timer == 0 for index in range(4))


def test_l5_timeouts_of_different_views_are_not_counted_together(solo: Solo) -> None:
    keys = solo.keys
    tc1, tc2 = keys.make_tc(1, keys.genesis), keys.make_tc(2, keys.genesis)
    solo.receive(0, keys.make_timeout(0, 1, keys.genesis))
    solo.receive(1, keys.make_timeout(1, 2, keys.genesis, last_tc=tc1))
    solo.receive(2, keys.make_timeout(2, 3, keys.genesis, last_tc=tc2))
    statistics = solo.core.statistics()
    assert (statistics.view, statistics.pending_timeouts) == (3, 1)
    assert (statistics.tcs_formed, statistics.timeouts_by_amplification) == (0, 0)


def test_l6_votes_go_to_this_leader_and_the_next_and_the_timer_backs_off(solo: Solo) -> None:
    solo.run_views(3)
    leader = solo.keys.schedule.leader
    votes = [(set(to), vote.data.view) for to, vote in solo.sent if isinstance(vote, Vote)]
    assert votes == [({leader(view), leader(view + 1)}, view) for view in (1, 2, 3)]
    waits: list[int] = []
    for view in range(3, 7):
        began_ms = solo.now_ms
        while solo.timed_out_views[-1:] != [view]:
            solo.wait(50)
        waits.append(solo.now_ms - began_ms)
        solo.receive(0, Advance(solo.keys.genesis, solo.keys.make_tc(view, solo.keys.genesis)))
    assert waits == sorted(waits)
    assert waits[-1] > 3 * waits[0]


@pytest.mark.parametrize("me", [0, FOLLOWER])
def test_l7_a_certificate_that_comes_after_the_timeout_is_welcome(me: int) -> None:
    solo = Solo(me=me)
    keys = solo.keys
    qc1 = solo.run_views(1)
    block2, qc2 = solo.extend(qc1, 2)
    solo.wait(solo.config.base_view_timeout_ms)
    solo.holds_signatures = True
    solo.receive(1, Advance(qc1, keys.make_tc(2, qc1)))
    assert solo.view == 3
    solo.receive(1, Advance(qc2, None))
    assert solo.committed == [1]
    solo.holds_signatures = False
    _, qc3 = (
        solo.extend(qc2, 3, time_ms=solo.now_ms)
        if me == FOLLOWER
        else (None, keys.make_qc(keys.make_block(3, qc2)))
    )
    solo.receive(1, Advance(qc3, None))
    assert solo.view == 4
    assert not [each for each in solo.effects if isinstance(each, Halt)]
    assert block2.height == 2


def test_l8_a_block_that_nobody_served_is_asked_for_again(solo: Solo) -> None:
    keys = solo.keys
    missing = keys.make_block(1, keys.genesis)
    solo.receive(0, Advance(keys.make_qc(missing), None))
    solo.wait(2 * ATTEMPTS_MAX * 6_000)
    asked = len(solo.sent_of(BlockRequest)) + len(solo.sent_of(CommittedRequest))
    assert asked > ATTEMPTS_MAX
    solo.wait(10_000)
    while not isinstance(solo.sent[-1][1], BlockRequest):
        solo.wait(1)
    (peer,) = solo.sent[-1][0]
    solo.receive(peer, BlockResponse((missing,)))
    assert solo.core.statistics().sync_targets == 0


def test_l9_who_gave_a_view_up_still_accepts_its_certificate(solo: Solo) -> None:
    qc1 = solo.run_views(1)
    block2 = solo.keys.make_block(2, qc1)
    solo.receive(0, Advance(qc1, None))
    while not solo.timed_out_views:
        solo.wait(100)
    assert solo.timed_out_views == [2]
    solo.propose(block2)
    qc2 = solo.keys.make_qc(block2, signers=(0, 1, 2))
    solo.extend(qc2, 3, time_ms=solo.now_ms)
    assert solo.voted_views == [1, 3]
    assert solo.committed == [1]


def test_l10_a_node_whose_archive_was_lost_fetches_it_again() -> None:
    cluster = Cluster(seed=24)
    cluster.start()
    cluster.submit_every(25, until_ms=20_000)
    cluster.run_until_height(200, 20_000)
    cluster.world.crash(3)
    disk = cluster.world.hosts[3].disk
    disk.stores[Store.ARCHIVE].clear()
    cluster.agreement.forget_archive(3)
    cluster.start(3)
    cluster.run_until_height(cluster.height(0) + 5, 20_000)
    assert cluster.core(3).statistics().committed_height > 200


def test_l11_the_default_pace_holds_for_many_blocks_under_load() -> None:
    cluster = Cluster(seed=25)
    cluster.start()
    cluster.submit_every(10, until_ms=20_000)
    cluster.run_until_height(300, 15_000)
    for index in cluster.members:
        assert cluster.core(index).statistics().timeouts_by_timer == 0


def test_l12_serving_others_delays_no_vote(solo: Solo) -> None:
    qc3 = solo.run_views(3)
    solo.receive(1, *[CommittedRequest(1) for _ in range(200)])
    # Archived blocks are read by the host: the core only hands the request on.
    served = [each for each in solo.effects if isinstance(each, ServeCommitted)]
    assert 0 < len(served) <= SERVE_BURST
    solo.extend(qc3, 4)
    assert solo.voted_views == [1, 2, 3, 4]


# ---- denial of service -----------------------------------------------------------------------


def test_d1_votes_and_timeouts_for_the_future_are_bounded() -> None:
    solo = Solo(me=2)
    keys = solo.keys
    block = keys.make_block(1, keys.genesis)
    for view in range(1, 300):
        for salt in range(2):
            vote = keys.make_vote(0, replace(block, time_ms=50 + salt), view)
            solo.receive(0, vote)
        solo.receive(0, keys.make_timeout(0, view, keys.genesis))
    statistics = solo.core.statistics()
    assert statistics.pending_votes <= VIEW_AHEAD_MAX + 1
    assert statistics.pending_timeouts <= 1
    assert statistics.pending_messages == 0


def test_d2_a_timeout_certificate_with_too_many_groups_costs_no_verification(solo: Solo) -> None:
    tc = solo.keys.make_tc(300, solo.keys.genesis)
    group = tc.groups[0]
    many = tuple(TimeoutGroup(0, tip, group.signers, group.signature) for tip in range(1, 120))
    before = solo.verified_claims
    solo.receive(0, Advance(solo.keys.genesis, replace(tc, groups=many)))
    assert_refused(solo, "tc.signers_overlap")
    assert solo.verified_claims == before


def test_d3_a_made_up_epoch_drives_no_work_wherever_it_stands(solo: Solo) -> None:
    keys = solo.keys
    qc1 = solo.run_views(1)
    before = solo.verified_claims
    far = 2**60
    far_qc = replace(qc1, data=replace(qc1.data, epoch=far))
    tc = keys.make_tc(3, qc1)
    lane = keys.certify_lane(0, 1)
    far_lane = replace(lane, data=replace(lane.data, epoch=far))
    state = keys.certify_state(1, qc1.block_id)
    far_state = replace(state, header=replace(state.header, epoch=far))
    block = keys.make_block(2, qc1)
    high = keys.make_block(4, keys.make_qc(keys.make_block(3, keys.make_qc(block))))
    messages: list[tuple[int, Proposal | Timeout | Advance | Vote, str]] = [
        (0, Advance(far_qc, keys.make_tc(2, qc1)), "qc.epoch"),
        (0, Advance(qc1, replace(tc, epoch=far)), "tc.epoch"),
        (0, Advance(qc1, replace(tc, high_qc=far_qc)), "qc.epoch"),
        (2, keys.make_proposal(replace(block, epoch=far)), "proposal.epoch"),
        (2, keys.make_proposal(replace(block, lanes=(far_lane,))), "availability.epoch"),
        (
            high.author,
            keys.make_proposal(replace(high, state_certificate=far_state)),
            "state.epoch",
        ),
        (0, replace(keys.make_timeout(0, 2, qc1), high_qc=far_qc), "qc.epoch"),
    ]
    for sender, message, code in messages:
        solo.receive(sender, message)
        assert_refused(solo, code)
    assert solo.verified_claims == before


def test_d4_a_message_acts_whole_or_not_at_all(solo: Solo) -> None:
    keys = solo.keys
    qc1 = keys.make_qc(keys.make_block(1, keys.genesis))
    proposal = keys.make_proposal(keys.make_block(2, qc1))
    solo.receive(proposal.author, replace(proposal, signature=bytes([9]) * 96))
    assert_refused(solo, "signature.invalid")
    statistics = solo.core.statistics()
    assert (statistics.view, statistics.high_qc_view, statistics.sync_targets) == (1, 0, 0)
    # Verifying costs milliseconds, so who sends what does not verify is not heard again.
    before = solo.verified_claims
    solo.receive(proposal.author, proposal)
    assert (solo.view, solo.verified_claims) == (1, before)
    honest = next(each for each in keys.everyone if each not in (proposal.author, solo.me))
    solo.receive(honest, Advance(qc1, None))
    assert solo.view == 2


def test_d5_proposals_for_later_views_are_not_parked(solo: Solo) -> None:
    keys = solo.keys
    qc1 = keys.make_qc(keys.make_block(1, keys.genesis))
    for view in range(3, 11):
        solo.propose(keys.make_block(view, qc1))
        assert_refused(solo, "block.view_unjustified")
    statistics = solo.core.statistics()
    assert (statistics.pending_messages, statistics.orphan_blocks) == (0, 0)


def test_d6_each_peer_has_its_own_allowance_of_answers(solo: Solo) -> None:
    qc3 = solo.run_views(3)
    solo.receive(1, *[BlockRequest(qc3.block_id, 0) for _ in range(500)])
    assert len(solo.sent_of(BlockResponse)) == SERVE_BURST
    solo.receive(2, BlockRequest(qc3.block_id, 0))
    assert len(solo.sent_of(BlockResponse)) == SERVE_BURST + 1
    old = solo.keys.make_timeout(1, 1, solo.keys.genesis)
    before = len(solo.sent_of(Advance))
    solo.receive(1, *[old for _ in range(500)])
    assert len(solo.sent_of(Advance)) - before == SERVE_BURST


def test_d7_what_a_peer_claims_never_shadows_what_is_certified(solo: Solo) -> None:
    keys = solo.keys
    genuine = keys.make_block(1, keys.genesis)
    solo.receive(0, Advance(keys.make_qc(genuine, signers=(0, 1, 2)), None))
    wrong = keys.make_block(1, keys.genesis, time_ms=99)
    (first_to, first), *_ = [(to, m) for to, m in solo.sent if isinstance(m, BlockRequest)]
    assert isinstance(first, BlockRequest)
    solo.receive(first_to[0], BlockResponse((wrong,)))
    assert solo.core.statistics().tree_blocks == 0
    second_to = [to for to, m in solo.sent if isinstance(m, BlockRequest)][1]
    assert second_to != first_to
    solo.receive(second_to[0], BlockResponse((genuine,)))
    assert solo.core.statistics().tree_blocks == 1
    # Nor does a proposal by somebody else occupy the leader's place.
    solo.receive(0, replace(keys.make_proposal(keys.make_block(2, keys.genesis)), author=0))
    block2 = keys.make_block(2, keys.make_qc(genuine))
    solo.propose(block2)
    assert solo.voted_views == [2]


def test_d7_unsolicited_answers_are_ignored(solo: Solo) -> None:
    keys = solo.keys
    block = keys.make_block(1, keys.genesis)
    before = solo.core.statistics()
    solo.receive(0, BlockResponse((block,)))
    solo.receive(0, CommittedResponse((block,), keys.make_qc(block), 2**40))
    assert solo.core.statistics() == before
