"""Denials of service (D) that others of this family of protocols had: each has a test."""

from msgspec.structs import replace

from consensus.messages import (
    Advance,
    BlockRequest,
    BlockResponse,
    CommittedResponse,
    Proposal,
    Timeout,
    Vote,
)
from consensus.serving import SERVE_BURST
from consensus.types import TimeoutGroup
from consensus.votes import VIEW_AHEAD_MAX
from localnet.sim.solo import Solo


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
    assert solo.refusals[-1:] == ["tc.signers_overlap"]
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
        assert solo.refusals[-1:] == [code]
    assert solo.verified_claims == before


def test_d4_a_message_acts_whole_or_not_at_all(solo: Solo) -> None:
    keys = solo.keys
    qc1 = keys.make_qc(keys.make_block(1, keys.genesis))
    proposal = keys.make_proposal(keys.make_block(2, qc1))
    solo.receive(proposal.author, replace(proposal, signature=bytes([9]) * 96))
    assert solo.refusals[-1:] == ["signature.invalid"]
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
        assert solo.refusals[-1:] == ["block.view_unjustified"]
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
