"""Owners hear what befalls their accounts: whom an entry concerns, and a stream without gaps."""

from contextlib import asynccontextmanager
from typing import Any, get_args

import pytest
import trio
from msgspec import Raw

from crypto.codec import encode
from engine.block import BlockOutput, BlockStats
from engine.instructions import Side
from engine.receipts import (
    Event,
    Fill,
    FundingEvent,
    OrderEvent,
    ReasonCode,
    Receipt,
    Status,
    TransferEvent,
)
from node.account_events import KINDS, describe_entries, list_concerned
from node.client_events import Cursor, watch_account
from node.client_stream import DoorError
from node.protocol import AccountEvents, AccountEventsMissed, Channel

ALICE, BOB = b"a" * 32, b"b" * 32
FILL = Fill(1, 100, 1, Side.BUY, 1, 2, ALICE, BOB, 0, 0, 0)
EXPIRED = OrderEvent(1, 3, 0, BOB, ReasonCode.ORDER_EXPIRED, 1, 0)
GIFT = TransferEvent(ALICE, BOB, 5)


def make_output(height: int = 1) -> BlockOutput:
    receipt = Receipt(bytes(32), 0, Status.ACCEPTED, ReasonCode.OK)
    events = (FundingEvent(1, 2, 3), EXPIRED, GIFT)
    stats = BlockStats(*[0] * len(BlockStats.__struct_fields__))
    return BlockOutput(height, bytes(32), bytes(32), (receipt,), (FILL,), events, stats)


def test_every_fill_and_event_has_a_kind_of_its_own_and_names_fields_that_it_has():
    assert set(KINDS) == {Fill, *get_args(Event)}
    assert len({kind.name for kind in KINDS.values()}) == len(KINDS)
    for type_, kind in KINDS.items():
        assert set(kind.concerns) <= set(type_.__struct_fields__)
        assert not {"kind", "leaf", "height"} & set(type_.__struct_fields__)


def test_both_sides_of_an_entry_hear_of_it_once_and_markets_concern_nobody():
    assert list_concerned(FILL) == (ALICE, BOB)
    assert list_concerned(TransferEvent(ALICE, ALICE, 1)) == (ALICE,)
    assert list_concerned(FundingEvent(1, 2, 3)) == ()


def test_entries_are_named_by_their_leaf_under_the_root_of_receipts():
    told = list(describe_entries(make_output(), BOB.__eq__))
    assert [account for account, _ in told] == [BOB] * 3
    entries = [entry for _, entry in told]
    assert [(entry["kind"], entry["leaf"]) for entry in entries] == [
        ("fill", 1),
        ("order", 3),
        ("transfer", 4),
    ]
    assert entries[1]["code"] == "order.expired"


class Node:
    """A node's door as a client sees it: an archive of one entry a height, and a live stream."""

    def __init__(self, archived: int, certified: int, live: list[Any], page: int = 3) -> None:
        self._archived = archived
        self._certified = certified
        self._page = page
        self.asked: list[tuple[int, int]] = []
        self._send, self._receive = trio.open_memory_channel[Any](100)
        for each in live:
            self._send.send_nowait(each)
        self._send.close()

    async def subscribe(self, channel: Channel, account: bytes) -> Any:
        assert (channel, account) == (Channel.ACCOUNT, ALICE)
        return self._receive

    async def query(self, name: str, account: bytes, height: int, leaf: int) -> Any:
        assert (name, account) == ("events", ALICE)
        self.asked.append((height, leaf))
        last = min(self._archived, height + self._page - 1)
        # What is certified comes into the archive a moment later.
        self._archived = self._certified
        heights = range(height, last + 1)
        return {
            "events": [make_entry(each) for each in heights if (each, 0) >= (height, leaf)],
            "next_height": max(height, last + 1),
            "next_leaf": 0 if last >= height else leaf,
            "certified_height": self._certified,
        }


def make_entry(height: int) -> dict[str, Any]:
    return {"height": height, "leaf": 0, "kind": "order"}


def make_frame(height: int) -> AccountEvents:
    return AccountEvents(1, 0, height, Raw(encode([{"leaf": 0, "kind": "order"}])))


async def hear(node: Node, start: Cursor | None) -> list[int]:
    return [entry["height"] async for entry in watch_account(node, ALICE, start)]


@pytest.mark.parametrize("archived", [0, 4, 8])
async def test_what_was_and_what_comes_are_one_stream_wherever_they_meet(autojump_clock, archived):
    node = Node(archived, 8, [make_frame(height) for height in (7, 8, 9, 10)])
    assert await hear(node, Cursor(2, 0)) == list(range(2, 11))


async def test_without_a_start_only_what_comes_is_told_and_nothing_is_asked():
    node = Node(8, 8, [make_frame(9)])
    assert await hear(node, None) == [9]
    assert node.asked == []


async def test_heights_that_the_stream_missed_are_read_from_the_archive(autojump_clock):
    node = Node(8, 8, [make_frame(4), AccountEventsMissed(1, 1, 3, 8), make_frame(9)])
    assert await hear(node, None) == [4, 5, 6, 7, 8, 9]


async def test_a_start_ahead_of_the_chain_is_waited_for():
    node = Node(3, 3, [make_frame(height) for height in range(4, 9)])
    assert await hear(node, Cursor(7, 0)) == [7, 8]


@asynccontextmanager
async def malformed():
    with pytest.raises(DoorError) as caught:
        yield
    assert caught.value.code == "door.malformed"


@pytest.mark.parametrize(
    "raw", [b"\xc1", encode([1]), encode([{"kind": "order"}]), encode([{"leaf": "1", "kind": 2}])]
)
async def test_frames_that_are_no_entries_end_the_stream_as_malformed(raw):
    async with malformed():
        await hear(Node(0, 0, [AccountEvents(1, 0, 5, Raw(raw))]), None)


async def test_an_archive_that_goes_backwards_is_malformed():
    node = Node(8, 8, [])

    async def query(*_: object) -> dict[str, Any]:
        return {"events": [], "next_height": 1, "next_leaf": 0, "certified_height": 9}

    node.query = query  # type: ignore[method-assign]  # a lie instead of the archive
    async with malformed():
        await hear(node, Cursor(5, 0))
