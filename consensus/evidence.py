"""Proof that a member signed two things of which an honest member signs at most one.

Evidence is self-contained: committee, chain id and the object suffice to convict. It is formed only
where the two signed contents differ in a way that no honest member can produce, crashes and
restarts included, because a write-once record guards each kind: one vote a view, one timeout a
view, one proposal a view, one batch a place in the lane, one result a height. Contents are
compared, never signatures: one content signed twice proves nothing.

The two halves are in byte order, so one offence has one encoding.
"""

from typing import Final

from msgspec import Struct

from committee.committee import Committee, MemberIndex
from consensus.messages import StateVote, Timeout, Vote, proposal_signing_bytes
from consensus.types import CheckpointHeader, SignedBatchHeader, TimeoutData, VoteData
from crypto.codec import DecodeError, decode, encode
from crypto.digest import Domain, digest
from crypto.scheme import Claim, IdentityScheme, SignatureScheme, verify_claim
from crypto.types import BlsSignature, Digest, Uint

EVIDENCE_SIZE_MAX_BYTES: Final = 1_024
"""Encoded evidence of any kind fits."""


class EvidenceError(Exception):
    """The evidence convicts nobody."""

    code = "evidence.invalid"


class DoubleVote(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="vote"):
    """Two votes of one member in one view."""

    offender: MemberIndex
    first: VoteData
    first_signature: BlsSignature
    second: VoteData
    second_signature: BlsSignature


class DoubleTimeout(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="timeout"
):
    """Two timeouts of one member for one view that report different certificates."""

    offender: MemberIndex
    first: TimeoutData
    first_signature: BlsSignature
    second: TimeoutData
    second_signature: BlsSignature


class DoubleProposal(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="proposal"
):
    """Two blocks proposed by one member in one view."""

    offender: MemberIndex
    epoch: Uint
    view: Uint
    first: Digest
    first_signature: BlsSignature
    second: Digest
    second_signature: BlsSignature


class DoubleBatch(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="batch"):
    """Two batches at one place of a member's lane."""

    first: SignedBatchHeader
    second: SignedBatchHeader

    @property
    def offender(self) -> int:
        return self.first.header.author


class DoubleStateVote(
    Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="state_vote"
):
    """Two results that one member signed for one height of one chain.

    Each signature is a share in a state certificate, and two certificates for one height would
    settle two histories: this attacks settlement as a double vote attacks the order, and is
    slashed like one. It does not say which result is right: a member that signs one result, even
    a wrong one, commits no offence here. A member whose execution is not deterministic is spared
    as long as it keeps its record of what it signed, since it halts instead of signing again
    (`checkpoints`). Without the record, on a disk that was emptied or restored, it would sign
    twice and be convicted: the two signatures do the same harm, and nobody can tell why they were
    given.
    """

    offender: MemberIndex
    first: CheckpointHeader
    first_signature: BlsSignature
    second: CheckpointHeader
    second_signature: BlsSignature


Evidence = DoubleVote | DoubleTimeout | DoubleProposal | DoubleBatch | DoubleStateVote


# ---- making ----------------------------------------------------------------------------------


def make_double_vote(one: Vote, other: Vote) -> DoubleVote:
    """Evidence from two different votes of one member in one view, not verified yet."""
    first, second = sorted((one, other), key=lambda vote: encode(vote.data))
    return DoubleVote(one.author, first.data, first.signature, second.data, second.signature)


def make_double_timeout(one: Timeout, other: Timeout) -> DoubleTimeout:
    """Evidence from two different timeouts of one member for one view, not verified yet."""
    first, second = sorted((one, other), key=lambda timeout: encode(timeout.data))
    return DoubleTimeout(one.author, first.data, first.signature, second.data, second.signature)


def make_double_proposal(
    author: int, epoch: int, view: int, one: tuple[bytes, bytes], other: tuple[bytes, bytes]
) -> DoubleProposal:
    """Evidence from two (block id, proposal signature) of one view, not verified yet."""
    first, second = sorted((one, other))
    return DoubleProposal(author, epoch, view, first[0], first[1], second[0], second[1])


def make_double_batch(one: SignedBatchHeader, other: SignedBatchHeader) -> DoubleBatch:
    """Evidence from two different signed headers at one place of a lane, not verified yet."""
    first, second = sorted((one, other), key=lambda signed: encode(signed.header))
    return DoubleBatch(first, second)


def make_double_state_vote(one: StateVote, other: StateVote) -> DoubleStateVote:
    """Evidence from two different results of one member for one height, not verified yet."""
    first, second = sorted((one, other), key=lambda vote: encode(vote.header))
    return DoubleStateVote(
        one.author, first.header, first.signature, second.header, second.signature
    )


# ---- judging ---------------------------------------------------------------------------------


def validate_evidence(evidence: Evidence, committee: Committee) -> None:
    """Check that the two contents contradict each other; raises `EvidenceError`.

    Signatures are not looked at. Together with `compute_evidence_claims` it makes a conviction.
    """
    if evidence.offender >= len(committee):
        raise EvidenceError("the offender is no member")
    match evidence:
        case DoubleVote(first=first, second=second) | DoubleTimeout(first=first, second=second):
            same_place = first.view == second.view and first.epoch == second.epoch
            epoch = first.epoch
        case DoubleProposal():
            same_place, epoch = True, evidence.epoch
        case DoubleBatch():
            one, other = evidence.first.header, evidence.second.header
            places = {(each.epoch, each.author, each.sequence) for each in (one, other)}
            same_place, epoch = len(places) == 1, one.epoch
        case DoubleStateVote(first=result, second=rival):
            same_place = result.height == rival.height and result.epoch == rival.epoch
            epoch = result.epoch
    if epoch != committee.epoch:
        raise EvidenceError("the evidence is of another epoch")
    if not same_place:
        raise EvidenceError("the two contents do not compete")
    first_bytes, second_bytes = _contents(evidence)
    if first_bytes >= second_bytes:
        raise EvidenceError("the two contents are one, or out of order")


def _contents(evidence: Evidence) -> tuple[bytes, bytes]:
    match evidence:
        case DoubleVote() | DoubleTimeout() | DoubleStateVote():
            return encode(evidence.first), encode(evidence.second)
        case DoubleProposal():
            return evidence.first, evidence.second
        case DoubleBatch():
            return encode(evidence.first.header), encode(evidence.second.header)


def is_signed_by_identity(evidence: Evidence) -> bool:
    """Are its signatures those of an identity key (Ed25519), not of a consensus key (BLS)?"""
    return isinstance(evidence, DoubleBatch)


def compute_evidence_claims(
    evidence: Evidence, committee: Committee, chain_id: bytes
) -> tuple[Claim, Claim]:
    """The two signatures that must both verify; `is_signed_by_identity` says by which scheme."""
    member = committee.members[evidence.offender]
    if isinstance(evidence, DoubleBatch):
        identity = (member.identity_key,)
        one, other = evidence.first, evidence.second
        return (
            Claim(identity, one.author_signing_bytes(chain_id), one.signature),
            Claim(identity, other.author_signing_bytes(chain_id), other.signature),
        )
    key = (member.consensus_key,)
    if isinstance(evidence, DoubleProposal):
        epoch, view = evidence.epoch, evidence.view
        first = proposal_signing_bytes(chain_id, epoch, view, evidence.first)
        second = proposal_signing_bytes(chain_id, epoch, view, evidence.second)
    else:
        first = evidence.first.signing_bytes(chain_id)
        second = evidence.second.signing_bytes(chain_id)
    return (
        Claim(key, first, evidence.first_signature),
        Claim(key, second, evidence.second_signature),
    )


def verify_evidence(
    evidence: Evidence,
    committee: Committee,
    chain_id: bytes,
    scheme: SignatureScheme,
    identity_scheme: IdentityScheme,
) -> bool:
    """Does the evidence convict its offender? All in one call, for a replay.

    A running node takes the parts apart, so that the claims go to its workers.
    """
    try:
        validate_evidence(evidence, committee)
    except EvidenceError:
        return False
    claims = compute_evidence_claims(evidence, committee, chain_id)
    if is_signed_by_identity(evidence):
        return all(
            identity_scheme.verify(claim.public_keys[0], claim.message, claim.signature)
            for claim in claims
        )
    return all(verify_claim(scheme, claim) for claim in claims)


# ---- bytes -----------------------------------------------------------------------------------


def compute_evidence_id(encoded: bytes) -> bytes:
    """The digest by which an offence is counted once."""
    return digest(Domain.EVIDENCE, encoded)


def decode_evidence(encoded: bytes) -> Evidence:
    """Decode what a block carries; raises `EvidenceError`."""
    if len(encoded) > EVIDENCE_SIZE_MAX_BYTES:
        raise EvidenceError("the evidence is too large")
    try:
        evidence: Evidence = decode(Evidence, encoded)  # type: ignore[arg-type]  # msgspec takes a union, `type[T]` does not
    except DecodeError as error:
        raise EvidenceError(str(error)) from error
    return evidence
