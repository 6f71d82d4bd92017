"""The limits that nobody meets in an ordinary block: of genesis, of a committee, of 64 bits."""

import msgspec
import pytest

from crypto.codec import DecodeError, decode, encode
from engine.block import BlockInput, Reporter
from engine.genesis import EngineGenesis, MarketParams
from engine.instructions import OracleReport, PlaceOrder, Side
from engine.limits import (
    DEPTH_LEVELS_MAX,
    MARKETS_MAX,
    OPEN_ORDERS_PER_ACCOUNT_MAX,
    OPEN_ORDERS_PER_MARKET_MAX,
    REPORTERS_MAX,
    SEQUENCE_MAX,
    TIME_MAX_MS,
)
from engine.views import view_book

MARKET = MarketParams(1, "M", 10_000, 1_000, 100_000, 50_000, 0, 0, 500_000, 60_000)


def make_block(reporters: int) -> BlockInput:
    keys = (number.to_bytes(32, "big") for number in range(reporters))
    return BlockInput(1, 1, bytes(32), reporters=tuple(Reporter(key, 1) for key in keys))


def make_genesis(markets: int = 1, account_orders: int = 1, market_orders: int = 1):
    market = msgspec.structs.replace(MARKET, open_orders_max=market_orders)
    return EngineGenesis((market,) * markets, account_open_orders_max=account_orders)


@pytest.mark.parametrize(
    ("largest", "too_large"),
    [
        (make_genesis(markets=MARKETS_MAX), make_genesis(markets=MARKETS_MAX + 1)),
        (
            make_genesis(account_orders=OPEN_ORDERS_PER_ACCOUNT_MAX),
            make_genesis(account_orders=OPEN_ORDERS_PER_ACCOUNT_MAX + 1),
        ),
        (
            make_genesis(market_orders=OPEN_ORDERS_PER_MARKET_MAX),
            make_genesis(market_orders=OPEN_ORDERS_PER_MARKET_MAX + 1),
        ),
        (make_block(REPORTERS_MAX), make_block(REPORTERS_MAX + 1)),
    ],
)
def test_what_is_beyond_a_limit_cannot_even_be_decoded(largest, too_large):
    assert decode(type(largest), encode(largest)) == largest
    with pytest.raises(DecodeError):
        decode(type(too_large), encode(too_large))


def test_the_last_time_that_an_order_can_end_at(world):
    order = PlaceOrder(1, Side.BUY, 900, 1, good_til_ms=TIME_MAX_MS)
    assert world.one(world.ALICE, order).code == "ok"
    order = PlaceOrder(1, Side.BUY, 900, 1, good_til_ms=TIME_MAX_MS + 1)
    assert world.one(world.ALICE, order).code == "order.good_til_invalid"


def test_the_last_sequence_of_a_reporter(world):
    report = OracleReport(1, 1_000, SEQUENCE_MAX, world.time_ms)
    assert world.one(world.REPORTER, report).code == "ok"
    for sequence in (SEQUENCE_MAX, SEQUENCE_MAX + 1):
        report = OracleReport(1, 1_000, sequence, world.time_ms)
        assert world.one(world.REPORTER, report).code == "oracle.sequence"


def test_a_view_of_a_book_shows_only_so_many_levels(make_world):
    world = make_world(index=10_000)
    owners = (world.ALICE, world.BOB, world.CAROL, world.DAVE, world.ERIN)
    prices = iter(range(5_001, 10_000))
    for owner in owners:
        orders = [PlaceOrder(1, Side.BUY, next(prices), 1) for _ in range(256)]
        for at in range(0, 256, 64):
            assert {each.code for each in world.run(owner, *orders[at : at + 64])} == {"ok"}
    assert len(world.state.markets[1].book.bids.keys) == 5 * 256 > DEPTH_LEVELS_MAX
    shown = view_book(world.state, 1, 10 * DEPTH_LEVELS_MAX)
    assert shown is not None
    assert len(shown.bids) == DEPTH_LEVELS_MAX
    assert shown.bids[0].price_ticks == 5_000 + 5 * 256
