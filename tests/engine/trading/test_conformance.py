"""The public conformance suite of matching engines (`tracebook-conformance`) against this one.

Every event becomes instructions of one block of the whole engine, with accounts that are rich
enough for margin never to matter; after each, the suite compares outcome, trades and the whole book
in priority order with its own reference. Where the two worlds differ, the adapter translates:

* Prices are ticks and sizes lots here; the suite's numbers are rounded to its tick and must be
  whole lots of 2^-20.
* Self-trade prevention is always on and works by account. The suite's policy NONE is that of
  traders who use an account for each order.
* A replacement to the same price and no larger size loses its place in the suite and keeps it here:
  it is a cancel and a new order in one bundle. Any other replacement is an amend.
* There is no order at any price: a market order is protected by the end of the price band.
* A fill-or-kill order that cannot be filled is refused here and done with there.
"""

from collections.abc import Callable
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from tracebook.conformance import (
    BUNDLED_SUITE_VERSIONS,
    BookSnapshot,
    BookState,
    CampaignProfile,
    ConformanceConfig,
    ConformanceError,
    EngineMetadata,
    Observation,
    Outcome,
    RestingOrder,
    TradeFill,
    canonical_decimal,
    copy_bundled_conformance_suite,
    get_campaign_profile,
    run_campaign,
    run_conformance,
    run_conformance_suite,
    run_qualification,
)
from tracebook.core.order import OrderSide, OrderType, SelfTradePolicy
from tracebook.events import MarketEvent

from engine.block import Deposit
from engine.instructions import (
    Amend,
    Cancel,
    CancelAll,
    Instruction,
    MarketOrder,
    PlaceOrder,
    SelfTradeMode,
    Side,
    TimeInForce,
)
from engine.limits import PPM
from engine.receipts import ReasonCode, Receipt, Status

UNSUPPORTED = {
    "pro-rata-allocation": "orders at one price trade by age here, never in proportion to size",
}
"""Cases by name, with the reason."""

LOTS = 2**20
"""Lots of one unit of the suite's quantities: it halves sizes again and again."""

DEPOSIT_MICROQUOTE = 10**14

MODES = {
    SelfTradePolicy.NONE: SelfTradeMode.CANCEL_MAKER,
    SelfTradePolicy.CANCEL_RESTING: SelfTradeMode.CANCEL_MAKER,
    SelfTradePolicy.CANCEL_INCOMING: SelfTradeMode.CANCEL_TAKER,
}
TIFS = {
    OrderType.LIMIT: TimeInForce.GTC,
    OrderType.IOC: TimeInForce.IOC,
    OrderType.FOK: TimeInForce.FOK,
}
REASONS = {
    ReasonCode.ACCOUNT_UNKNOWN: "ORDER_NOT_ACTIVE",
    ReasonCode.ORDER_UNKNOWN: "ORDER_NOT_ACTIVE",
    ReasonCode.ORDER_DUPLICATE_CLIENT_ID: "DUPLICATE_ORDER_ID",
}
LOWEST_KEY = -(2**40)


class Adapter:
    """The engine as the suite wants to see it: an event in, what came of it out."""

    metadata = EngineMetadata("rota", "1", "Python")

    def __init__(self, world, config: ConformanceConfig) -> None:
        self.world = world
        self.policy = config.self_trade_policy
        self.tick = Decimal(canonical_decimal(config.tick_size))
        self.markets: dict[str, int] = {}
        self.owners: dict[tuple[int, int], int] = {}
        """By market and the suite's order id."""
        self.names: dict[int, int] = {}
        """The suite's order ids by the engine's."""
        self.books: set[str] = set()
        """Symbols that ever had an order or were cleared."""

    def apply(self, event: MarketEvent, index: int) -> Observation:
        market = self.markets.setdefault(event.symbol, len(self.markets) + 1)
        if event.op in ("new", "clear"):
            self.books.add(event.symbol)
        outcome, trades = Outcome("applied"), ()
        if event.op == "clear":
            self.clear(market)
        else:
            receipt = self.run(market, event)
            if (
                receipt.status is Status.REFUSED
                and receipt.code is not ReasonCode.ORDER_FOK_UNFILLABLE
            ):
                other = "INVALID_REPLACEMENT" if event.op == "replace" else "INVALID_ORDER"
                outcome = Outcome("rejected", REASONS.get(receipt.code, other), receipt.code)
            trades = tuple(self.trade(event, fill) for fill in self.world.output.fills)
        state = self.snapshot()
        return Observation(index, outcome, trades, state.digest(), state.order_count)

    def run(self, market: int, event: MarketEvent) -> Receipt:
        """The instructions of one event in one block; the receipt of the last."""
        name = (market, event.order_id)
        owner = event.owner if event.op == "new" else self.owners.get(name, 0)
        account = self.account(market, event.order_id, owner)
        client_id = market << 40 | event.order_id
        if event.op == "new":
            instructions = [self.order(market, event, client_id)]
        else:
            instructions = self.change(account, market, event, client_id)
        deposits = []
        if event.op == "new" and account not in self.world.state.accounts:
            deposits.append(Deposit(account, DEPOSIT_MICROQUOTE, bytes(32)))
        envelope = self.world.envelope(account, *instructions)
        receipts = self.world.block([envelope], deposits).receipts
        assert all(receipt.status is not Status.REFUSED for receipt in receipts[:-1])
        if receipts[-1].status is not Status.REFUSED:
            self.owners[name] = owner
            self.names[receipts[-1].order_id] = event.order_id
        return receipts[-1]

    def account(self, market: int, order_id: int, owner: int) -> bytes:
        """Whose order it is: with policy NONE a trader has an account for each order."""
        number = market << 40 | order_id if self.policy is SelfTradePolicy.NONE else owner
        return b"suite" + number.to_bytes(27, "big")

    def order(self, market: int, event: MarketEvent, client_id: int) -> Instruction:
        side = Side.BUY if event.side is OrderSide.BUY else Side.SELL
        lots = self.lots(event.quantity)
        mode = MODES[self.policy]
        if event.order_type is OrderType.MARKET:
            limits = self.world.state.markets[market]
            price = limits.band_high if side is Side.BUY else limits.band_low
            return MarketOrder(market, side, price, lots, False, mode, client_id)
        tif = TIFS[event.order_type]
        price = self.ticks(event.price)
        return PlaceOrder(market, side, price, lots, tif, False, mode, client_id)

    def change(
        self, account: bytes, market: int, event: MarketEvent, client_id: int
    ) -> list[Instruction]:
        """A cancel, reduction or replacement."""
        cancel = Cancel(client_id=client_id)
        state = self.world.state.accounts.get(account)
        order = None if state is None else state.clients.get(client_id)
        if event.op == "cancel" or order is None:
            return [cancel]
        if event.op == "reduce":
            left = order.lots - self.lots(event.quantity)
            return [Amend(0, client_id, order.price, left)] if left else [cancel]
        price = order.price if event.price is None else self.ticks(event.price)
        lots = order.lots if event.quantity is None else self.lots(event.quantity)
        if price != order.price or lots > order.lots:
            return [Amend(0, client_id, price, lots)]
        side, tif, mode = Side(order.side), TimeInForce.GTC, MODES[self.policy]
        return [cancel, PlaceOrder(market, side, price, lots, tif, False, mode, client_id)]

    def clear(self, market: int) -> None:
        owners = {
            order.exposure.account.account_id
            for order in self.world.state.orders.values()
            if order.exposure.market.market_id == market
        }
        self.world.block([self.world.envelope(owner, CancelAll(market)) for owner in owners])

    def trade(self, event: MarketEvent, fill) -> TradeFill:
        maker, taker = self.names[fill.maker_order_id], self.names[fill.taker_order_id]
        buyer, seller = (taker, maker) if fill.taker_side is Side.BUY else (maker, taker)
        price, quantity = self.price(fill.price_ticks), self.quantity(fill.size_lots)
        return TradeFill(event.symbol, buyer, seller, price, quantity)

    def snapshot(self) -> BookState:
        return BookState(tuple(self.book(symbol) for symbol in sorted(self.books)))

    def book(self, symbol: str) -> BookSnapshot:
        market = self.markets[symbol]
        book = self.world.state.markets[market].book
        bids, asks = (
            tuple(
                RestingOrder(
                    self.names[order.order_id],
                    self.price(order.price),
                    self.quantity(order.lots),
                    self.owners[market, self.names[order.order_id]],
                )
                for order in side.crossed_orders(LOWEST_KEY)
            )
            for side in (book.bids, book.asks)
        )
        return BookSnapshot(symbol, bids, asks)

    def close(self) -> None:
        """Nothing is held."""

    def ticks(self, price: float) -> int:
        return int((Decimal(str(price)) / self.tick).to_integral_value(ROUND_HALF_EVEN))

    def price(self, ticks: int) -> str:
        return canonical_decimal(ticks * self.tick)

    def lots(self, quantity: float) -> int:
        lots = Fraction(quantity) * LOTS
        if lots.denominator != 1:
            raise ConformanceError(f"{quantity} is no whole number of lots")
        return int(lots)

    def quantity(self, lots: int) -> str:
        return canonical_decimal(Decimal(lots) / LOTS, 12)


@pytest.fixture(scope="module")
def make_adapter(make_world) -> Callable[[ConformanceConfig], Adapter]:
    """An engine with four markets around 100.00, whose bands hold all prices of the suite."""

    def make(config: ConformanceConfig) -> Adapter:
        world = make_world(
            markets=4,
            index=10_000,
            tick_size_microquote=LOTS,
            lots_per_base=LOTS,
            price_band_ppm=PPM - 1,
        )
        return Adapter(world, config)

    return make


@pytest.fixture(scope="module", params=BUNDLED_SUITE_VERSIONS)
def suite(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite") / request.param
    return copy_bundled_conformance_suite(folder, suite_version=request.param)


@pytest.fixture(scope="module")
def traces(is_long) -> int:
    """Generated traces of a campaign."""
    return 100 if is_long else 4


def test_every_supported_case_of_the_suite_passes(suite, make_adapter):
    assert {case.name for case in suite.cases} >= UNSUPPORTED.keys()
    supported = tuple(case for case in suite.cases if case.name not in UNSUPPORTED)
    report = run_conformance_suite(replace(suite, cases=supported), make_adapter)
    failed = [case for case in report["cases"] if not case["report"]["conformant"]]
    assert failed == []
    assert report["conformant_cases"] == len(suite.cases) - len(UNSUPPORTED)


def test_a_case_that_is_not_supported_differs_in_what_trades_and_nothing_before(
    suite, make_adapter
):
    """Should one come to pass, it is to leave the list."""
    for case in suite.cases:
        if case.name in UNSUPPORTED:
            report = run_conformance(case.load_events(), make_adapter, case.config)
            assert report.divergence is not None, f"{case.name} passes"
            assert report.divergence.category == "trades"


@pytest.mark.parametrize("profile", ["fifo-limit-v1", "fifo-full-v1", "fifo-partial-fill-v1"])
def test_the_engine_qualifies_for_every_profile(profile, make_adapter, traces):
    result = run_qualification(make_adapter, profile, traces=traces)
    assert result.campaign.failure is None
    assert result.coverage_complete
    assert result.qualified


@pytest.mark.parametrize(
    "policy", [SelfTradePolicy.CANCEL_RESTING, SelfTradePolicy.CANCEL_INCOMING]
)
def test_generated_traces_with_self_trade_prevention_agree(policy, make_adapter, traces):
    full = get_campaign_profile("fifo-full-v1")
    profile = CampaignProfile(
        name=f"fifo-{policy.name.lower()}",
        description="All order types, with self-trade prevention.",
        config=ConformanceConfig(self_trade_policy=policy),
        order_types=full.order_types,
        capabilities=full.capabilities,
    )
    result = run_campaign(make_adapter, profile, traces=traces, events_per_trace=200)
    assert result.failure is None
