"""The mark: where it lies, what can move it and when, and what goes by it."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.codec import decode, encode
from engine.apply import apply_block
from engine.block import BlockInput
from engine.commitment.solvency import compute_solvency
from engine.errors import SnapshotError
from engine.genesis import EngineGenesis, GenesisError, MarketParams, MarkParams, validate_genesis
from engine.instructions import CancelAll, MarketOrder, OracleReport, PlaceOrder, Side, TimeInForce
from engine.limits import PRICE_MAX_TICKS
from engine.prices.mark import AVERAGE_SCALE, compute_average, compute_mark_price
from engine.snapshots.whole import EngineSnapshot, restore, snapshot
from engine.views import view_account, view_markets
from localnet.splitmix import SplitMix

BUY, SELL = Side.BUY, Side.SELL
UNIT = 10
"""Micro-quote per lot and tick in the worlds of these tests."""

PARAMS = MarkParams(100_000, premium_max_ppm=50_000, average_ms=10_000, interval_ms=1_000)
"""The impact notional is ten lots at 1,000 ticks."""


@pytest.fixture
def marked(make_world: Callable[..., Any]) -> Any:
    return make_world(mark=PARAMS)


def quote(world: Any, bid: int, ask: int, lots: int = 100) -> None:
    """Replace Dave's quotes."""
    world.run(
        world.DAVE,
        CancelAll(),
        PlaceOrder(1, BUY, bid, lots, TimeInForce.POST_ONLY),
        PlaceOrder(1, SELL, ask, lots, TimeInForce.POST_ONLY),
    )


def trade(world: Any, price: int) -> None:
    """A trade between Alice and Bob, inside of the quotes."""
    world.one(world.ALICE, PlaceOrder(1, SELL, price, 1))
    world.one(world.BOB, MarketOrder(1, BUY, price, 1))
    assert world.output.fills[-1].price_ticks == price


def pass_votes(world: Any, votes: int) -> None:
    for _ in range(votes):
        world.time_ms += PARAMS.interval_ms
        world.block()


def mark_of(world: Any) -> int:
    return world.state.markets[1].mark_price


# ---- the formula ---------------------------------------------------------------------------------


def test_without_parameters_the_mark_is_the_index(world):
    quote(world, 1_040, 1_042)
    pass_votes(world, 100)
    assert mark_of(world) == 1_000
    world.set_index(1_010)
    assert mark_of(world) == 1_010


def test_the_average_of_a_steady_premium_is_that_of_an_independent_calculation(marked):
    quote(marked, 1_030, 1_032, 10_000)
    exact = Fraction(0)
    for _ in range(40):
        pass_votes(marked, 1)
        exact += (Fraction(30, 1_000) - exact) * Fraction(1, 10)
        average = marked.state.markets[1].mark.average
        assert 0 <= exact * AVERAGE_SCALE - average < 20
        # The book is above: the mark is the index with the average, rounded to the index.
        assert mark_of(marked) == 1_000 + int(1_000 * exact)
    assert mark_of(marked) == 1_029


@settings(max_examples=100, deadline=None)
@given(
    st.integers(-AVERAGE_SCALE, AVERAGE_SCALE),
    st.integers(-(10**9), 10**9),
    st.integers(1, 1_000).flatmap(lambda i: st.tuples(st.just(i), st.integers(i, 10**6))),
)
def test_an_average_rounds_toward_zero_and_lies_between_what_it_was_and_the_vote(
    average, vote, times
):
    interval_ms, average_ms = times
    params = MarkParams(1, 1, average_ms=average_ms, interval_ms=interval_ms)
    found = compute_average(average, vote, params)
    vote *= AVERAGE_SCALE // 10**9
    exact = average + (Fraction(vote) - average) * Fraction(interval_ms, average_ms)
    assert abs(found) <= abs(exact) < abs(found) + 1
    assert found * exact >= 0
    assert min(average, vote, 0) <= found <= max(average, vote, 0)
    assert compute_average(-average, -vote // (AVERAGE_SCALE // 10**9), params) == -found


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, PRICE_MAX_TICKS),
    st.integers(-AVERAGE_SCALE + 1, AVERAGE_SCALE - 1),
    st.integers(1, PRICE_MAX_TICKS),
)
def test_the_mark_lies_between_the_index_and_both_the_average_and_the_book(index, average, book):
    mark = compute_mark_price(index, average, book)
    averaged = index * (1 + Fraction(average, AVERAGE_SCALE))
    assert 0 < mark <= PRICE_MAX_TICKS
    assert min(index, book) <= mark <= max(index, book)
    assert min(index, averaged) <= mark <= max(index, averaged)
    if mark not in (index, book):
        assert abs(mark - averaged) < 1


@pytest.mark.parametrize(
    ("last", "expected"),
    [(1_009, 1_010), (1_010, 1_010), (1_015, 1_015), (1_020, 1_020), (1_030, 1_020), (0, 1_010)],
)
def test_the_third_price_is_the_median_of_best_bid_best_ask_and_last_trade(marked, last, expected):
    market = marked.state.markets[1]
    quote(marked, 1_010, 1_020)
    market.mark.average = AVERAGE_SCALE // 25
    market.mark.last_price = last
    pass_votes(marked, 1)
    assert mark_of(marked) == expected


# ---- what can move it ----------------------------------------------------------------------------


def test_an_average_and_a_book_on_different_sides_leave_the_mark_at_the_index(marked):
    quote(marked, 1_030, 1_032)
    pass_votes(marked, 20)
    assert mark_of(marked) > 1_020
    quote(marked, 960, 962)
    pass_votes(marked, 1)
    assert marked.state.markets[1].mark.average > 0
    assert mark_of(marked) == 1_000


def test_one_lot_far_from_the_index_is_no_vote(marked):
    quote(marked, 1_030, 1_032, 9)
    pass_votes(marked, 50)
    assert marked.state.markets[1].mark.average == 0
    assert mark_of(marked) == 1_000


@pytest.mark.parametrize("side", [BUY, SELL])
def test_an_empty_side_of_the_book_brings_the_mark_to_the_index_at_once(marked, side):
    quote(marked, 1_030, 1_032)
    pass_votes(marked, 20)
    average = marked.state.markets[1].mark.average
    marked.one(marked.DAVE, CancelAll())
    marked.one(marked.DAVE, PlaceOrder(1, side, 1_030, 100))
    marked.one(marked.DAVE, CancelAll())
    pass_votes(marked, 1)
    assert mark_of(marked) == 1_000
    pass_votes(marked, 1)
    assert marked.state.markets[1].mark.average < average


def test_a_vote_counts_no_more_after_a_pause(marked):
    quote(marked, 1_040, 1_042)
    marked.time_ms += 50_000
    marked.set_index(1_000)
    assert marked.state.markets[1].mark.average == AVERAGE_SCALE // 250


def test_the_mark_stays_within_its_clamp_and_so_within_the_band(make_world):
    world = make_world(mark=PARAMS, price_band_ppm=50_000)
    quote(world, 1_049, 1_050)
    world.set_index(1_000)
    quote(world, 1_049, 1_050)
    pass_votes(world, 55)
    market = world.state.markets[1]
    assert market.band_low <= market.mark_price <= market.band_high
    # The quotes are now 40 % above the index; the mark is not.
    world.set_index(750)
    pass_votes(world, 55)
    assert market.mark_price == market.band_high == 787


def test_no_instruction_moves_the_mark_that_its_own_block_judges_by(marked):
    quote(marked, 990, 1_010)
    pass_votes(marked, 1)
    marked.state.markets[1].mark.average = AVERAGE_SCALE // 25
    marked.time_ms += PARAMS.interval_ms
    envelopes = [
        marked.envelope(marked.DAVE, CancelAll(), PlaceOrder(1, BUY, 1_030, 100)),
        marked.envelope(marked.ALICE, PlaceOrder(1, SELL, 1_030, 50)),
    ]
    marked.block(envelopes)
    assert len(marked.output.fills) == 1
    assert mark_of(marked) == 1_000
    quote(marked, 1_030, 1_031)
    pass_votes(marked, 1)
    assert mark_of(marked) > 1_025


def test_the_mark_moves_when_a_vote_is_due_or_the_index_moves_and_never_else(marked):
    quote(marked, 1_030, 1_032)
    pass_votes(marked, 20)
    state = marked.state
    mark, epoch = mark_of(marked), state.margin_epoch
    quote(marked, 1_001, 1_002)
    marked.time_ms += PARAMS.interval_ms - 1
    marked.block()
    assert (mark_of(marked), state.margin_epoch) == (mark, epoch)
    marked.set_index(1_001)
    assert (mark_of(marked), state.margin_epoch) == (1_001, epoch + 1)
    quote(marked, 1_005, 1_006)
    marked.time_ms += 1
    marked.block()
    assert (mark_of(marked), state.margin_epoch) == (1_005, epoch + 2)
    marked.time_ms += PARAMS.interval_ms
    marked.block()
    assert (mark_of(marked), state.margin_epoch) == (1_005, epoch + 2)


def test_a_stale_index_stops_the_mark(marked):
    quote(marked, 1_030, 1_032)
    pass_votes(marked, 20)
    before = mark_of(marked)
    quote(marked, 1_001, 1_002)
    marked.time_ms += 60_001
    marked.block()
    market = marked.state.markets[1]
    assert market.stale
    assert (market.mark_price, market.mark.due_ms) == (before, 22_000)
    marked.set_index(1_000)
    assert mark_of(marked) == 1_002 - 1


# ---- what goes by it -----------------------------------------------------------------------------


def test_equity_and_margins_go_by_the_mark_and_bands_by_the_index(marked):
    trade(marked, 1_000)
    marked.one(marked.ALICE, CancelAll())
    quote(marked, 1_030, 1_032)
    pass_votes(marked, 60)
    mark = mark_of(marked)
    assert mark == 1_029
    bob = view_account(marked.state, marked.BOB)
    (position,) = bob.positions
    assert position.value_microquote == mark * UNIT
    assert bob.equity_microquote == bob.quote_microquote + mark * UNIT
    assert bob.initial_margin_microquote == mark * UNIT // 10
    assert bob.maintenance_margin_microquote == -(-mark * UNIT // 20)
    (view,) = view_markets(marked.state)
    assert (view.mark_price_ticks, view.index_price_ticks) == (mark, 1_000)
    assert (view.band_low_ticks, view.band_high_ticks) == (500, 1_500)
    solvency = compute_solvency(marked.state)
    assert solvency.statement.is_covered
    marked.one(marked.BOB, PlaceOrder(1, SELL, 1_200, 1))
    account = marked.state.accounts[marked.BOB]
    assert account.equity == bob.equity_microquote


def test_an_order_is_margined_at_the_mark(make_world):
    world = make_world(mark=PARAMS, balance=1_030)
    world.deposit(world.DAVE, 10**9)
    quote(world, 1_030, 1_032)
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 900, 1)).code == "ok"
    world.one(world.ALICE, CancelAll())
    pass_votes(world, 30)
    assert mark_of(world) == 1_028
    assert world.one(world.ALICE, PlaceOrder(1, BUY, 900, 1)).code == "ok"
    world.set_index(1_010)
    assert mark_of(world) == 1_030
    assert world.one(world.BOB, PlaceOrder(1, BUY, 900, 1)).code == "ok"
    quote(world, 1_040, 1_042)
    pass_votes(world, 10)
    assert mark_of(world) > 1_030
    assert world.one(world.CAROL, PlaceOrder(1, BUY, 900, 1)).code == "margin.insufficient"


# ---- state ---------------------------------------------------------------------------------------


def test_a_snapshot_holds_the_mark_and_what_it_remembers(marked):
    quote(marked, 1_030, 1_032)
    trade(marked, 1_031)
    pass_votes(marked, 7)
    twin = restore(snapshot(marked.state))
    assert snapshot(twin) == snapshot(marked.state)
    ours, theirs = marked.state.markets[1], twin.markets[1]
    assert theirs.mark.last_price == 1_031
    assert (theirs.mark_price, theirs.im_rate) == (ours.mark_price, ours.im_rate)
    pass_votes(marked, 1)
    marked.set_index(1_002)
    for block in marked.inputs[twin.height :]:
        output = apply_block(twin, block)
    assert output == marked.output


@pytest.mark.parametrize(
    "change",
    [
        {"price_ticks": 1_001},
        {"average": 1},
        {"last_price_ticks": 1_030},
        {"due_ms": 1},
        None,
    ],
)
def test_a_snapshot_with_another_mark_is_refused(marked, change):
    quote(marked, 1_030, 1_032)
    trade(marked, 1_031)
    packed = decode(EngineSnapshot, snapshot(marked.state))
    (market,) = packed.markets
    mark = None if change is None else msgspec.structs.replace(market.mark, **change)
    market = msgspec.structs.replace(market, mark=mark)
    with pytest.raises(SnapshotError):
        restore(encode(msgspec.structs.replace(packed, markets=(market,))))


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        (MarkParams(1, 50_000, average_ms=999), "interval"),
        (MarkParams(1, 100_001), "price band"),
    ],
)
def test_a_genesis_whose_mark_contradicts_itself_is_refused(mark, said):
    params = MarketParams(
        1, "M", 1_000, 1, 50_000, 30_000, 0, 0, price_band_ppm=100_000, oracle_max_age_ms=1_000
    )
    validate_genesis(EngineGenesis((params,)))
    with pytest.raises(GenesisError, match=said):
        validate_genesis(EngineGenesis((msgspec.structs.replace(params, mark=mark),)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_no_order_of_the_envelopes_changes_a_mark(make_world, seed):
    """Quotes, trades and reports at once, for several blocks, each in two orders."""
    worlds = [make_world(mark=PARAMS), make_world(mark=PARAMS)]
    draw = SplitMix(seed).below
    for _ in range(12):
        time_ms = 400 * (1 + draw(4))
        base = 1_000 + draw(60)
        plans = [
            (sender, CancelAll(), PlaceOrder(1, (BUY, SELL)[draw(2)], base + draw(9), 1 + draw(40)))
            for sender in (bytes([n]) * 32 for n in range(1, 6))
        ]
        report = 990 + draw(20)
        outputs = []
        for turn, world in enumerate(worlds):
            world.time_ms += time_ms
            envelopes = [world.envelope(sender, *rest) for sender, *rest in plans]
            height = world.state.height + 1
            envelopes.append(
                world.envelope(world.REPORTER, OracleReport(1, report, height, world.time_ms))
            )
            if turn:
                envelopes.reverse()
            block = BlockInput(
                height, world.time_ms, bytes(32), tuple(envelopes), (), world.reporters
            )
            outputs.append(apply_block(world.state, block))
        assert outputs[0] == outputs[1]
        market = worlds[0].state.markets[1]
        assert abs(market.mark_price - market.index_price) * 20 <= market.index_price
