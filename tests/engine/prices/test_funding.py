"""Funding: premium, median, rate, settlement, and who bears the rounding."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from crypto.codec import decode, encode
from engine.apply import apply_block
from engine.block import BlockOutput
from engine.commitment.root import encode_account, encode_market, encode_system
from engine.errors import SnapshotError
from engine.genesis import FundingParams, GenesisError
from engine.instructions import CancelAll, MarketOrder, PlaceOrder, Side, TimeInForce
from engine.limits import BALANCE_ABS_MAX_MICROQUOTE
from engine.prices.funding import (
    RATE_PERIOD_MS,
    compute_padded_median,
    compute_rate,
    compute_settlement,
)
from engine.prices.premium import (
    PPB,
    compute_impact_price,
    compute_next_due,
    compute_premium,
    divide_toward_zero,
)
from engine.receipts import FundingEvent, FundingPaidEvent
from engine.snapshots.whole import EngineSnapshot, restore, snapshot
from engine.views import view_account, view_markets

HOUR_MS = 3_600_000
UNIT = 10
"""Micro-quote per lot and tick in the worlds of these tests."""

PARAMS = FundingParams(impact_notional_microquote=1_000_000, rate_max_ppm=40_000)


def trade(world: Any, buyer: bytes, seller: bytes, lots: int, price: int = 1_000) -> None:
    """One trade at a price, which leaves nothing in the book."""
    world.one(seller, PlaceOrder(1, Side.SELL, price, lots))
    world.one(buyer, MarketOrder(1, Side.BUY, price, lots))


def quote_around(world: Any, bid: int, ask: int, lots: int = 1_000) -> None:
    world.one(world.DAVE, PlaceOrder(1, Side.BUY, bid, lots))
    world.one(world.DAVE, PlaceOrder(1, Side.SELL, ask, lots))


def pass_time(world: Any, to_ms: int, step_ms: int, index: int = 1_000) -> list[FundingEvent]:
    """Blocks with a fresh index until a time; what they tell of funding."""
    events: list[FundingEvent] = []
    while world.time_ms < to_ms:
        world.time_ms = min(world.time_ms + step_ms, to_ms)
        world.set_index(index)
        events += find_funding(world.output)
    return events


def find_funding(output: BlockOutput) -> list[FundingEvent]:
    return [event for event in output.events if isinstance(event, FundingEvent)]


@pytest.fixture
def funded(make_world: Callable[..., Any]) -> Any:
    return make_world(funding=PARAMS)


def test_an_hour_of_a_premium_is_paid_by_longs_to_shorts_to_the_last_micro_quote(
    funded: Any,
) -> None:
    trade(funded, funded.ALICE, funded.BOB, 333)
    quote_around(funded, bid=1_010, ask=1_020)  # the bid is 1 % above the index
    before = {name: funded.quote(name) for name in (funded.ALICE, funded.BOB)}
    (event,) = pass_time(funded, HOUR_MS, 5_000)
    # One sample of 12 votes a minute; the first vote falls into a minute that has begun.
    premium_ppb = 10_000_000
    assert event.rate_ppb == premium_ppb - 500_000, "the interest is clamped to 0.05 %"
    value = 333 * 1_000 * UNIT
    owed = Fraction(value * event.rate_ppb * HOUR_MS, PPB * RATE_PERIOD_MS)
    trade(funded, funded.ALICE, funded.BOB, 1, price=1_015)
    paid = before[funded.ALICE] - funded.quote(funded.ALICE) - 1_015 * UNIT
    received = funded.quote(funded.BOB) - before[funded.BOB] - 1_015 * UNIT
    assert 0 <= paid - owed < 1
    assert 0 <= owed - received < 1
    assert funded.state.funding_pool == paid - received
    told = funded.events(FundingPaidEvent)
    # The buyer took what the seller had placed in the block before, and settled with it.
    assert [(each.account, each.amount_microquote) for each in told] == [(funded.ALICE, -paid)]
    assert not funded.state.funding_paid


def test_a_premium_below_the_index_is_paid_by_shorts(funded: Any) -> None:
    trade(funded, funded.ALICE, funded.BOB, 100)
    quote_around(funded, bid=980, ask=990)
    (event,) = pass_time(funded, HOUR_MS, 5_000)
    assert event.rate_ppb == -10_000_000 + 500_000
    assert compute_settlement(funded.state.accounts[funded.ALICE]) > 0
    assert compute_settlement(funded.state.accounts[funded.BOB]) < 0


def test_a_book_for_one_block_moves_no_sample(funded: Any) -> None:
    trade(funded, funded.ALICE, funded.BOB, 100)
    quote_around(funded, bid=1_400, ask=1_450)
    funded.time_ms += 5_000
    funded.set_index(1_000)
    funded.one(funded.DAVE, CancelAll())
    (event,) = pass_time(funded, HOUR_MS, 5_000)
    assert event.rate_ppb == 100_000, "interest alone"


def test_while_the_oracle_is_stale_all_waits_and_then_one_interval_is_paid(funded: Any) -> None:
    trade(funded, funded.ALICE, funded.BOB, 100)
    pass_time(funded, HOUR_MS // 2, 60_000)
    funded.time_ms = 5 * HOUR_MS
    assert not find_funding(funded.block()), "stale"
    funded.set_index(1_000)
    (event,) = find_funding(funded.output)
    assert funded.state.markets[1].funding.index == divide_toward_zero(
        event.rate_ppb * HOUR_MS * 1_000 * UNIT, RATE_PERIOD_MS
    )
    funded.set_index(1_000)
    assert not find_funding(funded.output), "paid once, however many hours have passed"
    assert view_markets(funded.state)[0].funding_due_ms == 6 * HOUR_MS


def test_before_the_first_interval_has_ended_there_is_no_rate(funded: Any) -> None:
    trade(funded, funded.ALICE, funded.BOB, 100)
    assert view_markets(funded.state)[0].funding_rate_ppb is None
    pass_time(funded, HOUR_MS // 2, 60_000)
    assert view_markets(funded.state)[0].funding_rate_ppb is None
    (event,) = pass_time(funded, HOUR_MS, 60_000)
    assert view_markets(funded.state)[0].funding_rate_ppb == event.rate_ppb


def test_what_is_owed_shows_in_the_account_before_it_is_settled(funded: Any) -> None:
    trade(funded, funded.ALICE, funded.BOB, 1_000)
    before = view_account(funded.state, funded.ALICE)
    pass_time(funded, HOUR_MS, 60_000)
    after = view_account(funded.state, funded.ALICE)
    assert before is not None
    assert after is not None
    assert funded.quote(funded.ALICE) == before.quote_microquote, "not yet settled"
    assert after.quote_microquote < before.quote_microquote
    assert after.equity_microquote - before.equity_microquote == (
        after.quote_microquote - before.quote_microquote
    )
    funded.one(funded.ALICE, PlaceOrder(1, Side.BUY, 900, 1))
    assert funded.quote(funded.ALICE) == after.quote_microquote


def test_who_opens_a_position_after_a_payment_owes_nothing_of_it(funded: Any) -> None:
    funded.one(funded.CAROL, PlaceOrder(1, Side.BUY, 900, 1))  # it has an exposure, no position
    trade(funded, funded.ALICE, funded.BOB, 1_000)
    pass_time(funded, HOUR_MS, 60_000)
    before = funded.quote(funded.CAROL)
    trade(funded, funded.CAROL, funded.BOB, 500)
    assert funded.quote(funded.CAROL) == before - 500 * 1_000 * UNIT


def test_live_and_restored_engines_go_on_alike(funded: Any) -> None:
    trade(funded, funded.ALICE, funded.BOB, 777)
    quote_around(funded, bid=1_003, ask=1_009)
    pass_time(funded, HOUR_MS + 47_000, 7_000)
    restored = restore(snapshot(funded.state))
    assert snapshot(restored) == snapshot(funded.state)
    count = len(funded.inputs)
    trade(funded, funded.CAROL, funded.DAVE, 5, price=1_009)
    trade(funded, funded.BOB, funded.ALICE, 99)
    pass_time(funded, 2 * HOUR_MS, 11_000)
    trade(funded, funded.BOB, funded.ALICE, 99)
    for block in funded.inputs[count:]:
        output = apply_block(restored, block)
    assert output == funded.output
    assert snapshot(restored) == snapshot(funded.state)


def test_a_snapshot_with_funding_where_genesis_has_none_is_refused(world: Any, funded: Any) -> None:

    plain = decode(EngineSnapshot, snapshot(world.state))
    other = decode(EngineSnapshot, snapshot(funded.state))
    for bad in (replace(plain, markets=other.markets), replace(other, markets=plain.markets)):
        with pytest.raises(SnapshotError, match="funding"):
            restore(encode(bad))


def test_markets_without_funding_have_the_leaves_that_they_always_had(
    make_world: Callable[..., Any],
) -> None:

    world, funded = make_world(), make_world(funding=PARAMS)
    for each in (world, funded):
        trade(each, each.ALICE, each.BOB, 10)
    lengths = [
        (
            len(encode_account(each.state.accounts[each.ALICE])),
            len(encode_market(each.state.markets[1])),
            len(encode_system(each.state)),
        )
        for each in (world, funded)
    ]
    assert lengths == [(52, 41, 96), (84, 137, 112)]


def test_an_index_that_grows_beyond_measure_takes_no_balance_out_of_its_bound(
    make_world: Callable[..., Any],
) -> None:
    params = FundingParams(1, 1_000_000, interest_ppm=1_000_000, interest_clamp_ppm=1_000_000)
    world = make_world(
        index=2, funding=params, tick_size_microquote=2**40, lots_per_base=1, balance=2**50
    )
    trade(world, world.ALICE, world.BOB, 1_000, price=2)
    world.time_ms = 10_000
    world.set_index(2**32 - 1)
    pass_time(world, 30 * HOUR_MS, 30_000_000, index=2**32 - 1)
    for account in world.state.accounts.values():
        change = compute_settlement(account)
        assert abs(account.quote + change) <= BALANCE_ABS_MAX_MICROQUOTE
    world.one(world.ALICE, PlaceOrder(1, Side.SELL, 2**32 - 1, 1, TimeInForce.IOC))
    assert restore(snapshot(world.state)).height == world.state.height


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vote_interval_ms": 7_000}, "no multiple"),
        ({"sample_interval_ms": 7_000, "vote_interval_ms": 1_000}, "no multiple"),
        ({"vote_interval_ms": 100}, "funding votes"),
        ({"interval_ms": 86_400_000, "sample_interval_ms": 10_000}, "funding samples"),
    ],
)
def test_parameters_that_do_not_fit_each_other_are_refused(
    make_world: Callable[..., Any], changes: dict[str, int], reason: str
) -> None:

    with pytest.raises(GenesisError, match=reason):
        make_world(funding=replace(PARAMS, **changes))


# ---- the parts -------------------------------------------------------------------------------


def test_the_next_due_time_is_the_next_multiple() -> None:
    assert [compute_next_due(now_ms, 1_000) for now_ms in (0, 999, 1_000)] == [1_000, 1_000, 2_000]


def test_division_toward_zero_favours_nobody() -> None:
    assert [divide_toward_zero(number, 3) for number in (-7, -6, -1, 0, 1, 7)] == [
        -2,
        -2,
        0,
        0,
        0,
        2,
    ]


def test_votes_that_are_missing_count_as_no_premium() -> None:
    assert compute_padded_median([9, 9, 9], 12) == 0
    assert compute_padded_median([9] * 7, 12) == 9
    assert compute_padded_median([-9] * 7, 12) == -9
    assert compute_padded_median([9] * 6, 12) == 4, "half of 9, toward zero"
    assert compute_padded_median([-9] * 6, 12) == -4


@given(premium_ppb=st.integers(-(10**10), 10**10))
def test_a_rate_is_within_its_bound_and_near_its_premium(premium_ppb: int) -> None:
    rate = compute_rate(premium_ppb, PARAMS)
    assert abs(rate) <= 40_000_000
    if abs(premium_ppb) <= 39_000_000:
        assert abs(rate - premium_ppb) <= 500_000
    if -400_000 <= premium_ppb <= 600_000:
        assert rate == 100_000, "near the index only the interest is paid"


@settings(max_examples=60)
@given(
    levels=st.lists(
        st.tuples(st.integers(800, 1_200), st.integers(1, 500)), min_size=0, max_size=12
    ),
    notional=st.integers(1, 20_000_000),
)
def test_the_premium_is_that_of_fractions(
    make_world: Callable[..., Any], levels: list[tuple[int, int]], notional: int
) -> None:
    world = make_world(funding=PARAMS)
    for price, lots in levels:
        side = Side.BUY if price < 1_000 else Side.SELL
        world.one(world.CAROL, PlaceOrder(1, side, price, lots, TimeInForce.POST_ONLY))
    market = world.state.markets[1]

    def impact(bids: bool) -> Fraction | None:
        side = sorted((p, n) for p, n in levels if (p < 1_000) == bids)
        missing, lots = Fraction(notional), Fraction(0)
        for price, size in reversed(side) if bids else side:
            taken = min(missing, Fraction(price * size * UNIT))
            missing -= taken
            lots += taken / (price * UNIT)
        return Fraction(notional) / (lots * UNIT) if missing == 0 and lots else None

    for bids, side in ((True, market.book.bids), (False, market.book.asks)):
        found = compute_impact_price(side, UNIT, notional)
        expected = impact(bids)
        assert (None if found is None else Fraction(*found)) == expected
    bid, ask = impact(True), impact(False)
    premium = max(Fraction(0), (bid or 0) - 1_000) - max(Fraction(0), 1_000 - (ask or 1_000))
    exact = premium * PPB / 1_000
    assert abs(compute_premium(market, notional) - exact) < 1


@settings(max_examples=25)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["trade", "time", "index", "touch"]),
            st.integers(0, 4),
            st.integers(0, 4),
            st.integers(1, 400),
        ),
        max_size=40,
    )
)
def test_the_pool_never_owes_more_than_it_holds(
    make_world: Callable[..., Any], steps: list[tuple[str, int, int, int]]
) -> None:
    """Conservation is checked by every block itself; here, that rounding is never for free."""
    world = make_world(funding=PARAMS, markets=1)
    names = (world.ALICE, world.BOB, world.CAROL, world.DAVE, world.ERIN)
    index = 1_000
    for kind, one, other, number in steps:
        world.set_index(index)
        if kind == "trade" and one != other:
            trade(world, names[one], names[other], number, price=index)
        elif kind == "time":
            pass_time(world, world.time_ms + number * 60_000, 1_800_000, index)
        elif kind == "index":
            index = max(700, min(1_300, index + number - 200))
        else:
            world.one(names[one], PlaceOrder(1, Side.BUY, index // 2 + 1, 1, TimeInForce.IOC))
        unsettled = sum(compute_settlement(each) for each in world.state.accounts.values())
        assert world.state.funding_pool >= unsettled
