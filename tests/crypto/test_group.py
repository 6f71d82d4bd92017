"""The curve library behind `crypto.group`: its traps, and an independent implementation's word."""

from contextlib import suppress
from itertools import count

import pytest
from blspy import G1Element
from hypothesis import example, given, settings
from hypothesis import strategies as st
from py_ecc.bls.point_compression import compress_G1, compress_G2
from py_ecc.optimized_bls12_381 import FQ, add, field_modulus
from py_ecc.optimized_bls12_381 import G1 as ORACLE_G
from py_ecc.optimized_bls12_381 import G2 as ORACLE_H
from py_ecc.optimized_bls12_381 import multiply as oracle_multiply

from crypto import group
from crypto.group import (
    ORDER,
    SMALL_BITS_MAX,
    SMALL_POINTS_MAX,
    TORSION_EXPONENT,
    G,
    GroupError,
    H,
    decode_curve_point,
    decode_curve_point_wide,
    decode_g1,
    decode_g2,
    decode_scalar,
    encode_g1,
    encode_g1_wide,
    encode_g2,
    encode_scalar,
    hash_to_g1,
    is_identity,
    is_in_g1,
    is_pairing_product_one,
    is_torsion,
    multiply,
    multiply_g2,
    sum_products,
    sum_products_g2,
)

NUMBER = 0x1234_5678_9ABC_DEF0_1234_5678_9ABC_DEF0_1234_5678_9ABC_DEF0_1234_5678_9ABC_DEF
COFACTOR = 0x396C8C005555E1568C00AAAB0000AAAB


def find_curve_points():
    """Points of the curve in the order of x; nearly all are outside G1. At 0 is one of order 3."""
    for x in count(1):
        with suppress(GroupError):
            yield decode_curve_point((x | 4 << 381).to_bytes(48, "big"))


def multiply_by_order(point):
    return multiply(point, ORDER - 1) + point


OUTSIDE = next(point for point in find_curve_points() if not is_in_g1(point))
TORSION = multiply_by_order(OUTSIDE)
ORDER_THREE = next(
    found
    for point in find_curve_points()
    if not is_identity(found := multiply(multiply_by_order(point), COFACTOR // 3))
)


def to_oracle(point):
    wide = encode_g1_wide(point)
    return tuple(FQ(int.from_bytes(each, "big")) for each in (wide[:48], wide[48:], b"\x01"))


def from_oracle(point):
    return compress_G1(point).to_bytes(48, "big")


def test_points_and_their_encodings_equal_those_of_py_ecc():
    assert encode_g1(multiply(G, NUMBER)) == from_oracle(oracle_multiply(ORACLE_G, NUMBER))
    high, low = compress_G2(oracle_multiply(ORACLE_H, NUMBER))
    encoded = high.to_bytes(48, "big") + low.to_bytes(48, "big")
    assert encode_g2(multiply_g2(H, NUMBER)) == encoded


def test_multiplication_outside_the_prime_order_subgroup_equals_that_of_py_ecc():
    """A library may take a shortcut there that holds in the subgroup alone."""
    other = OUTSIDE + G
    for scalar in (3, TORSION_EXPONENT, 2**130 + 7, ORDER - 1):
        expected = from_oracle(oracle_multiply(to_oracle(OUTSIDE), scalar))
        assert encode_g1(multiply(OUTSIDE, scalar)) == expected
        total = from_oracle(
            add(
                oracle_multiply(to_oracle(OUTSIDE), scalar),
                oracle_multiply(to_oracle(other), 2**99),
            )
        )
        assert encode_g1(sum_products([OUTSIDE, other], [scalar, 2**99])) == total


def test_hashing_to_the_curve_follows_rfc_9380():
    """The vector is the first of its appendix J.9.1."""
    tag = b"QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_"
    expected = (
        "052926add2207b76ca4fa57a8734416c8dc95e24501772c814278700eed6d1e4e8cf62d9c09db0fac349612b759e79a1"
        "08ba738453bfed09cb546dbb0783dbb3a5f1f566ed67bb6be0e8c67e2e81a4cc68ee29813bb7994998f3eae0c9c6a265"
    )
    assert encode_g1_wide(hash_to_g1(b"", tag)).hex() == expected
    message = bytes(range(200))
    assert encode_g1(hash_to_g1(message, tag)) == bytes(G1Element.from_message(message, tag))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "group.size_wrong"),
        (encode_g1(G)[:47], "group.size_wrong"),
        (encode_g1(G) + b"\x00", "group.size_wrong"),
        (encode_g1_wide(G), "group.size_wrong"),
        (b"\xc0" + bytes(47), "group.identity"),
        (b"\xc0" + bytes(46) + b"\x01", "group.identity"),
        (b"\xe0" + bytes(47), "group.identity"),
        (b"\xff" * 48, "group.identity"),
        (bytes(48), "group.encoding_invalid"),
        (bytes([encode_g1(G)[0] & 0x7F]) + encode_g1(G)[1:], "group.encoding_invalid"),
        ((1 | 4 << 381).to_bytes(48, "big"), "group.encoding_invalid"),
        ((field_modulus | 4 << 381).to_bytes(48, "big"), "group.encoding_invalid"),
        (encode_g1(OUTSIDE), "group.subgroup"),
        (encode_g1(TORSION), "group.subgroup"),
        (encode_g1(ORDER_THREE), "group.subgroup"),
        (encode_g1(multiply(G, 5) + ORDER_THREE), "group.subgroup"),
    ],
)
def test_what_is_no_canonical_point_of_g1_is_refused(data, code):
    with pytest.raises(GroupError) as caught:
        decode_g1(data)
    assert caught.value.code == code


def test_a_coordinate_above_the_modulus_is_refused_though_it_means_a_point():
    point = next(find_curve_points())
    x = int.from_bytes(encode_g1(point), "big") & ((1 << 381) - 1)
    assert x + field_modulus < 1 << 381
    with pytest.raises(GroupError, match="encoding_invalid"):
        decode_curve_point(((x + field_modulus) | 4 << 381).to_bytes(48, "big"))
    wide = encode_g1_wide(point)
    with pytest.raises(GroupError, match="encoding_invalid"):
        decode_curve_point_wide((x + field_modulus).to_bytes(48, "big") + wide[48:])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (bytes(96), "group.identity"),
        (bytes(95), "group.size_wrong"),
        (encode_g1(G), "group.size_wrong"),
        (b"\xff" * 96, "group.encoding_invalid"),
        (b"\x40" + bytes(95), "group.encoding_invalid"),
        (encode_g1_wide(G)[:95] + b"\x00", "group.encoding_invalid"),
    ],
)
def test_what_are_no_coordinates_of_a_point_is_refused(data, code):
    with pytest.raises(GroupError) as caught:
        decode_curve_point_wide(data)
    assert caught.value.code == code


def test_points_outside_g1_decode_only_where_the_name_says_so():
    assert decode_curve_point(encode_g1(OUTSIDE)) == OUTSIDE
    assert decode_curve_point_wide(encode_g1_wide(OUTSIDE)) == OUTSIDE


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encode_g2(H)[:95], "group.size_wrong"),
        (b"\xc0" + bytes(95), "group.identity"),
        (b"\xff" * 96, "group.identity"),
        (bytes(96), "group.encoding_invalid"),
        (b"\x80" + bytes(94) + b"\x02", "group.subgroup"),
    ],
)
def test_what_is_no_canonical_point_of_g2_is_refused(data, code):
    with pytest.raises(GroupError) as caught:
        decode_g2(data)
    assert caught.value.code == code


def test_scalars_are_32_bytes_below_the_order():
    assert decode_scalar(encode_scalar(ORDER - 1)) == ORDER - 1
    assert decode_scalar(encode_scalar(ORDER)) == 0
    assert encode_scalar(-1) == encode_scalar(ORDER - 1)
    for data in (ORDER.to_bytes(32, "big"), b"\xff" * 32, bytes(31), bytes(33)):
        with pytest.raises(GroupError):
            decode_scalar(data)


@settings(max_examples=60)
@given(st.binary(max_size=100), st.booleans())
@example(b"\x80" + bytes(47), True)
def test_no_bytes_bring_anything_but_a_refusal_out_of_the_decoders(data, is_sized):
    for decoder, size_bytes in (
        (decode_g1, 48),
        (decode_curve_point, 48),
        (decode_curve_point_wide, 96),
        (decode_g2, 96),
        (decode_scalar, 32),
    ):
        with suppress(GroupError):
            decoder(data.ljust(size_bytes, b"\x05")[:size_bytes] if is_sized else data)


def test_a_panic_of_the_library_is_a_refusal_but_an_interrupt_stays_one(monkeypatch):
    class PanicException(BaseException):
        pass

    class Broken:
        raised = PanicException

        @classmethod
        def from_compressed_bytes_unchecked(cls, data):
            raise cls.raised

    monkeypatch.setattr(group, "G1Point", Broken)
    with pytest.raises(GroupError):
        decode_g1(encode_g1(G))
    Broken.raised = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        decode_g1(encode_g1(G))


@settings(max_examples=30)
@given(
    st.lists(
        st.one_of(
            st.integers(-(2**SMALL_BITS_MAX), 2**SMALL_BITS_MAX),
            st.integers(-5, 5),
            st.integers(-ORDER, 2 * ORDER),
        ),
        max_size=6,
    ),
)
@example([1] * (SMALL_POINTS_MAX + 1))
@example([])
def test_sums_of_products_equal_those_made_one_by_one(scalars):
    points = [multiply(G, index + 2) for index in range(len(scalars))]
    factor = sum(scalar * (index + 2) for index, scalar in enumerate(scalars))
    assert sum_products(points, scalars) == multiply(G, factor)
    points_g2 = [multiply_g2(H, index + 2) for index in range(len(scalars))]
    assert sum_products_g2(points_g2, scalars) == multiply_g2(H, factor)


def test_lists_of_unequal_length_are_our_own_mistake():
    with pytest.raises(AssertionError):
        sum_products([G, G], [1])
    with pytest.raises(AssertionError):
        sum_products_g2([H], [1, 2])


def test_torsion_is_what_has_no_part_in_g1():
    assert is_torsion(TORSION)
    assert is_torsion(ORDER_THREE)
    assert is_torsion(G - G)
    assert not is_torsion(G)
    assert not is_torsion(OUTSIDE)
    assert not is_torsion(G + ORDER_THREE)


def test_the_pairing_does_not_notice_a_small_order_part():
    """Why combined keys and shares are checked for membership besides their equation."""
    left, right = multiply(G, 6) + ORDER_THREE, multiply_g2(H, 6)
    assert is_pairing_product_one([(left, H), (-G, right)])
    assert not is_pairing_product_one([(left + G, H), (-G, right)])
