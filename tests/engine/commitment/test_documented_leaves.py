"""The leaves of the state root, unpacked by the words that document them and by nothing else."""

import struct

import pytest
from msgspec.structs import replace

from engine.block import SessionGrant, SessionScope
from engine.commitment.proofs import prove_leaf, validate_proof
from engine.commitment.root import account_key, withdrawal_key
from engine.genesis import EngineGenesis, GenesisDeposit, LiquidationParams
from engine.instructions import (
    MarginMode,
    OracleReport,
    PlaceOrder,
    SetMarginMode,
    Side,
    VolatilityReport,
    Withdraw,
)
from engine.options.params import OptionParams
from engine.portfolio.rules import PortfolioRules

ZERO = bytes(32)


def read(world, key):
    """The bytes that the last block's root commits to."""
    leaf = validate_proof(world.output.state_root, key, prove_leaf(world.state, key))
    assert leaf is not None
    return leaf


@pytest.fixture
def options_world(make_world):
    """An exchange with options and portfolios; the index and the surface are reported."""
    plain = make_world(index=None)
    options = OptionParams(1_000, 50, portfolio=PortfolioRules())
    market = replace(plain.genesis.markets[0], options=options)
    deposits = tuple(GenesisDeposit(name, 10**12) for name in (plain.ALICE, plain.BOB))
    world = type(plain)(EngineGenesis((market,), deposits))
    knots = len(options.vol_tenors_s) * len(options.vol_moneyness_ppm)
    reports = (
        OracleReport(1, 1_000, 1, world.time_ms),
        VolatilityReport(1, (800_000,) * knots, 1, world.time_ms),
    )
    assert {each.code for each in world.run(world.REPORTER, *reports)} == {"ok"}
    return world


def test_the_part_about_a_liquidation_is_as_documented(make_world):
    world = make_world(balance=100_000, liquidation=LiquidationParams())
    world.one(world.ALICE, PlaceOrder(1, Side.BUY, 1_000, 100))
    world.deposit(world.BOB, 10_000_000)
    world.one(world.BOB, PlaceOrder(1, Side.SELL, 1_000, 100))
    world.set_index(947)
    leaf = read(world, account_key(world.ALICE))
    quote, orders, market, lots = struct.unpack_from(">q32sIq", leaf)
    cost = int.from_bytes(leaf[52:68], "big", signed=True)
    assert (quote, orders, market, lots, cost) == (-900_000, ZERO, 1, 100, 1_000_000)
    mark, stage, *numbers = struct.unpack(">IBQQQQQQ", leaf[68:])
    record = world.state.accounts[world.ALICE].distress
    assert (mark, stage) == (2**31 + 40, record.stage)
    elapsed, paused, seen, due, cool, debt = numbers
    assert (elapsed, paused, debt) == (0, 0, 0)
    assert (seen, due, cool) == (world.time_ms, record.due_ms, record.cool_ms)


def test_the_leaf_of_an_account_with_a_session_key_and_portfolio_margin_is_as_documented(
    options_world,
):
    world = options_world
    assert world.one(world.ALICE, SetMarginMode(MarginMode.PORTFOLIO)).code == "ok"
    series = next(market for market in world.state.markets if market != 1)
    world.one(world.BOB, PlaceOrder(series, Side.SELL, 60, 7))
    world.one(world.ALICE, PlaceOrder(series, Side.BUY, 60, 7))
    before = read(world, account_key(world.ALICE))
    quote, orders, market, lots, portfolio = struct.unpack(">q32sIqI", before)
    assert (quote, orders) == (world.quote(world.ALICE), ZERO)
    assert (market, lots, portfolio) == (series, 7, 2**31 + 50)

    grant = SessionGrant(world.ALICE, b"k" * 32, SessionScope.CANCEL, world.time_ms + 1, (), (), 5)
    world.block(grants=[grant])
    leaf = read(world, account_key(world.ALICE))
    sessions, keys, portfolio = struct.unpack_from(">I32sI", leaf, len(before) - 4)
    assert (leaf[:-40], sessions, portfolio) == (before[:-4], 2**31 + 3, 2**31 + 50)
    world.block(grants=[replace(grant, spend_max_microquote=6)])
    assert read(world, account_key(world.ALICE))[-36:-4] != keys


def test_the_leaves_of_a_chain_of_options_and_of_a_series_are_as_documented(options_world):
    world = options_world
    chain = world.state.chains[1]
    stale, _digest, *expiries = struct.unpack(
        ">B32s" + "QQIQ" * len(chain.expiries), read(world, b"o" + (1).to_bytes(4, "big"))
    )
    assert stale == 0
    for place, expiry in enumerate(chain.expiries.values()):
        expiry_ms, samples, count, due_ms = expiries[4 * place : 4 * place + 4]
        assert (expiry_ms, samples, count, due_ms) == (
            expiry.expiry_ms, 0, 0, expiry.expiry_ms - chain.params.window_ms
        )  # fmt: skip
        for strike, (call, put) in expiry.strikes.items():
            for series, is_call in ((call, 1), (put, 0)):
                leaf = read(world, b"m" + series.market_id.to_bytes(4, "big"))
                assert struct.unpack(">IQQB", leaf) == (1, expiry_ms, strike, is_call)


def test_the_leaf_of_a_withdrawal_is_as_documented(make_world):
    world = make_world()
    assert world.one(world.ALICE, Withdraw(30_000, b"d" * 20)).code == "ok"
    (number,) = world.state.withdrawals
    leaf = read(world, withdrawal_key(number))
    assert struct.unpack(">32s20sQQ", leaf) == (world.ALICE, b"d" * 20, 30_000, world.state.height)
    assert withdrawal_key(number) == b"w" + number.to_bytes(8, "big")
