"""A member's decryption shares, and the judgement of a single one.

Whoever holds tau shares of a point reads what is sealed under it. So a member computes them while
it votes, keeps them in memory, and lets them go only for a committed block; and it multiplies its
secret only with points that it checked itself, never on anybody's request.
"""

from collections.abc import Sequence

from crypto.group import (
    G1_WIDE_SIZE_BYTES,
    ORDER,
    G1Point,
    GroupError,
    H,
    decode_curve_point_wide,
    decode_g1,
    decode_scalar,
    encode_g1_wide,
    is_in_g1,
    is_pairing_product_one,
    multiply,
)
from crypto.threshold.key import ThresholdKey, decode_verification_key
from crypto.threshold.lagrange import compute_share_scale
from crypto.threshold.sealed import CheckedPoint


def compute_shares(
    secrets: Sequence[bytes], tickets: int, points: Sequence[CheckedPoint]
) -> list[bytes]:
    """Return for each secret x_s its shares of all points, 96 bytes each, in one string.

    `secrets` are 32-byte scalars of a committee with `tickets` tickets. 175 us a share.
    """
    scale = pow(compute_share_scale(tickets), -1, ORDER)
    decoded = [decode_curve_point_wide(point) for point in points]
    shares = []
    for secret in secrets:
        exponent = decode_scalar(secret) * scale % ORDER
        assert exponent
        shares.append(b"".join(encode_g1_wide(multiply(each, exponent)) for each in decoded))
    return shares


def split_shares(shares: bytes) -> list[bytes]:
    """Return the single shares of a ticket's string. A remainder makes a short last one."""
    return [
        shares[start : start + G1_WIDE_SIZE_BYTES]
        for start in range(0, len(shares), G1_WIDE_SIZE_BYTES)
    ]


def is_share_right(key: ThresholdKey, ticket: int, first: bytes, share: bytes) -> bool:
    """Is `share` ticket's share of U, whose compressed bytes are `first`? 1.9 ms, no randomness.

    False for bytes that are no share at all: this is what anybody asks of evidence, so it trusts
    nothing but the key. Raises `GroupError` for a U that is no point of G1: such a thing is never
    opened, so nobody owes a share of it.
    """
    point = decode_g1(first)
    if not 1 <= ticket <= key.tickets:
        return False
    try:
        decoded = decode_share(share)
        verification_key = decode_verification_key(key.verification_keys[ticket - 1])
    except GroupError:
        return False
    scaled = multiply(decoded, compute_share_scale(key.tickets))
    return is_pairing_product_one([(scaled, H), (-point, verification_key)])


def decode_share(share: bytes) -> G1Point:
    """Return the point of a share, in G1 and not the identity. Raises `GroupError`; 54 us."""
    point = decode_curve_point_wide(share)
    if not is_in_g1(point):
        raise GroupError("group.subgroup")
    return point
