"""What waits for a certificate, and what is remembered, is bounded."""

from typing import Any

import pytest
from msgspec import msgpack

from consensus.types import CheckpointHeader, StateCertificate
from crypto.codec import encode
from engine.block import BlockOutput, BlockStats
from engine.instructions import Side
from engine.receipts import Fill
from node import streams as streams_module
from node.events import CertifiedNotice
from node.plain import to_plain
from node.protocol import AccountEvents, AccountEventsMissed, Channel, TradeEvent
from node.streams import RECENT_TRADES_MAX, Streams, describe_trade


class Door:
    """Hears everything, up to so many events."""

    def __init__(self, room: int = 10**9) -> None:
        self.told: list[Any] = []
        self.room = room

    def has_subscribers(self, channel: Channel) -> bool:
        return len(self.told) < self.room

    def is_watched(self, channel: Channel, account: bytes) -> bool:
        return True

    def publish(self, channel: Channel, make: Any) -> None:
        self.told.append(make(1, len(self.told)))

    def publish_to(self, channel: Channel, account: bytes, make: Any) -> None:
        self.publish(channel, make)


def make_output(height: int, fills: int = 1) -> bytes:
    fill = Fill(1, 100, 1, Side.BUY, height, height, bytes(32), bytes(32), 0, 0, 0)
    stats = BlockStats(*[0] * len(BlockStats.__struct_fields__))
    return encode(BlockOutput(height, bytes(32), bytes(32), (), (fill,) * fills, (), stats))


def certify(streams: Streams, height: int) -> None:
    header = CheckpointHeader(0, height, bytes(32), 1, bytes(32), bytes(32), bytes(32))
    certificate = StateCertificate(header, b"\x0f", bytes(96))
    streams.on_certified(CertifiedNotice(certificate, (header,)))


def heights_of(streams: Streams) -> list[int]:
    return [height for height, _ in streams.recent_fills]


def test_results_are_told_once_certified_and_not_before():
    door = Door()
    streams = Streams(door)
    for height in (3, 5, 9):
        streams.on_output(height, make_output(height))
    assert door.told == []
    certify(streams, 5)
    assert heights_of(streams) == [3, 5]
    certify(streams, 9)
    assert heights_of(streams) == [3, 5, 9]


@pytest.mark.parametrize("side", Side)
def test_a_trade_is_described_as_every_struct_is(side):
    fill = Fill(1, 100, 2, side, 3, 4, b"m" * 32, b"t" * 32, -5, 6, 7)
    assert encode(describe_trade(8, fill)) == encode({"height": 8, **to_plain(fill)})


@pytest.mark.parametrize("room", [0, 7])
def test_trades_that_nobody_hears_are_not_described(monkeypatch, room):
    described = []
    describe = streams_module.describe_trade
    monkeypatch.setattr(
        streams_module, "describe_trade", lambda *fill: described.append(fill) or describe(*fill)
    )
    streams = Streams(Door(room))
    streams.on_output(1, make_output(1, RECENT_TRADES_MAX + 1))
    certify(streams, 1)
    assert len(described) == room
    assert heights_of(streams) == [1] * RECENT_TRADES_MAX


def test_only_the_newest_trades_are_remembered():
    streams = Streams(Door())
    for height in (1, 2):
        streams.on_output(height, make_output(height, RECENT_TRADES_MAX - 1))
    certify(streams, 2)
    assert heights_of(streams) == [1] + [2] * (RECENT_TRADES_MAX - 1)


@pytest.mark.parametrize(
    ("bound", "value"),
    [
        ("UNCERTIFIED_OUTPUTS_MAX", 4),
        ("UNCERTIFIED_OUTPUTS_MAX_BYTES", 5 * len(make_output(1)) - 1),
    ],
)
def test_while_certificates_stay_away_the_oldest_outputs_make_room(monkeypatch, bound, value):
    monkeypatch.setattr(streams_module, bound, value)
    streams = Streams(Door())
    for height in range(1, 8):
        streams.on_output(height, make_output(height))
    certify(streams, 7)
    assert heights_of(streams) == [4, 5, 6, 7]
    # What was told makes room too.
    for height in range(8, 12):
        streams.on_output(height, make_output(height))
    certify(streams, 11)
    assert heights_of(streams)[-4:] == [8, 9, 10, 11]


def told_of(door: Door, type_: type) -> list[Any]:
    return [each for each in door.told if isinstance(each, type_)]


def test_owners_hear_of_certified_heights_in_frames_of_bounded_size(monkeypatch):
    monkeypatch.setattr(streams_module, "EVENTS_PER_FRAME_MAX", 2)
    door = Door()
    streams = Streams(door)
    streams.on_output(3, make_output(3, fills=5))
    assert door.told == []
    certify(streams, 3)
    frames = told_of(door, AccountEvents)
    assert [frame.height for frame in frames] == [3, 3, 3]
    leaves = [entry["leaf"] for frame in frames for entry in msgpack.decode(frame.events)]
    assert leaves == [0, 1, 2, 3, 4]


def test_what_an_earlier_life_executed_is_said_to_be_missed_once_it_is_certified():
    door = Door()
    streams = Streams(door, (4, 7))
    streams.on_output(8, make_output(8))
    certify(streams, 6)
    assert told_of(door, AccountEventsMissed) == []
    certify(streams, 8)
    certify(streams, 9)
    (missed,) = told_of(door, AccountEventsMissed)
    assert (missed.from_height, missed.to_height) == (4, 7)
    assert isinstance(door.told[door.told.index(missed) + 1 :][0], TradeEvent)


def test_outputs_that_made_room_are_said_to_be_missed(monkeypatch):
    monkeypatch.setattr(streams_module, "UNCERTIFIED_OUTPUTS_MAX", 2)
    door = Door()
    streams = Streams(door)
    for height in range(1, 6):
        streams.on_output(height, make_output(height))
    certify(streams, 5)
    (missed,) = told_of(door, AccountEventsMissed)
    assert (missed.from_height, missed.to_height) == (1, 3)
    assert [frame.height for frame in told_of(door, AccountEvents)] == [4, 5]
