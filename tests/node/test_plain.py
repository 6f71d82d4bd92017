"""Structs become plain maps the same way wherever people or other programs read them."""

from enum import IntEnum, StrEnum

import pytest
from msgspec import Struct

from node.groups import walk_leaves
from node.plain import to_plain
from node.protocol import ReceiptLevel


class Number(IntEnum):
    FIRST_ONE = 1


class Text(StrEnum):
    DOTTED = "a.b"


class Inner(Struct):
    number: Number
    text: Text


class Outer(Struct):
    inner: tuple[Inner, ...]
    data: bytes
    nothing: None
    flag: bool


VALUE = Outer((Inner(Number.FIRST_ONE, Text.DOTTED),), b"\x01\xff", None, True)


@pytest.mark.parametrize(("is_hex", "data"), [(False, b"\x01\xff"), (True, "01ff")])
def test_structs_enumerations_and_bytes_at_any_depth(is_hex, data):
    inner = {"number": "first_one", "text": "a.b"}
    expected = {"inner": [inner], "data": data, "nothing": None, "flag": True}
    plain = to_plain({"outer": [VALUE], b"\x01\xff": 7}, is_hex=is_hex)
    assert plain == {"outer": [expected], data: 7}
    assert type(plain["outer"][0]["inner"][0]["text"]) is str


def test_the_leaves_of_a_group_come_in_order_whatever_their_depth():
    first, second, third = ValueError(1), KeyboardInterrupt(), ValueError(3)
    group = BaseExceptionGroup("a", [BaseExceptionGroup("b", [first, second]), third])
    assert list(walk_leaves(group)) == [first, second, third]
    assert list(walk_leaves(first)) == [first]


def test_every_receipt_level_has_a_rank_of_its_own_and_a_refusal_can_still_be_overtaken():
    rising = ["received", "available", "refused", "ordered", "executed"]
    assert sorted(ReceiptLevel, key=lambda level: level.rank) == rising
    assert len({level.rank for level in ReceiptLevel}) == len(ReceiptLevel)
