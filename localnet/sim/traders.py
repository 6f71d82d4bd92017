"""What the simulated traders ask for: with most seeds what `oracles.trades` has rules of its own
for, and with some every instruction that an account may send, options included.

They draw from generators of their own, so that more kinds of orders change nothing else in a run.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from random import Random
from typing import Final

from msgspec.structs import replace

from engine.genesis import FeeTier, FeeTiers, MarketParams, MarkParams, Matching, OpenInterestParams
from engine.instructions import (
    AccountInstruction,
    Amend,
    Cancel,
    CancelAll,
    Instruction,
    MarketOrder,
    OnBehalf,
    PlaceOrder,
    SelfTradeMode,
    Side,
    TimeInForce,
    Transfer,
    Withdraw,
)
from engine.options.params import OptionParams
from engine.portfolio.rules import PortfolioRules
from engine.state import EngineState
from localnet.markets import make_plain_market
from localnet.sim.oracles.books import SUB_ACCOUNTS
from localnet.sim.streams.conditions import Temper
from localnet.sim.streams.hands import Hands

MARKET: Final = 1
SMALL_MARKET: Final = 2
"""The same rules for every fifth order."""
MARKETS: Final = (MARKET, SMALL_MARKET)

BASE_PRICE_TICKS: Final = 100_000
PRICE_GRID_TICKS: Final = 5
"""Coarse, so that several orders wait at one price."""

FEE_TIERS: Final = FeeTiers(
    (FeeTier(10**8, 100, 0), FeeTier(10**9, 200, 30)), epoch_ms=1_000, epochs=3
)
"""Within reach of a run of seconds."""

MARK: Final = MarkParams(10**6, 20_000, average_ms=2_000, interval_ms=500)
OPEN_INTEREST: Final = OpenInterestParams(5 * 10**6, 10**9)
"""So, too."""

AUCTIONS_EVERY: Final = 4
"""Of seeds, so many to one whose large market matches by auctions."""

WILD_EVERY: Final = 5
"""Of seeds, so many to one whose traders ask for whatever the engine knows."""
WILD_ONE_IN: Final = 2
"""So often they do, and otherwise for what all traders ask."""

_WILD: Final = Temper(
    deposits=(),
    sizes=(1, 5, 20, 100),
    leaps=(),
    leap_permille=0,
    price_most=0,
    steps_ms=(),
    jumps_ms=(),
    jump_permille=0,
    options_permille=600,
)

OPTIONS: Final = OptionParams(
    tick_size_microquote=10_000,
    strike_step_ticks=1_000,
    strikes_each_side=0,
    strikes_max=3,
    expiries=1,
    expiry_interval_ms=60_000,
    expiry_offset_ms=2_500,
    window_ms=1_000,
    sample_interval_ms=250,
    taker_fee_ppm=500,
    vol_tenors_s=(600,),
    vol_moneyness_ppm=(900_000, 1_100_000),
    portfolio=PortfolioRules(),
)
"""The first expiry is within reach of a run of seconds. Every other wild seed has them."""
VOLATILITY_PPM: Final = 600_000

NAMES_KEPT: Final = 12
"""An account cancels and amends one of so many orders that it named last, open or not."""

GOOD_FOR_MS: Final = (200, 3_000)

_LASTING: Final = (
    *[TimeInForce.GTC] * 6,
    TimeInForce.IOC,
    TimeInForce.FOK,
    *[TimeInForce.POST_ONLY] * 2,
)


def make_markets(seed: int) -> tuple[MarketParams, ...]:
    """The markets of a simulated chain: a plain one, which calls auctions with a share of the
    seeds, and one with a mark of its own and a margin that grows with what is open."""
    plain, other = (
        make_plain_market(market, symbol)
        for market, symbol in zip(MARKETS, ("SIM-PERP", "SMALL-PERP"), strict=True)
    )
    if seed % AUCTIONS_EVERY == AUCTIONS_EVERY - 1:
        plain = replace(plain, matching=Matching.AUCTION)
    if seed % (2 * WILD_EVERY) == 2:
        plain = replace(plain, options=OPTIONS)
    return plain, replace(other, mark=MARK, open_interest=OPEN_INTEREST)


def is_wild(seed: int) -> bool:
    """Whether the traders of a seed ask for more than what `oracles.trades` knows rules of."""
    return seed % WILD_EVERY == 2


class Traders:
    """The accounts, and the names that they gave their orders."""

    def __init__(self, seed: int, accounts: Sequence[bytes]) -> None:
        """`accounts` are the ids that a transfer may name."""
        self._accounts = (*accounts, bytes(32))
        self._random = Random(f"traders {seed}")
        self._moves = Random(f"collateral {seed}")
        wild = Random(f"wild {seed}")
        self._wild = wild
        self._hands = Hands(wild, _WILD, self._accounts) if is_wild(seed) else None
        self._last_name = 0
        self._names: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=NAMES_KEPT))

    def make(self, account: int, now_ms: int, state: EngineState | None = None) -> Instruction:
        """What an account asks for next. What wild traders ask for hangs on an engine's state."""
        order = self._make_order(account, now_ms)
        if self._hands is not None and state is not None and not self._wild.randrange(WILD_ONE_IN):
            order = self._hands.draw_own(state)
        choice = self._moves.randrange(40)
        if choice == 0:
            return self._make_collateral()
        if choice <= 3:
            return OnBehalf(1 + choice % SUB_ACCOUNTS, order)
        return order

    def _make_order(self, account: int, now_ms: int) -> AccountInstruction:
        random = self._random
        side = random.choice((Side.BUY, Side.SELL))
        market = SMALL_MARKET if random.randrange(5) == 0 else MARKET
        lots = random.randint(1, 20)
        price = BASE_PRICE_TICKS - side * PRICE_GRID_TICKS * random.randint(-1, 10)
        names = self._names[account]
        kind = random.randrange(20)
        if kind == 0:
            return CancelAll(random.choice((None, market)))
        if kind <= 2 and names:
            return Cancel(client_id=random.choice(names))
        if kind <= 4 and names:
            return Amend(0, random.choice(names), price, lots)
        self_trade = random.choice(tuple(SelfTradeMode))
        if kind <= 10:
            limit = BASE_PRICE_TICKS + random.choice((20, 500)) * side
            return MarketOrder(market, side, limit, lots, self_trade=self_trade)
        lasts = random.choice(_LASTING)
        name = good_til_ms = 0
        if lasts in (TimeInForce.GTC, TimeInForce.POST_ONLY):
            if random.randrange(2):
                name = self._last_name = self._last_name + 1
                names.append(name)
            if random.randrange(10) == 0:
                good_til_ms = now_ms + random.randint(*GOOD_FOR_MS)
        return PlaceOrder(
            market,
            side,
            price,
            lots,
            lasts,
            self_trade=self_trade,
            client_id=name,
            good_til_ms=good_til_ms,
        )

    def _make_collateral(self) -> Instruction:
        """In the place of an order; now and then too much, or to an account that there is not."""
        random = self._moves
        amount = random.choice((1, 50, 10**9, 10**13))
        if random.randrange(3) == 0:
            return Withdraw(amount, bytes([random.randint(0, 2)]) * 20)
        if random.randrange(2):
            return Transfer(10 * amount, sub=random.randint(0, SUB_ACCOUNTS))
        return Transfer(amount, random.choice(self._accounts))
