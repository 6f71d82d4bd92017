"""No sequence of tiny actions makes money out of rounding: not from fees, fund or funding pool."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.genesis import FundingParams, LiquidationParams
from engine.instructions import (
    Bid,
    CancelAll,
    MarketOrder,
    OracleReport,
    PlaceOrder,
    Side,
    Transfer,
)
from engine.prices.funding import compute_settlement
from engine.receipts import AuctionEvent, LiquidationEvent, LiquidationStep
from localnet.splitmix import SplitMix

NAMES = [bytes([value]) * 32 for value in range(1, 6)]
FUNDING = FundingParams(
    impact_notional_microquote=1,
    rate_max_ppm=999_983,
    interest_ppm=777_777,
    interval_ms=1_000,
    sample_interval_ms=1_000,
    vote_interval_ms=500,
)
LIQUIDATION = LiquidationParams(
    insurance_microquote=500,
    part_min_microquote=0,
    cooldown_ms=100,
    retry_ms=100,
    closing_max_ms=300,
    auction_fast_ms=300,
    auction_slow_ms=300,
    insolvent_ms=1_000,
)


def make(make_world, balance, funding=FUNDING):
    """Two markets at 13 ticks: a lot is worth 130 micro-quote, so every fee is mostly rounding."""
    world = make_world(
        markets=2,
        balance=balance,
        index=13,
        maker_fee_ppm=-3_333,
        taker_fee_ppm=7_777,
        funding=funding,
        liquidation=LIQUIDATION,
    )
    world.time_ms = 2_000
    return world


def draw_instruction(draw, state):
    choice, market = draw(10), 1 + draw(2)
    side = Side.BUY if draw(2) else Side.SELL
    mid = state.markets[market].index_price
    if choice < 4:
        return PlaceOrder(market, side, mid - 1 + draw(3), 1 + draw(9))
    if choice < 6:
        return MarketOrder(market, side, mid + 3 * side, 1 + draw(9))
    if choice < 7:
        return Transfer(1 + draw(3), NAMES[draw(5)])
    if choice < 9:
        sold = sorted(state.liquidations.records) or NAMES
        return Bid(
            sold[draw(len(sold))], (1, 999, 333_333, 1_000_000)[draw(4)], draw(2) * draw(20_000)
        )
    return CancelAll()


def write(world, draw):
    """A block of tiny instructions, now and then with another index."""
    world.time_ms += 250 * draw(4)
    envelopes = [
        world.envelope(NAMES[draw(5)], *[draw_instruction(draw, world.state) for _ in range(3)])
        for _ in range(4)
    ]
    if draw(3) == 0:
        report = OracleReport(1 + draw(2), 9 + draw(9), world.state.height + 1, world.time_ms)
        envelopes.append(world.envelope(world.REPORTER, report))
    return envelopes


def check_insurance(world, before):
    """The fund paid what events tell, and for no account more than it lacked and the premium."""
    change = 0
    for event in world.output.events:
        if isinstance(event, LiquidationEvent):
            change += event.insurance_microquote
            # What is left of a debt that was paid is a debt, if anything.
            assert event.step is not LiquidationStep.COVERED or event.equity_microquote <= 0
        elif isinstance(event, AuctionEvent):
            change -= event.insurance_microquote
            # Paid only beside a debt, of which it leaves nothing above zero.
            assert not event.insurance_microquote or event.equity_microquote <= 0
    assert world.state.insurance - before == change


@settings(max_examples=25, deadline=None)
@example(1954, 200).via("an account that had recovered was deleveraged, and paid the fund for it")
@given(st.integers(0, 2**32), st.sampled_from([60, 200, 1_000, 10**6]))
def test_whatever_is_tiny_fees_fund_and_pool_lose_nothing_by_rounding(make_world, seed, balance):
    world = make(make_world, balance)
    state, draw = world.state, SplitMix(seed).below
    for _ in range(12):
        fees, fund = state.fees, state.insurance
        world.block(write(world, draw))
        covered = any(
            isinstance(event, LiquidationEvent) and event.step is LiquidationStep.COVERED
            for event in world.output.events
        )
        assert state.fees >= fees or covered
        check_insurance(world, fund)
        owed = sum(compute_settlement(account) for account in state.accounts.values())
        assert state.funding_pool - owed >= 0, "it can pay whoever comes, in any order"


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(12, 14))
def test_an_order_in_parts_never_pays_less_than_in_one(make_world, parts, price):
    """One that is filled in parts by one that takes it in parts, too; rebates included."""
    paid = []
    for split in ((sum(parts),), tuple(parts)):
        world = make(make_world, 10**9, None)
        for lots in split:
            world.one(world.ALICE, PlaceOrder(1, Side.SELL, price, lots))
            taker = PlaceOrder(1, Side.BUY, price, lots)
            assert world.one(world.BOB, taker).filled_lots == lots
        paid.append(world.state.fees)
    assert 0 <= paid[0] <= paid[1]
    world = make(make_world, 10**9, None)
    world.one(world.ALICE, PlaceOrder(1, Side.SELL, price, sum(parts)))
    for lots in parts:
        world.one(world.BOB, PlaceOrder(1, Side.BUY, price, lots))
    assert paid[0] <= world.state.fees <= paid[1]


def test_one_lot_that_changes_hands_before_each_payment_earns_no_funding(make_world):
    """Whoever holds the lot that receives when the payment is due gets it rounded down, whoever
    holds the other one pays it rounded up; handing both round and round gains nothing."""
    world = make(make_world, 10**6)
    names = [world.ALICE, world.BOB, world.CAROL]
    total = None
    for turn in range(9):
        buyer, seller = names[turn % 3], names[(turn + 1) % 3]
        world.one(seller, PlaceOrder(1, Side.SELL, 13, 1))
        world.one(buyer, PlaceOrder(1, Side.BUY, 13, 1))
        world.time_ms += 1_000
        world.block()
        state = world.state
        owed = {name: compute_settlement(account) for name, account in state.accounts.items()}
        wealth = sum(state.accounts[name].quote + owed[name] for name in names)
        assert total is None or wealth <= total
        total = wealth
        assert state.funding_pool - sum(owed.values()) >= 0
    assert world.state.markets[1].funding.index != 0


def test_transfers_to_and_fro_move_every_micro_quote_and_make_none(make_world):
    world = make(make_world, 1_000)
    for _ in range(3):
        there = [Transfer(1, world.BOB)] * 64
        back = [Transfer(1, world.ALICE)] * 64
        output = world.block(
            [world.envelope(world.ALICE, *there), world.envelope(world.BOB, *back)]
        )
        assert {receipt.code for receipt in output.receipts} == {"ok"}
        assert world.quote(world.ALICE) == world.quote(world.BOB) == 1_000


def test_the_streams_come_to_what_could_round(make_world):
    """Otherwise the first property above would say little."""
    met = set()
    for seed in range(24):
        world = make(make_world, (60, 200)[seed % 2])
        draw = SplitMix(seed).below
        for _ in range(12):
            output = world.block(write(world, draw))
            met |= {type(event).__name__ for event in output.events}
            met |= {event.step for event in output.events if isinstance(event, LiquidationEvent)}
    assert {"FundingEvent", "AuctionEvent", LiquidationStep.COVERED, LiquidationStep.CLOSED} <= met
