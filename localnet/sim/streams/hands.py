"""One instruction after the other: every kind, mostly sensible, now and then as nobody means it."""

from collections.abc import Sequence
from random import Random
from typing import Final

from engine.instructions import (
    AccountInstruction,
    Amend,
    ArmDeadMan,
    Bid,
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
    SelfTradeMode,
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
from engine.limits import PPM, SERIES_ID_FIRST
from engine.state import EngineState
from engine.trading.market import Market
from localnet.sim.streams.conditions import ACCOUNTS, STRANGER, SUB_ACCOUNTS, Temper

HOSTILE: Final = (
    *(0, -1, 1, 2, 31, 32, 33, PPM, PPM + 1, SERIES_ID_FIRST - 1, SERIES_ID_FIRST, 2**32 - 1),
    *(2**32, 2**40, 2**56, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)),
)
"""What a number may be that nobody means."""
HOSTILE_PERMILLE: Final = 30
"""So often any number is one of these."""

NAMES_MOST: Final = 20
"""Client ids are taken again and again."""
SERIES_NEAR: Final = 6
"""Of the oldest series are most orders, so that some of them meet."""

_SIDES: Final = tuple(Side)
_LASTING: Final = (*tuple(TimeInForce), TimeInForce.GTC, TimeInForce.GTC)
_SELF_TRADES: Final = tuple(SelfTradeMode)
_SOURCES: Final = tuple(TriggerSource)
_KINDS: Final = tuple(TriggerKind)


class Hands:
    """Draws what accounts ask for, from what there is in the engine at the moment."""

    def __init__(
        self,
        random: Random,
        temper: Temper,
        accounts: Sequence[bytes] = (*ACCOUNTS, *SUB_ACCOUNTS),
    ) -> None:
        """`accounts` are those that transfers and bids may name."""
        self._random = random
        self._temper = temper
        self._accounts = accounts

    def draw(self, state: EngineState) -> Instruction:
        """The next instruction."""
        random = self._random
        if random.random() < 0.01:
            return random.choice((OracleReport(1, 1, 1, 1), VolatilityReport(1, (1, 1), 1, 1)))
        instruction = self.draw_own(state)
        if random.random() < 0.15:
            return OnBehalf(self._bend(random.randint(1, 3)), instruction)
        return instruction

    def draw_own(self, state: EngineState) -> AccountInstruction:
        """What an account may ask for itself, or for a sub-account."""
        random = self._random
        kind = random.random()
        if kind < 0.35:
            return self._place(state)
        if kind < 0.54:
            return self._take(state)
        if kind < 0.63:
            return self._change(state)
        if kind < 0.74:
            return self._wait(state)
        if kind < 0.75:
            return ArmDeadMan(self._bend(random.choice((0, 1_000, 3_000))))
        if kind < 0.79:
            amount = random.choice((1, 1_000, 100_000, 10**6))
            return Withdraw(self._bend(amount), random.choice((b"d" * 20, b"", bytes(20))))
        if kind < 0.85:
            return self._transfer()
        if kind < 0.965:
            return self._bid(state)
        return SetMarginMode(random.choice(tuple(MarginMode)))

    # ---- numbers -------------------------------------------------------------------------------

    def _bend(self, number: int) -> int:
        random = self._random
        is_bent = random.randrange(1_000) < HOSTILE_PERMILLE
        return random.choice(HOSTILE) if is_bent else number

    def _choose_market(self, state: EngineState) -> Market:
        random, markets = self._random, list(state.markets.values())
        perpetuals = len(state.perpetuals)
        if len(markets) == perpetuals or random.randrange(1_000) >= self._temper.options_permille:
            return random.choice(markets[:perpetuals])
        series = markets[perpetuals:]
        return random.choice(series[:SERIES_NEAR] if random.randrange(5) else series)

    def _choose_lots(self) -> int:
        return self._random.choice(self._temper.sizes)

    def _choose_name(self) -> int:
        random = self._random
        return random.randint(1, NAMES_MOST) if random.randrange(4) == 0 else 0

    def _choose_until(self, state: EngineState) -> int:
        random = self._random
        if random.randrange(4):
            return 0
        return self._bend(state.time_ms + random.randint(-1, 5_000))

    # ---- orders --------------------------------------------------------------------------------

    def _place(
        self, state: EngineState, tif: TimeInForce | None = None, market: Market | None = None
    ) -> PlaceOrder:
        random = self._random
        market = self._choose_market(state) if market is None else market
        step = 10 if market.series is not None else 1
        price = (market.mark_price or 100) + random.randint(-6, 6) * step
        edge = random.randrange(10)
        if edge < 2:
            price = market.band_high if edge else market.band_low
        return PlaceOrder(
            self._bend(market.market_id),
            random.choice(_SIDES),
            self._bend(max(price, 1)),
            self._bend(self._choose_lots()),
            random.choice(_LASTING) if tif is None else tif,
            random.random() < 0.15,
            random.choice(_SELF_TRADES),
            self._choose_name(),
            self._choose_until(state),
        )

    def _take(self, state: EngineState) -> MarketOrder:
        random, market = self._random, self._choose_market(state)
        side = random.choice(_SIDES)
        return MarketOrder(
            market.market_id,
            side,
            self._bend(max(1, market.mark_price + 100 * int(side))),
            self._bend(self._choose_lots()),
            random.random() < 0.15,
            random.choice(_SELF_TRADES),
        )

    def _change(self, state: EngineState) -> AccountInstruction:
        random = self._random
        known = [*state.orders, *state.waiting]
        by_id = bool(known) and random.randrange(3) > 0
        order_id = self._bend(random.choice(known)) if by_id else 0
        client_id = 0 if by_id else random.randint(0, NAMES_MOST)
        kind = random.randrange(9)
        if kind == 0:
            return CancelAll(random.choice((None, 1, 2, 3, *state.markets)))
        if kind <= 4:
            return Cancel(order_id, client_id)
        order = state.orders.get(order_id)
        price = order.price if order is not None else random.randint(900, 1_100)
        price += random.choice((0, 0, 1, -1, 5))
        return Amend(order_id, client_id, self._bend(price), self._bend(random.randint(0, 100)))

    def _wait(self, state: EngineState) -> AccountInstruction:
        random, market = self._random, self._choose_market(state)
        kind = random.randrange(11)
        if kind < 5:
            return self._conditional(state, market)
        if kind < 8:
            legs = [
                self._conditional(state, market)
                if random.randrange(5) < 3
                else self._place(state, TimeInForce.POST_ONLY, market)
                for _ in range(2)
            ]
            return OneCancelsOther(*legs)
        interval_ms = random.choice((1_000, 5_000, 60_000))
        return TwapOrder(
            market.market_id,
            random.choice(_SIDES),
            max(1, market.mark_price + random.randint(-100, 100)),
            self._bend(random.randint(1, 300)),
            self._bend(interval_ms * random.choice((1, 2, 10))),
            self._bend(interval_ms),
            random.random() < 0.2,
            random.choice(_SELF_TRADES),
        )

    def _conditional(self, state: EngineState, market: Market) -> ConditionalOrder | TrailingStop:
        random, mark = self._random, market.mark_price or 100
        reduces, self_trade = random.random() < 0.3, random.choice(_SELF_TRADES)
        if random.randrange(3) == 0:
            return TrailingStop(
                market.market_id,
                random.choice(_SIDES),
                random.choice(_SOURCES),
                self._bend(random.randint(1, 50)),
                self._bend(random.randint(0, 60)),
                self._bend(self._choose_lots()),
                random.choice(_LASTING),
                reduces,
                self_trade,
                self._choose_name(),
            )
        return ConditionalOrder(
            market.market_id,
            random.choice(_SIDES),
            random.choice(_KINDS),
            random.choice(_SOURCES),
            self._bend(max(mark + random.randint(-30, 30), 1)),
            self._bend(max(mark + random.randint(-60, 60), 1)),
            self._bend(self._choose_lots()),
            random.choice(_LASTING),
            reduces,
            self_trade,
            self._choose_name(),
            self._choose_until(state),
        )

    # ---- money and liquidations ----------------------------------------------------------------

    def _transfer(self) -> Transfer:
        random = self._random
        amount = self._bend(random.choice((1, 10_000, 100_000, 300_000, 10**6)))
        kind = random.randrange(3)
        if kind == 0:
            return Transfer(amount, b"", self._bend(random.randint(0, 3)))
        if kind == 1:
            return Transfer(amount, random.choice(self._accounts))
        return Transfer(
            amount, random.choice((b"x", STRANGER, self._accounts[0])), random.randint(0, 1)
        )

    def _bid(self, state: EngineState) -> Bid:
        random, liquidations = self._random, state.liquidations
        under_way = sorted(liquidations.records) if liquidations is not None else []
        if under_way and random.randrange(5) < 3:
            account = random.choice(under_way)
        else:
            account = random.choice((*self._accounts, STRANGER))
        portion = random.choice((1, 1_000, random.randint(1, PPM), PPM))
        premium = random.choice((0, 1, random.randint(0, 60_000), random.randint(0, PPM)))
        return Bid(account, self._bend(portion), self._bend(premium))
