"""The committee's randomness: threshold BLS signatures, one for each epoch and each block.

sigma = x' H1(m), H1 hashing to G1, x' a shared secret of its own. It is unique, so nobody can
choose among several; and nobody knows it before tau tickets have worked together. Shares are those
of H1(m) as of any other point, with the same combination and the same judgement.

The secret must not be the one that bodies are sealed to: whoever could have H1(m) opened as the U
of a body, or a U signed as a message, would turn one use against the other.

Neither a certificate nor a block id can stand in for it: a leader chooses whose votes to aggregate
and what to put into a block, and would choose until it liked the outcome.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from crypto.digest import Domain, digest
from crypto.group import (
    GroupError,
    H,
    decode_g1,
    encode_g1,
    encode_g1_wide,
    hash_to_g1,
    is_pairing_product_one,
)
from crypto.threshold.key import ThresholdKey, decode_verification_key
from crypto.threshold.opening import BlockOpening, open_block
from crypto.threshold.sealed import CheckedPoint
from crypto.threshold.shares import compute_shares, is_share_right

BEACON_TAG: Final = b"ROTA-BEACON-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_"
"""Domain separation tag of H1."""

BEACON_SIZE_BYTES: Final = 48
"""Of sigma, compressed."""


def compute_epoch_message(chain_id: bytes, epoch: int) -> bytes:
    """Return what an epoch's beacon signs: it seeds election and leaders."""
    return digest(Domain.BEACON_EPOCH, chain_id, epoch.to_bytes(8, "big"))


def compute_block_message(chain_id: bytes, epoch: int, height: int, block_id: bytes) -> bytes:
    """Return what a block's beacon signs: it seeds the order of takers."""
    numbers = epoch.to_bytes(8, "big"), height.to_bytes(8, "big")
    return digest(Domain.BEACON_BLOCK, chain_id, *numbers, block_id)


def compute_beacon_shares(secrets: Sequence[bytes], tickets: int, message: bytes) -> list[bytes]:
    """Return the share of sigma that each secret gives, 96 bytes; 210 us and 200 us a ticket."""
    return compute_shares(secrets, tickets, [_hash(message)])


def combine_beacon(
    key: ThresholdKey, message: bytes, shares: Mapping[int, bytes], seed: bytes
) -> BlockOpening:
    """Combine shares by ticket to sigma, the one key of the result, or name who gave bad ones."""
    return open_block(key, [_hash(message)], shares, seed)


def is_beacon_share_right(key: ThresholdKey, ticket: int, message: bytes, share: bytes) -> bool:
    """Is this ticket's share of sigma? What anybody asks of evidence; no randomness; 2 ms."""
    first = encode_g1(hash_to_g1(message, BEACON_TAG))
    return is_share_right(key, ticket, first, share)


def is_beacon_right(key: ThresholdKey, message: bytes, beacon: bytes) -> bool:
    """e(sigma, H) = e(H1(m), Y2): is this the one beacon of the message? 1.6 ms."""
    try:
        sigma = decode_g1(beacon)
    except GroupError:
        return False
    public_key = decode_verification_key(key.public_key_g2)
    return is_pairing_product_one([(sigma, H), (-hash_to_g1(message, BEACON_TAG), public_key)])


def derive_seed(beacon: bytes) -> bytes:
    """Return the 32 bytes of randomness that a verified sigma stands for."""
    return digest(Domain.BEACON_SEED, beacon)


def _hash(message: bytes) -> CheckedPoint:
    """H1(m): in G1 because it was hashed there."""
    return CheckedPoint(encode_g1_wide(hash_to_g1(message, BEACON_TAG)))
