"""Every structural rule of `consensus.validation` refuses the message that breaks it."""

from typing import Any

import pytest
from msgspec.structs import replace

from consensus.certificates import CertificateCache
from consensus.evidence import make_double_vote
from consensus.messages import Advance, CommittedResponse, Proposal, Timeout, Vote
from consensus.validation import ValidationError, Validator
from crypto.codec import encode
from crypto.scheme import verify_claim
from localnet.sim.keys import CHAIN_ID, Keys

KEYS = Keys()
GENESIS = KEYS.genesis
BLOCK1 = KEYS.make_block(1, GENESIS)
QC1 = KEYS.make_qc(BLOCK1)
BLOCK2 = KEYS.make_block(2, QC1)
QC2 = KEYS.make_qc(BLOCK2)
BLOCK3 = KEYS.make_block(3, QC2)
QC3 = KEYS.make_qc(BLOCK3)
TC4 = KEYS.make_tc(4, QC3)
LANES = (KEYS.certify_lane(0, 1), KEYS.certify_lane(2, 1))
STATE = KEYS.certify_state(1, BLOCK1.block_id(CHAIN_ID))
EVIDENCE = encode(
    make_double_vote(KEYS.make_vote(0, BLOCK1), KEYS.make_vote(0, replace(BLOCK1, time_ms=99)))
)
BLOCK5 = KEYS.make_block(5, QC3, tc=TC4, lanes=LANES, state_certificate=STATE, evidence=(EVIDENCE,))
LEADER = BLOCK5.author
OTHER = (LEADER + 1) % 4


@pytest.fixture
def validator() -> Validator:
    return Validator(CHAIN_ID, KEYS.committee, KEYS.schedule, GENESIS, CertificateCache())


def weak_lane() -> Any:
    data = LANES[0].data
    return type(LANES[0])(data, *KEYS.aggregate((1,), data.signing_bytes(CHAIN_ID)))


def changed_lane(**changes: Any) -> Any:
    return replace(LANES[0], data=replace(LANES[0].data, **changes))


def weak_state() -> Any:
    header = STATE.header
    return type(STATE)(header, *KEYS.aggregate((0, 1), header.signing_bytes(CHAIN_ID)))


def test_good_messages_pass_and_their_claims_hold(validator: Validator) -> None:
    proposal = KEYS.make_proposal(BLOCK5)
    timeout = KEYS.make_timeout(0, 5, QC3, tip_view=0, last_tc=TC4)
    direct = KEYS.make_timeout(0, 4, QC3, tip_view=4)
    response = CommittedResponse((BLOCK1, BLOCK2), QC2, 2)
    checks = [
        *validator.check_proposal(LEADER, proposal),
        *validator.check_timeout(0, timeout),
        *validator.check_timeout(0, direct),
        *validator.check_advance(Advance(QC3, TC4)),
        *validator.check_committed_response(response),
    ]
    claims = [claim for check in checks for claim in check.claims]
    assert len(claims) > 8
    assert all(verify_claim(KEYS.scheme, claim) for claim in claims)
    validator.check_vote(0, KEYS.make_vote(0, BLOCK5))


BROKEN_BLOCKS = {
    "proposal.not_leader": replace(BLOCK5, author=OTHER),
    "proposal.epoch": replace(BLOCK5, epoch=1),
    "block.parent_mismatch": replace(BLOCK5, parent_id=bytes(32)),
    "block.height": replace(BLOCK5, height=9),
    "block.view_unjustified": replace(BLOCK5, tc=None),
    "block.tc_needless": replace(KEYS.make_block(4, QC3), tc=KEYS.make_tc(3, QC2)),
    "block.qc_older_than_tc": KEYS.make_block(5, QC2, tc=TC4),
    "block.lanes_order": replace(BLOCK5, lanes=LANES[::-1]),
    "block.field_unused": replace(BLOCK5, openings=b"x"),
    "block.evidence_repeated": replace(BLOCK5, evidence=(EVIDENCE, EVIDENCE)),
    "block.evidence_invalid": replace(BLOCK5, evidence=(b"junk",)),
    "block.state_too_new": replace(BLOCK5, state_certificate=KEYS.certify_state(3, bytes(32))),
    "availability.epoch": replace(BLOCK5, lanes=(changed_lane(epoch=1),)),
    "availability.author": replace(BLOCK5, lanes=(changed_lane(author=4),)),
    "availability.sequence_zero": replace(BLOCK5, lanes=(changed_lane(sequence=0),)),
    "availability.signers": replace(BLOCK5, lanes=(replace(LANES[0], signers=b"\xff"),)),
    "availability.power": replace(BLOCK5, lanes=(weak_lane(),)),
    "state.power": replace(BLOCK5, state_certificate=weak_state()),
}


@pytest.mark.parametrize("code", BROKEN_BLOCKS)
def test_a_proposal_of_a_broken_block_is_refused(validator: Validator, code: str) -> None:
    block = BROKEN_BLOCKS[code]
    with pytest.raises(ValidationError) as refused:
        validator.check_proposal(block.author, KEYS.make_proposal(block))
    assert refused.value.code == code


def test_two_tips_of_one_lane_and_the_inbox_are_refused(validator: Validator) -> None:
    twice = (KEYS.certify_lane(0, 1), KEYS.certify_lane(0, 2))
    for code, block in (
        ("block.lanes_order", replace(BLOCK5, lanes=twice)),
        ("block.field_unused", replace(BLOCK5, inbox=(b"x",))),
    ):
        with pytest.raises(ValidationError, match=code):
            validator.check_block(block)


PROPOSAL = KEYS.make_proposal(BLOCK5)
TIMEOUT = KEYS.make_timeout(0, 5, QC3, last_tc=TC4)
VOTE = KEYS.make_vote(0, BLOCK5)

BROKEN_MESSAGES: list[tuple[str, int, Proposal | Timeout | Vote]] = [
    ("proposal.author", OTHER, PROPOSAL),
    ("proposal.view_mismatch", LEADER, replace(PROPOSAL, view=6)),
    ("proposal.block_author", LEADER, replace(PROPOSAL, block=replace(BLOCK5, author=OTHER))),
    ("timeout.author", 1, TIMEOUT),
    ("timeout.epoch", 0, replace(TIMEOUT, data=replace(TIMEOUT.data, epoch=1))),
    ("timeout.high_qc_mismatch", 0, replace(TIMEOUT, high_qc=QC2)),
    ("timeout.high_qc_view", 0, replace(TIMEOUT, data=replace(TIMEOUT.data, high_qc_view=5))),
    ("timeout.tip_view", 0, KEYS.make_timeout(0, 5, QC3, tip_view=6, last_tc=TC4)),
    ("timeout.tip_view", 0, KEYS.make_timeout(0, 5, QC3, tip_view=3, last_tc=TC4)),
    ("timeout.tc_needless", 0, KEYS.make_timeout(0, 4, QC3, last_tc=KEYS.make_tc(3, QC2))),
    ("timeout.view_unjustified", 0, KEYS.make_timeout(0, 5, QC3)),
    ("timeout.view_unjustified", 0, KEYS.make_timeout(0, 6, QC3, last_tc=TC4)),
    ("timeout.high_qc_older_than_tc", 0, KEYS.make_timeout(0, 5, QC2, last_tc=TC4)),
    ("vote.author", 1, VOTE),
    ("vote.epoch", 0, replace(VOTE, data=replace(VOTE.data, epoch=1))),
    ("vote.view_zero", 0, replace(VOTE, data=replace(VOTE.data, view=0))),
    ("vote.height_zero", 0, replace(VOTE, data=replace(VOTE.data, height=0))),
]


def check(validator: Validator, sender: int, message: Proposal | Timeout | Vote) -> None:
    match message:
        case Proposal():
            validator.check_proposal(sender, message)
        case Timeout():
            validator.check_timeout(sender, message)
        case Vote():
            validator.check_vote(sender, message)


@pytest.mark.parametrize(("code", "sender", "message"), BROKEN_MESSAGES)
def test_a_broken_message_is_refused(
    validator: Validator, code: str, sender: int, message: Proposal | Timeout | Vote
) -> None:
    with pytest.raises(ValidationError) as refused:
        check(validator, sender, message)
    assert refused.value.code == code


BROKEN_CERTIFICATES = {
    "tc.power": KEYS.make_tc(4, QC3, [((0, 1), 3, 0)]),
    "tc.epoch": replace(TC4, epoch=1),
    "tc.groups_order": KEYS.make_tc(4, QC3, [((0, 1), 3, 4), ((2, 3), 2, 0)]),
    "tc.signers_overlap": KEYS.make_tc(4, QC3, [((0, 1), 2, 0), ((1, 2, 3), 3, 0)]),
    "tc.high_qc_not_maximum": KEYS.make_tc(4, QC2, [((0, 1, 2), 3, 0)]),
    "tc.high_qc_view": KEYS.make_tc(4, QC3, [((0, 1, 2), 4, 0)]),
    "tc.tip_view": KEYS.make_tc(4, QC3, [((0, 1, 2), 3, 5)]),
}


@pytest.mark.parametrize("code", BROKEN_CERTIFICATES)
def test_a_broken_timeout_certificate_is_refused(validator: Validator, code: str) -> None:
    with pytest.raises(ValidationError) as refused:
        validator.check_tc(BROKEN_CERTIFICATES[code])
    assert refused.value.code == code


def test_a_group_without_signers_is_refused(validator: Validator) -> None:
    tc = KEYS.make_tc(4, QC3, [((0, 1), 2, 0), ((2, 3), 3, 0)])
    empty = replace(tc.groups[0], signers=b"\x00")
    with pytest.raises(ValidationError, match=r"tc\.group_empty"):
        validator.check_tc(replace(tc, groups=(empty, tc.groups[1])))


def test_a_committed_response_has_a_proof_exactly_when_it_has_blocks(validator: Validator) -> None:
    assert validator.check_committed_response(CommittedResponse((), None, 5)) == []
    with pytest.raises(ValidationError, match=r"sync\.proof_missing"):
        validator.check_committed_response(CommittedResponse((BLOCK1,), None, 5))
    with pytest.raises(ValidationError, match=r"sync\.blocks_missing"):
        validator.check_committed_response(CommittedResponse((), QC1, 5))


def test_a_verified_certificate_needs_no_second_verification() -> None:
    cache = CertificateCache()
    validator = Validator(CHAIN_ID, KEYS.committee, KEYS.schedule, GENESIS, cache)
    for certificate in (QC3, TC4, *LANES, STATE):
        cache.add(certificate)
    (own,) = validator.check_proposal(LEADER, PROPOSAL)
    assert own.certificate is None
