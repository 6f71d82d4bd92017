"""Proofs of knowledge: of logarithms under G (Schnorr), of one under two bases (Chaum, Pedersen).

Made non-interactive by a challenge over a context, the statement and the commitments; a proof holds
for its context alone. The nonce follows from secret, context and statement, so a proof needs no
randomness and repeating it gives away nothing. All points are in G1 already: nothing small of order
is left that the equations could miss.

| bytes | what |
|---|---|
| 16 | challenge c |
| 32 each | response z = w + c x, one a secret |
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from crypto.digest import Domain, digest
from crypto.group import (
    ORDER,
    SCALAR_SIZE_BYTES,
    G,
    G1Point,
    GroupError,
    decode_scalar,
    encode_g1,
    encode_scalar,
    multiply,
)

CHALLENGE_SIZE_BYTES: Final = 16

Statement = Sequence[tuple[G1Point, G1Point, int]]
"""(base, point, number of the secret): point = secret * base."""


def compute_proof_size_bytes(secrets: int) -> int:
    """Return the length of a proof about so many secrets."""
    return CHALLENGE_SIZE_BYTES + secrets * SCALAR_SIZE_BYTES


def prove(domain: Domain, context: bytes, statement: Statement, secrets: Sequence[int]) -> bytes:
    """Return the proof that we know the secrets of the statement."""
    bound = digest(domain, b"statement", context, *_encode(statement))
    nonces = [_derive_nonce(domain, bound, number, each) for number, each in enumerate(secrets)]
    commitments = [multiply(base, nonces[number]) for base, _, number in statement]
    challenge = _compute_challenge(domain, context, statement, commitments)
    number = int.from_bytes(challenge, "big")
    responses = (
        encode_scalar(nonce + number * secret)
        for nonce, secret in zip(nonces, secrets, strict=True)
    )
    return challenge + b"".join(responses)


def is_proof_right(domain: Domain, context: bytes, statement: Statement, proof: bytes) -> bool:
    """Does whoever made these bytes know all secrets of the statement? 0.3 ms an equation."""
    if len(proof) != compute_proof_size_bytes(1 + max(number for _, _, number in statement)):
        return False
    challenge = proof[:CHALLENGE_SIZE_BYTES]
    number = int.from_bytes(challenge, "big")
    try:
        responses = [
            decode_scalar(proof[start : start + SCALAR_SIZE_BYTES])
            for start in range(CHALLENGE_SIZE_BYTES, len(proof), SCALAR_SIZE_BYTES)
        ]
    except GroupError:
        return False
    commitments = [
        multiply(base, responses[secret]) - multiply(point, number)
        for base, point, secret in statement
    ]
    return _compute_challenge(domain, context, statement, commitments) == challenge


def prove_knowledge(domain: Domain, context: bytes, secrets: Sequence[int]) -> bytes:
    """Return the proof that we know the logarithms under G of `secrets[i] * G`."""
    statement = [(G, multiply(G, each), number) for number, each in enumerate(secrets)]
    return prove(domain, context, statement, secrets)


def is_knowledge_right(
    domain: Domain, context: bytes, points: Sequence[G1Point], proof: bytes
) -> bool:
    """Does whoever made the proof know the logarithms of all points under G?"""
    statement = [(G, point, number) for number, point in enumerate(points)]
    return is_proof_right(domain, context, statement, proof)


def _compute_challenge(
    domain: Domain, context: bytes, statement: Statement, commitments: Sequence[G1Point]
) -> bytes:
    committed = map(encode_g1, commitments)
    bound = digest(domain, b"challenge", context, *_encode(statement), *committed)
    return bound[:CHALLENGE_SIZE_BYTES]


def _encode(statement: Statement) -> list[bytes]:
    return [encode_g1(each) for base, point, _ in statement for each in (base, point)]


def _derive_nonce(domain: Domain, bound: bytes, number: int, secret: int) -> int:
    """Return a nonce in [1, r): a function that nobody can compute without the secret."""
    seed = digest(domain, b"nonce", bound, number.to_bytes(2, "big"), encode_scalar(secret))
    stream = hashlib.shake_256(seed).digest(48)
    return int.from_bytes(stream, "big") % (ORDER - 1) + 1
