"""Bitmaps: one encoding a set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.bitmap import (
    BitmapError,
    compute_bitmap_size_bytes,
    decode_bitmap,
    encode_bitmap,
    is_member_set,
)


@given(size=st.integers(1, 256), data=st.data())
def test_a_set_survives_the_round_trip(size, data):
    indices = sorted(data.draw(st.sets(st.integers(0, size - 1))))
    bitmap = encode_bitmap(indices, size)
    assert len(bitmap) == compute_bitmap_size_bytes(size) == -(-size // 8)
    assert decode_bitmap(bitmap, size) == tuple(indices)
    assert [i for i in range(size + 9) if is_member_set(bitmap, i)] == indices


@given(size=st.integers(1, 40), bitmap=st.binary(max_size=6))
def test_whatever_decodes_is_the_encoding_of_its_members(size, bitmap):
    try:
        indices = decode_bitmap(bitmap, size)
    except BitmapError:
        return
    assert encode_bitmap(indices, size) == bitmap


def test_spare_bits_and_wrong_lengths_are_refused():
    assert decode_bitmap(b"\xff\x03", 10) == tuple(range(10))
    for bitmap in (b"\xff\x07", b"\xff\x80", b"\xff", b"\xff\x03\x00", b""):
        with pytest.raises(BitmapError) as caught:
            decode_bitmap(bitmap, 10)
        assert caught.value.code == "bitmap.malformed"


def test_the_bit_order_is_fixed():
    assert encode_bitmap([0, 9], 12) == b"\x01\x02"
    assert encode_bitmap([], 3) == b"\x00"


@pytest.mark.parametrize("indices", [[2, 1], [1, 1], [8], [-1]])
def test_indices_that_do_not_ascend_inside_the_committee_are_our_bug(indices):
    with pytest.raises(AssertionError):
        encode_bitmap(indices, 8)
