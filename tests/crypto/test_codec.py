"""The canonical codec: one encoding a value, and hostile bytes raise `DecodeError` only."""

import struct
import sys
import tracemalloc
from typing import Annotated, Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta, Raw, Struct, to_builtins

from crypto.codec import DecodeError, decode, decode_lenient, encode, is_nesting_bounded
from crypto.scheme import Claim


class Leaf(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    number: int
    data: bytes
    name: Annotated[str, Meta(max_length=300)]
    flag: bool
    maybe: int | None
    many: tuple[bytes, ...]


class Vote(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="vote"):
    leaf: Leaf


class Note(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="note"):
    leaves: tuple[Leaf, ...]


class Nest(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    children: tuple["Nest", ...]


class Index(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    entries: dict[str, int]


class Loose(Struct, frozen=True):
    """Skips fields that it does not know."""

    number: int = 0


class Free(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    anything: Any


TYPES = [Leaf, Vote | Note, Nest, Index, Claim, Loose, Free]

leaves = st.builds(
    Leaf,
    number=st.integers(-(2**63), 2**64 - 1),
    data=st.binary(max_size=300),
    name=st.text(max_size=300),
    flag=st.booleans(),
    maybe=st.none() | st.integers(0, 2**32),
    many=st.lists(st.binary(max_size=4), max_size=20).map(tuple),
)


@given(leaf=leaves)
def test_values_survive_and_the_bytes_equal_those_of_an_independent_encoder(leaf):
    data = encode(leaf)
    assert decode(Leaf, data) == leaf
    assert data == msgpack.packb(to_builtins(leaf, builtin_types=(bytes,)), use_bin_type=True)


@given(message=st.builds(Vote, leaves) | st.builds(Note, st.lists(leaves, max_size=3).map(tuple)))
def test_tagged_unions_survive(message):
    assert decode(Vote | Note, encode(message)) == message


def test_any_buffer_decodes():
    leaf = Leaf(1, b"d", "n", True, None, ())
    data = encode(leaf)
    assert decode(Leaf, bytearray(data)) == decode(Leaf, memoryview(data)) == leaf


@pytest.mark.parametrize(
    "data",
    [
        b"\x93\x91\xc4\x01k\xc4\x01m\xd9\x01s",  # a string where bytes belong
        b"\xdc\x00\x03\x91\xc4\x01k\xc4\x01m\xc4\x01s",  # the array header in its long form
        b"\x93\xdc\x00\x01\xc4\x01k\xc4\x01m\xc4\x01s",
        b"\x93\x91\xc5\x00\x01k\xc4\x01m\xc4\x01s",  # the length of a byte string in two bytes
        b"\x93\x91\xc6\x00\x00\x00\x01k\xc4\x01m\xc4\x01s",
        b"\x94\x91\xc4\x01k\xc4\x01m\xc4\x01s\x00",  # a field too many
        b"\x92\x91\xc4\x01k\xc4\x01m",  # one too few
        b"\x93\x91\xc4\x01k\xc4\x01m\xc4\x01s\x00",  # a byte behind
        b"\x93\x91\xc4\x01k\xc4\x01m\xc4\x01",  # one missing
        b"\x93\x91\xa1k\xa1m\xa1s",
        b"\x83\x00\x01\x02\x03\x04\x05",
        b"",
    ],
)
def test_other_forms_of_a_value_are_refused(data):
    good = b"\x93\x91\xc4\x01k\xc4\x01m\xc4\x01s"
    assert decode(Claim, good) == Claim((b"k",), b"m", b"s")
    with pytest.raises(DecodeError) as caught:
        decode(Claim, data)
    assert caught.value.code == "codec.malformed"


@pytest.mark.parametrize(
    "number",
    [b"\xcc\x05", b"\xcd\x00\x05", b"\xce\0\0\0\x05", b"\xcf\0\0\0\0\0\0\0\x05", b"\xd0\x05"],
)
def test_padded_integers_decode_leniently_only(number):
    data = b"\x96" + number + b"\xc4\x00\xa0\xc2\xc0\x90"
    assert decode_lenient(Leaf, data).number == 5
    with pytest.raises(DecodeError):
        decode(Leaf, data)


@pytest.mark.parametrize("number", [b"\xca\x40\xa0\0\0", b"\xcb\x40\x14\0\0\0\0\0\0"])
def test_a_float_never_passes_for_an_integer_in_canonical_bytes(number):
    with pytest.raises(DecodeError):
        decode(Leaf, b"\x96" + number + b"\xc4\x00\xa0\xc2\xc0\x90")


def test_a_map_key_given_twice_is_refused():
    twice = b"\x91\x82\xa1a\x01\xa1a\x02"
    with pytest.raises(DecodeError):
        decode(Index, twice)


def test_a_timestamp_that_rounds_up_to_year_10000_is_refused():
    newest = b"\xc7\x0c\xff" + struct.pack(">Iq", 999_999_999, 253_402_300_799)
    with pytest.raises(DecodeError):
        decode_lenient(Any, newest)


def test_text_that_is_not_utf_8_is_refused():
    with pytest.raises(DecodeError):
        decode(Leaf, b"\x96\x05\xc4\x00\xa1\xff\xc2\xc0\x90")
    with pytest.raises(DecodeError):
        decode(Leaf, b"\x96\x05\xc4\x00\xa3\xed\xa0\x80\xc2\xc0\x90")


@settings(max_examples=300)
@given(data=st.binary(max_size=80), position=st.integers(0, 60), leaf=leaves)
def test_random_and_damaged_bytes_decode_canonically_or_raise_decode_error(data, position, leaf):
    damaged = bytearray(encode(Vote(leaf)))
    damaged[position % len(damaged)] ^= 1 + (len(data) & 0x7F)
    for candidate in (data, bytes(damaged)):
        for type_ in TYPES:
            try:
                value = decode(type_, candidate)
            except DecodeError:
                continue
            assert encode(value) == candidate


@pytest.fixture
def raised_recursion_limit():
    """What importing some libraries does to the whole process."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("raised_recursion_limit")
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"\xdc\x00\x01", b"\x92\x91", b"\x81"])
def test_nesting_bombs_are_refused(opening):
    for type_ in TYPES:
        with pytest.raises(DecodeError):
            decode(type_, opening * 100_000)
        with pytest.raises(DecodeError):
            decode(type_, opening * 100_000 + b"\x90")


def test_the_types_whose_nesting_is_not_bounded_are_found():
    assert [is_nesting_bounded(each) for each in TYPES] == [
        True,
        True,
        False,
        True,
        True,
        False,
        False,
    ]
    assert not is_nesting_bounded(dict[str, Any])
    assert not is_nesting_bounded(tuple[int, list[Raw]])
    assert is_nesting_bounded(tuple[Annotated[bytes, Meta(max_length=4)], ...] | None)


def test_around_the_deepest_nesting_bytes_decode_or_raise_decode_error():
    refused = set()
    for depth in range(850, 1100):
        data = b"\x91" * (2 * depth) + b"\x90"
        for type_ in (Nest, Free):
            try:
                assert encode(decode(type_, data)) == data
            except DecodeError:
                refused.add(depth)
    assert 1099 in refused


def test_reasonable_nesting_decodes():
    value = Nest(())
    for _ in range(200):
        value = Nest((value,))
    assert decode(Nest, encode(value)) == value
    assert decode(Free, encode(Free({"a": [[1]]}))).anything == {"a": [[1]]}


@pytest.mark.parametrize("header", [b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"])
@pytest.mark.parametrize("length", [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x05\x00\x00\x00"])
def test_a_huge_declared_length_costs_no_memory(header, length):
    tracemalloc.start()
    try:
        for prefix in (b"", b"\x91", b"\x96\x05", b"\x93\x91", b"\x96\x05\xc4\x00"):
            for type_ in TYPES:
                with pytest.raises(DecodeError):
                    decode(type_, prefix + header + length + b"\x00" * 64)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2**20
