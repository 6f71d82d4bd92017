"""The table of refusals, proven: for every instruction and code that it names, an example.

Each is run in a world of its own and once more without it. Whatever else there is must come out the
same to the last bit: the block goes on, no other account changes, and no money comes or goes
(every block of a test checks the books as a whole).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from crypto.codec import encode
from engine.accounts import withdrawals
from engine.commitment.root import encode_account, encode_market
from engine.genesis import LiquidationParams
from engine.instructions import (
    Amend,
    ArmDeadMan,
    Bid,
    Bundle,
    Cancel,
    CancelAll,
    ConditionalOrder,
    Instruction,
    MarginMode,
    MarketOrder,
    OnBehalf,
    OneCancelsOther,
    OracleReport,
    PlaceOrder,
    SetMarginMode,
    Side,
    TimeInForce,
    TrailingStop,
    Transfer,
    TriggerKind,
    TriggerSource,
    TwapOrder,
    VolatilityReport,
    Withdraw,
)
from engine.limits import (
    INSTRUCTIONS_PER_BUNDLE_MAX,
    ORDER_NOTIONAL_MAX_MICROQUOTE,
    ORDER_SIZE_MAX_LOTS,
    SERIES_ID_FIRST,
    SUB_ACCOUNTS_MAX,
    WAITING_PER_ACCOUNT_MAX,
    WITHDRAWALS_PER_ACCOUNT_MAX,
)
from engine.liquidation import bidding, handover
from engine.options.params import OptionParams
from engine.portfolio import margin as portfolio_margin
from engine.portfolio import modes as margin_modes
from engine.portfolio.rules import PortfolioRules
from engine.receipts import Status
from engine.refusals import BUNDLE_REFUSALS, REFUSALS
from engine.waiting import triggers

BUY, SELL = Side.BUY, Side.SELL
POST_ONLY = TimeInForce.POST_ONLY
ALICE, BOB, CAROL, DAVE, ERIN = (bytes([value]) * 32 for value in range(1, 6))
NOBODY = b"n" * 32
REPORTER = b"r" * 32


def nothing(world: Any) -> None:
    """Nothing needs to happen before."""


class Case(NamedTuple):
    """One instruction and the code that refuses it."""

    code: str
    instruction: Instruction
    prepare: Callable[[Any], object] = nothing
    before: tuple[Instruction, ...] = ()
    """What stands in the same bundle before it."""
    world: Mapping[str, Any] = MappingProxyType({})
    """Parameters of the exchange (`make_world`)."""
    bounds: Mapping[str, int] = MappingProxyType({})
    """Limits on what waits, leaves or bids that are smaller than usual."""
    sender: bytes = ALICE


# ---- what one of each looks like, and in which state ---------------------------------------

LIMIT = PlaceOrder(1, BUY, 900, 10)
MARKET = MarketOrder(1, BUY, 1_100, 10)
STOP = ConditionalOrder(1, SELL, TriggerKind.STOP, TriggerSource.INDEX, 900, 800, 10)
TRAILING = TrailingStop(1, SELL, TriggerSource.INDEX, 50, 50, 10)
TWAP = TwapOrder(1, BUY, 1_100, 10, 10_000, 1_000)
LEG = replace(LIMIT, tif=POST_ONLY)
BETTER = replace(LEG, price_ticks=950)
WITHDRAW = Withdraw(5_000, b"d" * 20)
GIFT = Transfer(5_000, BOB)
AMEND = Amend(0, 7, 950, 10)
NAMED = replace(LIMIT, client_id=7)
"""What AMEND names."""

OPTIONS = {"options": OptionParams(1_000, 50)}
"""Options are listed, but nobody has reported a volatility."""
PORTFOLIO = SetMarginMode(MarginMode.PORTFOLIO)
PORTFOLIOS = {"options": OptionParams(1_000, 50, portfolio=PortfolioRules())}
POOR = {"balance": 10_000_000}
FULL = {"initial_margin_ppm": 1_000, "maintenance_margin_ppm": 500, "index": 1, "balance": 2**50}
HUGE = {
    "initial_margin_ppm": 1_000,
    "maintenance_margin_ppm": 500,
    "balance": 2**53,
    "tick_size_microquote": 2**30,
    "lots_per_base": 1,
}
HUGE_LOTS = ORDER_NOTIONAL_MAX_MICROQUOTE // (1_000 * 2**30)


def place(order: Instruction, owner: bytes = ALICE) -> Callable[[Any], None]:
    """Somebody has placed this order."""

    def prepare(world: Any) -> None:
        assert world.one(owner, order).code == "ok"

    return prepare


def outlive_reports(world: Any) -> None:
    """The index is stale."""
    world.one(ALICE, NAMED)
    world.time_ms += 60_001


def fill_position(world: Any) -> None:
    """Alice's position and orders come to nearly as much as there may be; one order is small."""
    sell, buy = (PlaceOrder(1, side, 1, ORDER_SIZE_MAX_LOTS) for side in (SELL, BUY))
    world.run(BOB, *[sell] * 11)
    for count in (64, 64, 64, 64):
        assert {receipt.code for receipt in world.run(ALICE, *[buy] * count)} == {"ok"}
    assert world.one(ALICE, PlaceOrder(1, BUY, 1, 1, client_id=7)).code == "ok"


def fill_balance(world: Any) -> None:
    """Alice owes nearly as much as anybody may."""
    for owner in (BOB, CAROL):
        world.run(owner, *[PlaceOrder(1, SELL, 1_000, HUGE_LOTS)] * 32)
    world.run(ALICE, *[PlaceOrder(1, BUY, 1_000, HUGE_LOTS)] * 64)
    assert world.position(ALICE) == 64 * HUGE_LOTS
    assert world.one(ALICE, PlaceOrder(1, BUY, 900, 1, client_id=7)).code == "ok"


def hold_reduced(world: Any) -> None:
    """Alice is long, her only order closes that, and somebody would buy it all."""
    world.one(BOB, PlaceOrder(1, SELL, 1_000, 10))
    world.one(ALICE, PlaceOrder(1, BUY, 1_000, 10))
    world.one(ALICE, PlaceOrder(1, SELL, 1_100, 10, reduce_only=True, client_id=7))
    world.one(BOB, PlaceOrder(1, BUY, 990, 10))


def gain_much(world: Any) -> None:
    """Alice owes nearly as much as anybody may, and has gained far more than that asks for."""
    fill_balance(world)
    world.set_index(1_100)


def ruin_bob(world: Any) -> None:
    """Bob is worth less than nothing."""
    world.one(BOB, PlaceOrder(1, SELL, 1_000, 90))
    world.one(CAROL, PlaceOrder(1, BUY, 1_000, 90))
    world.set_index(1_112)


def choose_portfolio(world: Any) -> None:
    """Alice has portfolio margin."""
    assert world.one(ALICE, PORTFOLIO).code == "ok"


def outlive_with_position(world: Any) -> None:
    """Alice holds what nobody vouches for the price of."""
    hold_reduced(world)
    world.time_ms += 60_001


def wait_much(world: Any) -> None:
    """As much waits for Alice as may."""
    assert {each.code for each in world.run(ALICE, *[STOP] * WAITING_PER_ACCOUNT_MAX)} == {"ok"}


def quote_asks(world: Any) -> None:
    """There is something to take, and an order of Alice that only rests."""
    world.one(BOB, PlaceOrder(1, SELL, 950, 10))
    world.one(ALICE, replace(NAMED, tif=POST_ONLY))


# ---- the faults ----------------------------------------------------------------------------


def find_faults(order: Any, price: str) -> list[Case]:
    """What every order is refused for; `price` names its limit price, if it has one."""
    cases = [
        Case("account.unknown", order, sender=NOBODY),
        Case("order.unknown_market", replace(order, market=9)),
        Case("order.unknown_market", replace(order, market=-(2**63))),
        Case("order.size_not_positive", replace(order, size_lots=0)),
        Case("order.size_not_positive", replace(order, size_lots=-(2**63))),
        Case("order.size_overflow", replace(order, size_lots=2**32)),
        Case("order.size_overflow", replace(order, size_lots=2**63)),
        Case("oracle.no_index", order, world={"index": None}),
        Case("option.not_trading", replace(order, market=SERIES_ID_FIRST), world=OPTIONS),
        Case("order.client_id_invalid", replace(order, client_id=-1)),
        Case("order.client_id_invalid", replace(order, client_id=2**63)),
        Case("order.duplicate_client_id", replace(order, client_id=7), place(NAMED)),
        Case(
            "order.duplicate_client_id",
            replace(order, client_id=7),
            place(replace(STOP, client_id=7)),
        ),
    ]
    if not price:
        whole = replace(order, size_lots=ORDER_SIZE_MAX_LOTS)
        huge = {"tick_size_microquote": 100_000_000}
        return [*cases, Case("order.notional_overflow", whole, world=huge)]
    largest = {price: 2**32 - 1, "size_lots": 2**32 - 1}
    return [
        *cases,
        Case("order.price_not_positive", replace(order, **{price: 0})),
        Case("order.price_not_positive", replace(order, **{price: -(2**63)})),
        Case("order.price_overflow", replace(order, **{price: 2**32})),
        Case("order.notional_overflow", replace(order, **largest)),
    ]


def find_risks(order: Any, wrap: Callable[[Any], Instruction], price: str) -> list[Case]:
    """What an order that acts at once is refused for: band, position, balance and margin."""

    def make(**changes: Any) -> Instruction:
        return wrap(replace(order, **changes))

    return [
        Case("order.price_band", make(**{price: 499})),
        Case("order.price_band", make(**{price: 1_501})),
        Case("order.reduce_only_would_increase", make(reduce_only=True)),
        Case("oracle.stale", make(), outlive_reports),
        Case(
            "order.position_overflow",
            make(**{price: 1, "size_lots": ORDER_SIZE_MAX_LOTS}),
            fill_position,
            world=FULL,
        ),
        Case(
            "order.balance_overflow",
            make(**{price: 999, "size_lots": HUGE_LOTS}),
            fill_balance,
            world=HUGE,
        ),
        Case("margin.insufficient", make(size_lots=100_000), world=POOR),
    ]


def find_resting_faults(wrap: Callable[[PlaceOrder], Instruction]) -> list[Case]:
    """What an order that may rest is refused for."""
    return [
        Case("order.too_many_open", wrap(LEG), place(NAMED), world={"orders_max": 1}),
        Case("order.market_full", wrap(LEG), place(LIMIT, BOB), world={"open_orders_max": 1}),
        Case("order.post_only_would_cross", wrap(replace(LEG, price_ticks=960)), quote_asks),
    ]


def find_times(order: Any, wrap: Callable[[Any], Instruction]) -> list[Case]:
    """What an order with an end is refused for."""
    return [
        Case("order.good_til_invalid", wrap(replace(order, good_til_ms=-1))),
        Case("order.good_til_invalid", wrap(replace(order, good_til_ms=2**63))),
        Case("order.expired", wrap(replace(order, good_til_ms=1_000))),
    ]


def find_full_rooms(order: Instruction) -> list[Case]:
    """What an order that waits is refused for where there is no room."""
    return [
        Case("waiting.too_many", order, wait_much),
        Case("waiting.market_full", order, place(STOP, BOB), bounds={"WAITING_PER_MARKET_MAX": 1}),
    ]


def same(order: Instruction) -> Instruction:
    return order


def pair(leg: ConditionalOrder | TrailingStop) -> OneCancelsOther:
    """A pair with this leg, the other one being faultless."""
    return OneCancelsOther(replace(LEG, market=leg.market), leg)


def pair_limit(leg: PlaceOrder) -> OneCancelsOther:
    return OneCancelsOther(STOP, replace(leg, tif=POST_ONLY))


def find_pair_faults() -> list[Case]:
    """Those of either leg."""
    faults = [*find_faults(STOP, "price_ticks"), *find_times(STOP, same)]
    return [
        *[each._replace(instruction=pair(each.instruction)) for each in faults],
        *find_risks(LEG, pair_limit, "price_ticks"),
        *find_resting_faults(pair_limit),
        *find_full_rooms(pair(STOP)),
    ]


AMEND_CASES = [
    Case("account.unknown", AMEND, sender=NOBODY),
    Case("order.reference_invalid", Amend(0, 0, 950, 10)),
    Case("order.reference_invalid", Amend(1, 7, 950, 10), place(NAMED)),
    Case("order.unknown", AMEND),
    Case("order.unknown", Amend(1, 0, 950, 10), place(LIMIT, BOB)),
    Case("order.not_amendable", AMEND, place(replace(STOP, client_id=7))),
    Case("order.size_not_positive", replace(AMEND, size_lots=0), place(NAMED)),
    Case("order.size_overflow", replace(AMEND, size_lots=2**32), place(NAMED)),
    Case("order.price_not_positive", replace(AMEND, price_ticks=0), place(NAMED)),
    Case("order.price_overflow", replace(AMEND, price_ticks=2**32), place(NAMED)),
    Case("order.notional_overflow", Amend(0, 7, 2**32 - 1, 2**32 - 1), place(NAMED)),
    Case("order.price_band", replace(AMEND, price_ticks=499), place(NAMED)),
    Case(
        "order.duplicate_client_id",
        AMEND,
        place(NAMED),
        before=(replace(NAMED, tif=POST_ONLY, price_ticks=901),),
    ),
    Case("order.too_many_open", AMEND, place(NAMED), (LEG,), {"orders_max": 1}),
    Case("order.market_full", AMEND, place(NAMED), (BETTER,), {"open_orders_max": 1}),
    Case(
        "order.reduce_only_would_increase",
        Amend(0, 7, 1_050, 10),
        hold_reduced,
        (MarketOrder(1, SELL, 990, 10),),
    ),
    Case("oracle.stale", AMEND, outlive_reports),
    Case("order.position_overflow", Amend(0, 7, 1, ORDER_SIZE_MAX_LOTS), fill_position, world=FULL),
    Case("order.balance_overflow", Amend(0, 7, 999, HUGE_LOTS), fill_balance, world=HUGE),
    Case("margin.insufficient", replace(AMEND, size_lots=100_000), place(NAMED), world=POOR),
    Case("order.post_only_would_cross", replace(AMEND, price_ticks=960), quote_asks),
]

BID = Bid(BOB, 1_000_000, 0)
LIQUIDATED = {
    "balance": 100_000,
    "liquidation": LiquidationParams(part_min_microquote=0, insolvent_ms=10_000),
}


def sell_out(price: int, passed_ms: int = 0) -> Callable[[Any], None]:
    """Bob is 100 lots long at 1,000 with 100,000 of equity, and for sale at this index."""

    def prepare(world: Any) -> None:
        world.deposit(ALICE, 10_000_000)
        world.one(BOB, PlaceOrder(1, BUY, 1_000, 100))
        world.one(ALICE, PlaceOrder(1, SELL, 1_000, 100))
        world.one(CAROL, PlaceOrder(1, BUY, 800, 100))
        world.set_index(price)
        world.time_ms += passed_ms

    return prepare


def bid(code: str, order: Bid = BID, prepare: Any = None, **rest: Any) -> Case:
    return Case(code, order, prepare or sell_out(930), world=LIQUIDATED, **rest)


BID_CASES = [
    Case("auction.unknown", BID),
    bid("account.unknown", sender=NOBODY),
    bid("auction.unknown", replace(BID, account=DAVE)),
    bid("auction.own", sender=BOB),
    bid("auction.portion_invalid", replace(BID, portion_ppm=0)),
    bid("auction.portion_invalid", replace(BID, portion_ppm=2**64 - 1)),
    bid("auction.premium_invalid", replace(BID, premium_ppm=-(2**63))),
    bid("auction.premium_invalid", replace(BID, premium_ppm=1_000_001)),
    bid("auction.premium_too_high", replace(BID, premium_ppm=40_000)),
    bid("auction.sold", before=(BID,)),
    bid("auction.too_many_bids", before=(BID,), bounds={"BIDS_PER_BLOCK_MAX": 1}),
    bid("auction.uninsured", replace(BID, premium_ppm=5_000), sell_out(900, 1_000)),
    bid("oracle.stale", prepare=sell_out(930, 60_001)),
    bid("order.position_overflow", sender=CAROL, bounds={"POSITION_MAX_LOTS": 120}),
    bid("order.balance_overflow", bounds={"BALANCE_ABS_MAX_MICROQUOTE": 10_000_000}),
    bid("margin.insufficient", sender=CAROL),
]


def sell_to_portfolio(world: Any) -> None:
    """Bob is for sale, and Erin has portfolio margin."""
    sell_out(930)(world)
    assert world.one(ERIN, PORTFOLIO).code == "ok"


REPORT = OracleReport(1, 1_000, 10, 1_000)
SURFACE = VolatilityReport(1, (500_000,) * 20, 10, 1_000)


def find_outflow_faults(instruction: Withdraw | Transfer) -> list[Case]:
    """What refuses whatever moves collateral out of an account."""
    return [
        Case("account.unknown", instruction, sender=NOBODY),
        Case("collateral.amount_invalid", replace(instruction, amount_microquote=2**57)),
        Case("collateral.oracle_stale", instruction, outlive_reports),
        Case("collateral.insufficient", replace(instruction, amount_microquote=2**50)),
        Case(
            "collateral.out_of_range",
            replace(instruction, amount_microquote=2**54),
            gain_much,
            world=HUGE,
        ),
    ]


CASES = [
    *find_faults(LIMIT, "price_ticks"),
    *find_risks(LIMIT, same, "price_ticks"),
    *find_resting_faults(same),
    *find_times(LIMIT, same),
    Case("order.good_til_invalid", replace(LIMIT, tif=TimeInForce.IOC, good_til_ms=2_000)),
    Case("order.fok_unfillable", replace(LIMIT, tif=TimeInForce.FOK)),
    *find_faults(MARKET, "protective_price_ticks"),
    *find_risks(MARKET, same, "protective_price_ticks"),
    Case("account.unknown", Cancel(1), place(LIMIT), sender=NOBODY),
    Case("order.reference_invalid", Cancel()),
    Case("order.reference_invalid", Cancel(1, 7), place(NAMED)),
    Case("order.unknown", Cancel(1), place(LIMIT, BOB)),
    Case("order.unknown", Cancel(-(2**63)), place(LIMIT)),
    Case("account.unknown", CancelAll(), place(LIMIT), sender=NOBODY),
    Case("order.unknown_market", CancelAll(9), place(LIMIT)),
    *AMEND_CASES,
    Case("oracle.not_a_reporter", REPORT),
    Case("oracle.unknown_market", replace(REPORT, market=9), sender=REPORTER),
    Case("oracle.price_invalid", replace(REPORT, price_ticks=0), sender=REPORTER),
    Case("oracle.price_invalid", replace(REPORT, price_ticks=2**32), sender=REPORTER),
    Case("oracle.sequence", replace(REPORT, sequence=1), sender=REPORTER),
    Case("oracle.sequence", replace(REPORT, sequence=2**63), sender=REPORTER),
    *(
        Case(
            "portfolio.too_many_markets",
            order,
            choose_portfolio,
            world=PORTFOLIOS,
            bounds={"PORTFOLIO_POSITIONS_MAX": 0},
        )
        for order in (LIMIT, MARKET, pair_limit(LEG))
    ),
    Case("account.unknown", PORTFOLIO, sender=NOBODY, world=PORTFOLIOS),
    Case("portfolio.unavailable", PORTFOLIO),
    Case("portfolio.unavailable", PORTFOLIO, world=OPTIONS),
    Case(
        "portfolio.too_many_markets",
        PORTFOLIO,
        place(LIMIT),
        world=PORTFOLIOS,
        bounds={"PORTFOLIO_POSITIONS_MAX": 0},
    ),
    Case("oracle.stale", PORTFOLIO, outlive_with_position, world=PORTFOLIOS),
    Case("margin.insufficient", PORTFOLIO, place(LIMIT), world=PORTFOLIOS | {"balance": 20_000}),
    Case("oracle.not_a_reporter", SURFACE, world=OPTIONS),
    Case("oracle.unknown_market", SURFACE, sender=REPORTER),
    Case("oracle.unknown_market", replace(SURFACE, market=9), sender=REPORTER, world=OPTIONS),
    *(
        Case(
            "option.surface_invalid",
            replace(SURFACE, vols_ppm=vols),
            sender=REPORTER,
            world=OPTIONS,
        )
        for vols in ((), (500_000,) * 19, (500_000,) * 21, (2**63,) * 20, (-1,) * 20)
    ),
    Case("oracle.sequence", replace(SURFACE, sequence=0), sender=REPORTER, world=OPTIONS),
    Case("oracle.source_time", replace(SURFACE, source_time_ms=-1), sender=REPORTER, world=OPTIONS),
    Case("oracle.source_time", replace(REPORT, source_time_ms=2_001), sender=REPORTER),
    Case("oracle.source_time", replace(REPORT, source_time_ms=-(2**63)), sender=REPORTER),
    *find_faults(STOP, "price_ticks"),
    *find_times(STOP, same),
    *find_full_rooms(STOP),
    Case("trigger.price_invalid", replace(STOP, trigger_ticks=0)),
    Case("trigger.price_invalid", replace(STOP, trigger_ticks=2**32)),
    Case("trigger.post_only", replace(STOP, tif=POST_ONLY)),
    *find_faults(TRAILING, ""),
    *find_times(TRAILING, same),
    *find_full_rooms(TRAILING),
    Case(
        "waiting.market_full",
        TRAILING,
        place(TRAILING, BOB),
        bounds={"TRAILING_PER_MARKET_MAX": 1},
    ),
    Case("trigger.offset_invalid", replace(TRAILING, offset_ticks=0)),
    Case("trigger.offset_invalid", replace(TRAILING, slack_ticks=-1)),
    Case("trigger.post_only", replace(TRAILING, tif=POST_ONLY)),
    *find_pair_faults(),
    Case("oco.markets_differ", OneCancelsOther(LEG, replace(STOP, market=2))),
    Case("oco.legs_invalid", OneCancelsOther(LEG, LEG)),
    Case("oco.legs_invalid", OneCancelsOther(LIMIT, STOP)),
    Case("trigger.price_invalid", pair(replace(STOP, trigger_ticks=0))),
    Case("trigger.offset_invalid", pair(replace(TRAILING, offset_ticks=2**32))),
    Case("trigger.post_only", pair(replace(STOP, tif=POST_ONLY))),
    *find_faults(TWAP, "price_ticks"),
    *find_full_rooms(TWAP),
    Case("twap.schedule_invalid", replace(TWAP, interval_ms=999)),
    Case("twap.schedule_invalid", replace(TWAP, duration_ms=10_500)),
    Case("twap.schedule_invalid", replace(TWAP, size_lots=9)),
    Case("account.unknown", ArmDeadMan(1_000), sender=NOBODY),
    Case("dead_man.timeout_invalid", ArmDeadMan(-1)),
    Case("dead_man.timeout_invalid", ArmDeadMan(2**63)),
    *find_outflow_faults(WITHDRAW),
    Case("withdraw.destination_invalid", replace(WITHDRAW, destination=b"d" * 21)),
    Case("withdraw.too_small", replace(WITHDRAW, amount_microquote=0)),
    Case("withdraw.gated", WITHDRAW, ruin_bob, world={"balance": 100_000}),
    Case("withdraw.too_many", WITHDRAW, before=(WITHDRAW,) * WITHDRAWALS_PER_ACCOUNT_MAX),
    Case("withdraw.full", WITHDRAW, before=(WITHDRAW,), bounds={"WITHDRAWALS_MAX": 1}),
    *find_outflow_faults(GIFT),
    Case("transfer.destination_invalid", replace(GIFT, sub=1)),
    Case("transfer.to_itself", Transfer(1)),
    Case("transfer.to_itself", replace(GIFT, account=ALICE)),
    Case("transfer.account_unknown", replace(GIFT, account=NOBODY)),
    Case("sub_account.number_invalid", Transfer(1, sub=SUB_ACCOUNTS_MAX + 1)),
    Case("sub_account.number_invalid", OnBehalf(0, CancelAll())),
    *BID_CASES,
    Case(
        "portfolio.too_many_markets",
        BID,
        sell_to_portfolio,
        world=PORTFOLIOS | LIQUIDATED,
        bounds={"PORTFOLIO_POSITIONS_MAX": 0},
        sender=ERIN,
    ),
]


# ---- what they prove -----------------------------------------------------------------------


def run_case(make_world: Any, case: Case, *, is_with: bool) -> Any:
    """The world after the block with the instruction, or after the same block without it."""
    world = make_world(**case.world)
    case.prepare(world)
    bystander = world.envelope(DAVE, ArmDeadMan(5_000))
    bundle = (*case.before, *((case.instruction,) if is_with else ()))
    own = [world.envelope(case.sender, *bundle)] if bundle else []
    world.block([bystander, *own])
    return world


def find_leaves(world: Any) -> dict[object, bytes]:
    """What is committed of every account and market."""
    accounts = {key: encode_account(each) for key, each in world.state.accounts.items()}
    return accounts | {key: encode_market(each) for key, each in world.state.markets.items()}


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{type(case.instruction).__name__}-{case.code}" for case in CASES]
)
def test_what_is_refused_leaves_everything_else_as_it_would_be_without_it(
    case: Case, make_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in case.bounds.items():
        for module in (bidding, handover, margin_modes, portfolio_margin, triggers, withdrawals):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    world = run_case(make_world, case, is_with=True)
    receipt = next(
        each
        for each in world.output.receipts
        if each.index == len(case.before) and each.envelope_id == world.count.to_bytes(32, "big")
    )
    assert (receipt.status, receipt.code, receipt.filled_lots) == (Status.REFUSED, case.code, 0)
    accepted = [each for each in world.output.receipts if each.status is not Status.REFUSED]
    assert len(accepted) == 1 + len(case.before), "the others of the block go on"
    other = run_case(make_world, case, is_with=False)
    if not isinstance(case.instruction, Amend):
        assert world.output.state_root == other.output.state_root
    leaves, expected = find_leaves(world), find_leaves(other)
    # An amend may have cancelled the order that it meant to replace.
    differing = [each for each in leaves if leaves[each] != expected.get(each)]
    assert differing in ([], [ALICE] if isinstance(case.instruction, Amend) else [])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bundle.malformed"),
        (b"\xc1", "bundle.malformed"),
        (encode(Bundle((LIMIT,)))[:-1], "bundle.malformed"),
        (encode(Bundle(())), "bundle.empty"),
        (
            encode(Bundle((LIMIT,) * (INSTRUCTIONS_PER_BUNDLE_MAX + 1))),
            "bundle.too_many_instructions",
        ),
    ],
)
def test_a_bundle_that_is_none_is_refused_as_a_whole(world: Any, body: bytes, code: str) -> None:
    world.block([world.raw(ALICE, body), world.envelope(DAVE, LIMIT)])
    by_code = {receipt.code: receipt.status for receipt in world.output.receipts}
    assert by_code == {code: Status.REFUSED, "ok": Status.RESTING}
    assert code in BUNDLE_REFUSALS
    assert world.state.accounts[ALICE].orders == {}


def test_every_refusal_of_the_table_is_proven_by_an_example() -> None:
    told = {(kind.__name__, code.value) for kind, codes in REFUSALS.items() for code in codes}
    proven = {(type(case.instruction).__name__, case.code) for case in CASES}
    missing = [
        f"no example shows that {kind} can be refused with {code}: add one to CASES here, or take"
        " the code out of REFUSALS in engine/refusals.py"
        for kind, code in sorted(told - proven)
    ]
    missing += [
        f"an example shows that {kind} can be refused with {code}: add it to REFUSALS in"
        " engine/refusals.py"
        for kind, code in sorted(proven - told)
    ]
    assert "\n".join(missing) == ""
