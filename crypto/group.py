"""The groups of BLS12-381: points, scalars, encodings, sums of products, pairings, hash to curve.

The one module that knows which library does the curve algebra (arkworks, through
py-arkworks-bls12381). G1 = <G> and G2 = <H> have the prime order `ORDER`; e is the pairing. A
scalar is an integer modulo `ORDER`, here a plain `int`. Compressed encodings are those of the ZCash
specification, as in Ethereum; the uncompressed ones are x and y, big-endian.

Decoders take hostile bytes and raise `GroupError`, nothing else. What the library would let through
and these decoders do not:

- Any bytes with the infinity flag decode to the identity there, whatever else they hold. The
  identity is no valid key, share or ciphertext part anywhere in Rota; no decoder returns it.
- Checked decoders report a point off the curve and one outside the prime-order subgroup alike. Here
  they are two codes, and a caller that needs only the curve says so by the decoder's name.
- Sums of products over lists of unequal length drop the excess silently. Here they are asserted.

No input is known that makes the library panic. A panic unwinds into an exception that no `except
Exception` catches; the decoders turn one into a refusal, so that a peer's bytes cannot end the
process.

Multiplication is not constant in time: it skips the zero bits at a scalar's top and its doublings
depend on the bits. Whoever can time single multiplications by a secret on this machine may learn of
it. Secrets are applied to whole blocks of points in a process of its own.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from py_arkworks_bls12381 import GT, Scalar
from py_arkworks_bls12381 import G1Point as G1Point
from py_arkworks_bls12381 import G2Point as G2Point

T = TypeVar("T")

ORDER: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
"""r, the prime order of G1 and G2."""

TORSION_EXPONENT: Final = 0xD201000000010001
"""1 - x for the curve's parameter x: multiplying by it takes every point of the curve into G1 (RFC
9380, section 8.8.1), for it kills exactly the points of the cofactor and is coprime to r."""

SCALAR_SIZE_BYTES: Final = 32
G1_SIZE_BYTES: Final = 48
G1_WIDE_SIZE_BYTES: Final = 96
"""An uncompressed point of G1: twice the bytes, but to decode it takes no square root."""
G2_SIZE_BYTES: Final = 96

TAG_SIZE_MAX_BYTES: Final = 255
"""Of a domain separation tag; RFC 9380 hashes longer ones first, which nobody here needs."""

SMALL_BITS_MAX: Final = 40
"""Up to this length of the scalars a sum over a few points is faster one by one than by buckets."""

SMALL_POINTS_MAX: Final = 32
"""Above this number of points buckets are faster for scalars of most lengths."""

G: Final = G1Point()
"""The generator of G1."""

H: Final = G2Point()
"""The generator of G2."""

_IDENTITY: Final = G1Point.identity()
_IDENTITY_G2: Final = G2Point.identity()
_COMPRESSED_FLAG = 0x80
_INFINITY_FLAG = 0x40


class GroupError(Exception):
    """Bytes that are no element of the group asked for; `code` says why.

    `group.size_wrong`, `group.encoding_invalid` (not canonical, or no point of the curve),
    `group.identity`, `group.subgroup` (on the curve, but not of prime order) or
    `group.scalar_invalid`.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def decode_g1(data: bytes) -> G1Point:
    """Return the point of G1, not the identity, whose compressed encoding is `data`; 75 us."""
    point = decode_curve_point(data)
    if not point.is_in_subgroup():
        raise GroupError("group.subgroup")
    return point


def decode_curve_point(data: bytes) -> G1Point:
    """Return the point of the curve around G1, in G1 or not, that `data` compresses; 26 us.

    Never multiply such a point by a secret: its small-order part would give the secret away modulo
    the small order.
    """
    _validate_flags(data, G1_SIZE_BYTES)
    return _decode(G1Point.from_compressed_bytes_unchecked, data)


def decode_curve_point_wide(data: bytes) -> G1Point:
    """Return the point of the curve around G1, in G1 or not, with these coordinates; 1 us."""
    if len(data) != G1_WIDE_SIZE_BYTES:
        raise GroupError("group.size_wrong")
    point = _decode(G1Point.from_xy_bytes_unchecked_be, data)
    if point == _IDENTITY:
        raise GroupError("group.identity")
    return point


def decode_g2(data: bytes) -> G2Point:
    """Return the point of G2, not the identity, whose compressed encoding is `data`; 160 us."""
    _validate_flags(data, G2_SIZE_BYTES)
    point = _decode(G2Point.from_compressed_bytes_unchecked, data)
    if not point.is_in_subgroup():
        raise GroupError("group.subgroup")
    return point


def _validate_flags(data: bytes, size_bytes: int) -> None:
    if len(data) != size_bytes:
        raise GroupError("group.size_wrong")
    if not data[0] & _COMPRESSED_FLAG:
        raise GroupError("group.encoding_invalid")
    if data[0] & _INFINITY_FLAG:
        raise GroupError("group.identity")


def _decode(decoder: Callable[[bytes], T], data: bytes) -> T:
    try:
        return decoder(data)
    except ValueError as error:
        raise GroupError("group.encoding_invalid") from error
    except BaseException as error:
        # A panic of the library is no `Exception`, and its class cannot be imported. Whatever else
        # comes here (an interrupt, say) is not about these bytes.
        if type(error).__name__ != "PanicException":
            raise
        raise GroupError("group.encoding_invalid") from error


def decode_scalar(data: bytes) -> int:
    """Return the scalar whose 32 big-endian bytes are `data`: below `ORDER`, zero included."""
    if len(data) != SCALAR_SIZE_BYTES:
        raise GroupError("group.size_wrong")
    scalar = int.from_bytes(data, "big")
    if scalar >= ORDER:
        raise GroupError("group.scalar_invalid")
    return scalar


def encode_scalar(scalar: int) -> bytes:
    """Return the 32 bytes of a scalar."""
    return (scalar % ORDER).to_bytes(SCALAR_SIZE_BYTES, "big")


def encode_g1(point: G1Point) -> bytes:
    """Return the 48 compressed bytes; 1 us for a point as decoded, 6 us for one as computed."""
    return point.to_compressed_bytes()


def encode_g1_wide(point: G1Point) -> bytes:
    """Return the 96 uncompressed bytes."""
    return point.to_xy_bytes_be()


def encode_g2(point: G2Point) -> bytes:
    """Return the 96 compressed bytes."""
    return point.to_compressed_bytes()


def is_in_g1(point: G1Point) -> bool:
    """Is a point of the curve in the prime-order subgroup? 53 us."""
    return point.is_in_subgroup()


def is_identity(point: G1Point) -> bool:
    return point == _IDENTITY


def is_identity_g2(point: G2Point) -> bool:
    return point == _IDENTITY_G2


def is_torsion(point: G1Point) -> bool:
    """Has a point of the curve no part in G1: is it a cofactor's point or the identity?"""
    return multiply(point, TORSION_EXPONENT) == _IDENTITY


def multiply(point: G1Point, scalar: int) -> G1Point:
    """Return `scalar * point`; 170 us for a scalar of full size, 0.4 us a bit below."""
    return point * to_scalar(scalar)


def multiply_g2(point: G2Point, scalar: int) -> G2Point:
    """Return `scalar * point`; 560 us for a scalar of full size."""
    return point * to_scalar(scalar)


def sum_products(points: Sequence[G1Point], scalars: Sequence[int]) -> G1Point:
    """Return the sum of `scalars[i] * points[i]`, for points of the curve in G1 or not.

    For 1024 points 24 us each at full size, 12.5 us at 128 bits. Nothing sums up to the identity.
    """
    assert len(points) == len(scalars)
    if len(points) <= SMALL_POINTS_MAX:
        bits = max((abs(scalar).bit_length() for scalar in scalars), default=0)
        if bits <= SMALL_BITS_MAX:
            return _sum_small_products(points, scalars)
    return G1Point.multiexp_unchecked(list(points), [to_scalar(each) for each in scalars])


def _sum_small_products(points: Sequence[G1Point], scalars: Sequence[int]) -> G1Point:
    """The same for small integers, negative ones among them: no bucket is filled, and a negative
    one is not turned into a scalar of full size."""
    total = _IDENTITY
    for point, scalar in zip(points, scalars, strict=True):
        product = point if scalar in (1, -1) else point * to_scalar(abs(scalar))
        total = total + product if scalar >= 0 else total - product
    return total


def sum_products_g2(points: Sequence[G2Point], scalars: Sequence[int]) -> G2Point:
    """Return the sum of `scalars[i] * points[i]`."""
    assert len(points) == len(scalars)
    return G2Point.multiexp_unchecked(list(points), [to_scalar(each) for each in scalars])


def is_pairing_product_one(pairs: Sequence[tuple[G1Point, G2Point]]) -> bool:
    """Is the product of e(left, right) over all pairs one? 1.3 ms for two pairs.

    Blind to what points on the left hold besides their part in G1: callers check membership.
    """
    assert pairs
    return GT.pairing_check([left for left, _ in pairs], [right for _, right in pairs])


def hash_to_g1(message: bytes, tag: bytes) -> G1Point:
    """Return a point of G1 whose logarithm nobody knows: suite `BLS12381G1_XMD:SHA-256_SSWU_RO_`
    of RFC 9380 under the domain separation tag `tag`; 210 us."""
    assert 0 < len(tag) <= TAG_SIZE_MAX_BYTES
    return G1Point.hash_to_curve(message, tag)


def to_scalar(scalar: int) -> Scalar:
    """Return the library's form of an integer modulo `ORDER`.

    By bytes: converting the integer itself takes six times as long and refuses negative ones.
    """
    if not 0 <= scalar < ORDER:
        scalar %= ORDER
    return Scalar.from_le_bytes(scalar.to_bytes(SCALAR_SIZE_BYTES, "little"))
