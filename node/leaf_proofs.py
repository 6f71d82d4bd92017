"""What a user makes of a proof of the state, trusting nothing but the genesis: a quorum of its
committee certified the state root of a height, and the leaf stands under that root, or provably
does not."""

from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from committee.committee import Committee
from consensus.types import StateCertificate
from crypto.bitmap import BitmapError, decode_bitmap
from crypto.codec import DecodeError, decode
from crypto.scheme import SignatureScheme
from engine.commitment.proofs import PROOF_MAX_BYTES, validate_proof
from engine.errors import ProofError
from node.exit_codes import ExitCode, OperatorError


class DisprovenError(OperatorError):
    """A node's proof does not hold."""

    code = "proof.refuted"
    exit_code = ExitCode.SAFETY


class LeafAnswer(Struct, frozen=True):
    """A node's answer to the query `proof`; anybody may have written it."""

    height: int
    market_root: bytes
    key: bytes
    proof: Annotated[bytes, Meta(max_length=PROOF_MAX_BYTES)]


class ProvenLeaf(NamedTuple):
    """What is certain about a leaf."""

    height: int
    market_root: bytes
    value: bytes | None
    """None: there is no such leaf."""
    signers: tuple[int, ...]
    """Members who certified the state."""


def verify_leaf(
    key: bytes,
    answer: LeafAnswer,
    encoded_certificate: bytes,
    *,
    chain_id: bytes,
    committee: Committee,
    scheme: SignatureScheme,
) -> ProvenLeaf:
    """Check a proof of the leaf `key` to the end. Raises `DisprovenError`."""
    try:
        signers = verify_state_certificate(
            encoded_certificate, answer.height, answer.market_root, chain_id, committee, scheme
        )
        value = validate_proof(answer.market_root, key, answer.proof)
    except ProofError as error:
        raise DisprovenError(
            f"the proof does not hold: {error.code}: {error}",
            advice="keep the answer (--json), and ask another node with --node",
        ) from error
    return ProvenLeaf(answer.height, answer.market_root, value, signers)


def verify_state_certificate(
    encoded: bytes,
    height: int,
    market_root: bytes,
    chain_id: bytes,
    committee: Committee,
    scheme: SignatureScheme,
) -> tuple[int, ...]:
    """Who certified the market root of a height, by index: a quorum. Raises `ProofError`
    (`proof.certificate`)."""
    try:
        certificate = decode(StateCertificate, encoded)
        signers = tuple(decode_bitmap(certificate.signers, len(committee)))
    except (DecodeError, BitmapError) as error:
        raise _mismatch(f"the certificate is malformed: {error}") from error
    header = certificate.header
    if (header.height, header.market_root) != (height, market_root):
        raise _mismatch("the certificate is for another state")
    keys = [committee.members[index].consensus_key for index in signers]
    message = header.signing_bytes(chain_id)
    is_enough = committee.power_of(signers) >= committee.quorum_power
    if not is_enough or not scheme.verify_aggregate(keys, message, certificate.signature):
        raise _mismatch("no quorum of the committee signed the certificate")
    return signers


def _mismatch(detail: str) -> ProofError:
    return ProofError("proof.certificate", detail)
