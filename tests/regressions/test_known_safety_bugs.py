"""Safety bugs (S) that others of this family of protocols had: each has a test."""

import pytest
from msgspec.structs import replace

from committee.committee import Committee
from consensus.effects import EvidenceFound
from consensus.evidence import EvidenceError, make_double_timeout, validate_evidence
from consensus.messages import (
    Advance,
    BlockRequest,
    BlockResponse,
    Timeout,
    Vote,
)
from consensus.types import QC
from crypto.digest import Domain, digest
from localnet.sim.solo import Solo

OTHER_CHAIN = digest(Domain.GENESIS, b"another chain")


def test_s1_the_view_of_a_certificate_is_signed(solo: Solo) -> None:
    _, qc = solo.extend(solo.keys.genesis, 1)
    forged = QC(replace(qc.data, view=40), qc.signers, qc.signature)
    solo.receive(0, Advance(forged, None))
    assert solo.refusals[-1:] == ["signature.invalid"]
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
    assert solo.refusals[-1:] == ["qc.view_zero"]
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
    assert solo.refusals[-1:] == ["tc.high_qc_not_maximum"]


def test_s4_a_report_cannot_name_a_view_at_or_above_its_own(solo: Solo) -> None:
    qc1 = solo.run_views(1)
    solo.receive(0, Advance(qc1, solo.keys.make_tc(1, qc1, [((0, 1, 2), 1, 0)])))
    assert solo.refusals[-1:] == ["tc.high_qc_view"]


def test_s4_a_forged_certificate_inside_a_genuine_one_is_refused_again_and_again(
    solo: Solo,
) -> None:
    keys = solo.keys
    _, qc1 = solo.extend(keys.genesis, 1)
    forged = replace(qc1, data=replace(qc1.data, block_id=bytes(32)))
    tc = keys.make_tc(4, forged)
    for _ in range(3):
        solo.receive(0, Advance(keys.genesis, tc))
        assert solo.refusals[-1:] == ["signature.invalid"]
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
    assert solo.refusals[-1:] == ["block.parent_mismatch"]
    solo.propose(replace(solo.keys.make_block(2, qc1), height=5))
    assert solo.refusals[-1:] == ["block.height"]
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
    assert solo.refusals[-1:] == ["block.view_unjustified"]
    solo.receive(0, keys.make_timeout(0, 4, qc1))
    assert solo.refusals[-1:] == ["timeout.view_unjustified"]
    assert solo.view == 1


def test_s14_no_member_is_counted_twice(solo: Solo) -> None:
    keys = solo.keys
    block = keys.make_block(1, keys.genesis)
    two = keys.make_qc(block, signers=(0, 1))
    solo.receive(0, Advance(replace(two, signers=bytes([0b10011])), None))
    assert solo.refusals[-1:] == ["qc.signers"]
    solo.receive(0, Advance(two, None))
    assert solo.refusals[-1:] == ["qc.power"]
    overlapping = keys.make_tc(3, keys.genesis, [((0, 1), 0, 0), ((1, 2), 0, 1)])
    solo.receive(0, Advance(keys.genesis, overlapping))
    assert solo.refusals[-1:] == ["tc.signers_overlap"]
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
    assert solo.refusals[-1:] == ["signature.invalid"]
    proposal = keys.make_proposal(block)
    foreign_signature = keys.sign(block.author, proposal.signing_bytes(OTHER_CHAIN))
    solo.receive(block.author, replace(proposal, signature=foreign_signature))
    assert solo.refusals[-1:] == ["signature.invalid"]
    later = QC(replace(data, epoch=1), foreign.signers, foreign.signature)
    unbanned = next(each for each in keys.everyone if each not in (0, block.author, solo.me))
    solo.receive(unbanned, Advance(later, None))
    assert solo.refusals[-1:] == ["qc.epoch"]
    assert solo.view == 1
