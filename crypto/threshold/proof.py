"""The header proof: whoever made a sealed body knows the exponent of its U, for this label.

Equality of two logarithms by Chaum and Pedersen (CRYPTO 1992), made non-interactive with a
challenge over the label and the ciphertext as in TDH2. Without it a body could be made from a
pending one of somebody else (U + dG), and opening the one would open the other.

The proof travels with its commitments A and Abar instead of the challenge, 64 bytes more, because
only then can many proofs be checked in one sum. A and Abar are checked to be on the curve alone;
the equations hold *up to the cofactor*, in the single check as in the batch, so that the two never
differ: a small-order part of A could otherwise vanish in the one and not in the other.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from crypto.digest import Domain, digest
from crypto.group import (
    G1_SIZE_BYTES,
    G,
    G1Point,
    GroupError,
    decode_curve_point,
    decode_g1,
    decode_scalar,
    encode_g1_wide,
    hash_to_g1,
    is_torsion,
    sum_products,
)
from crypto.threshold.sealed import (
    HEADER_SIZE_BYTES,
    POINTS_SIZE_BYTES,
    SIZE_CLASSES_BYTES,
    CheckedPoint,
    SealFault,
)
from crypto.threshold.weights import draw_weights

CHALLENGE_SIZE_BYTES: Final = 16
"""128 bits of challenge: a false proof takes 2^128 tries."""

SINGLE_CHECKS_MAX: Final = 4
"""Up to so many headers a failing batch is judged one by one; a larger one is split in halves."""

SECOND_GENERATOR: Final = hash_to_g1(
    b"second generator", b"ROTA-TDH2-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_"
)
"""Gbar."""

_SIZES = frozenset(SIZE_CLASSES_BYTES)


class _Header(NamedTuple):
    """A decoded header and the challenge that its label and body give it."""

    first: G1Point
    first_bar: G1Point
    commitment: G1Point
    commitment_bar: G1Point
    challenge: int
    response: int


def compute_challenge(label_digest: bytes, points: bytes, ciphertext: bytes) -> int:
    """Return c, below 2^128. `points` are U, Ubar, A and Abar as they stand in the body."""
    bound = digest(Domain.SEALED_PROOF, label_digest, sha256(ciphertext).digest(), points)
    return int.from_bytes(bound[:CHALLENGE_SIZE_BYTES], "big")


def check_headers(
    items: Sequence[tuple[bytes, bytes]], seed: bytes
) -> list[CheckedPoint | SealFault]:
    """Judge (label digest, sealed body) pairs: for each its U, uncompressed, or what is wrong.

    One sum for all: 290 us a header, 0.6 ms where judged alone. The verdicts are those of
    `find_header_fault`, whatever else is in the batch. A false proof among n good ones costs the
    batch about twice over. `seed`: see `weights`.
    """
    headers = [_decode_header(label_digest, body) for label_digest, body in items]
    inputs = [part for item in items for part in (item[0], item[1][:HEADER_SIZE_BYTES])]
    weights = draw_weights(seed, inputs, 2 * len(items))
    decoded = [(i, each) for i, each in enumerate(headers) if not isinstance(each, SealFault)]
    false = set(_find_false(decoded, weights))
    verdicts: list[CheckedPoint | SealFault] = []
    for index, header in enumerate(headers):
        if isinstance(header, SealFault):
            verdicts.append(header)
        elif index in false:
            verdicts.append(SealFault.PROOF)
        else:
            verdicts.append(CheckedPoint(encode_g1_wide(header.first)))
    return verdicts


def find_header_fault(label_digest: bytes, body: bytes) -> SealFault | None:
    """Judge one sealed body, without any randomness: what stands as evidence."""
    header = _decode_header(label_digest, body)
    if isinstance(header, SealFault):
        return header
    return None if _is_proof_right(header) else SealFault.PROOF


def _decode_header(label_digest: bytes, body: bytes) -> _Header | SealFault:
    if len(body) not in _SIZES:
        return SealFault.SIZE
    points = body[:POINTS_SIZE_BYTES]
    first, first_bar, commitment, commitment_bar = (
        points[start : start + G1_SIZE_BYTES] for start in range(0, len(points), G1_SIZE_BYTES)
    )
    try:
        response = decode_scalar(body[POINTS_SIZE_BYTES:HEADER_SIZE_BYTES])
    except GroupError:
        return SealFault.SCALAR
    try:
        return _Header(
            decode_g1(first),
            decode_g1(first_bar),
            decode_curve_point(commitment),
            decode_curve_point(commitment_bar),
            compute_challenge(label_digest, points, body[HEADER_SIZE_BYTES:]),
            response,
        )
    except GroupError:
        return SealFault.POINT


def _is_proof_right(header: _Header) -> bool:
    """A + cU - zG and Abar + c Ubar - z Gbar have no part in G1."""
    scalars = (header.challenge, -header.response)
    left = sum_products((header.first, G), scalars) + header.commitment
    if not is_torsion(left):
        return False
    right = sum_products((header.first_bar, SECOND_GENERATOR), scalars) + header.commitment_bar
    return is_torsion(right)


def _find_false(headers: Sequence[tuple[int, _Header]], weights: Sequence[int]) -> list[int]:
    """Return the numbers of the headers whose proof is false, by halving."""
    if not headers:
        return []
    if len(headers) == 1:
        index, header = headers[0]
        return [] if _is_proof_right(header) else [index]
    if _are_proofs_right(headers, weights):
        return []
    step = 1 if len(headers) <= SINGLE_CHECKS_MAX else len(headers) // 2
    false: list[int] = []
    for start in range(0, len(headers), step):
        false += _find_false(headers[start : start + step], weights)
    return false


def _are_proofs_right(headers: Sequence[tuple[int, _Header]], weights: Sequence[int]) -> bool:
    """The sum of all equations, each with a random weight, has no part in G1."""
    points: list[G1Point] = [G, SECOND_GENERATOR]
    response_sum, response_bar_sum = 0, 0
    scalars = [0, 0]
    for index, header in headers:
        weight, weight_bar = weights[2 * index : 2 * index + 2]
        points += header.commitment, header.first, header.commitment_bar, header.first_bar
        scalars += weight, weight * header.challenge, weight_bar, weight_bar * header.challenge
        response_sum += weight * header.response
        response_bar_sum += weight_bar * header.response
    scalars[0], scalars[1] = -response_sum, -response_bar_sum
    return is_torsion(sum_products(points, scalars))
