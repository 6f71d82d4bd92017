"""What a stream begins with: markets with everything switched on, and how wild its world is."""

from random import Random
from typing import Final, NamedTuple

from engine.accounts.sub_accounts import compute_sub_account_id
from engine.block import Reporter
from engine.genesis import (
    EngineGenesis,
    FeeTier,
    FeeTiers,
    FundingParams,
    GenesisDeposit,
    LiquidationParams,
    MarketParams,
    MarkParams,
    Matching,
    OpenInterestParams,
)
from engine.limits import PPM, PRICE_MAX_TICKS
from engine.options.params import OptionParams
from engine.portfolio.rules import PortfolioRules

MINUTE_MS: Final = 60_000
START_MS: Final = 60 * MINUTE_MS

ACCOUNTS: Final = tuple(bytes([value]) * 32 for value in range(1, 7))
"""The last one has nothing at first."""
SUB_ACCOUNTS: Final = tuple(
    compute_sub_account_id(owner, number) for owner in ACCOUNTS[:4] for number in (1, 2)
)
STRANGER: Final = b"z" * 32
"""Never has an account."""
REPORTERS: Final = (Reporter(b"r" * 32, 2), Reporter(b"q" * 32, 1))

PERPETUALS: Final = (1, 2, 3, 4)
PRICE_START_TICKS: Final = 1_000


class Temper(NamedTuple):
    """How wild a stream is."""

    deposits: tuple[int, ...]
    """Micro-quote that an account begins with."""
    sizes: tuple[int, ...]
    """Lots of an order."""
    leaps: tuple[float, ...]
    """Factors of a price that leaps."""
    leap_permille: int
    price_most: int
    steps_ms: tuple[int, ...]
    """From one block to the next, mostly."""
    jumps_ms: tuple[int, ...]
    """Now and then."""
    jump_permille: int
    options_permille: int
    """Of orders, so many are for options."""


_CRASHING: Final = Temper(
    deposits=(100_000, 300_000),
    sizes=(1, 5, 60, 100, 200),
    leaps=(0.5, 0.7, 0.85, 0.9, 1.1, 1.15, 1.3, 2),
    leap_permille=100,
    price_most=4_000,
    steps_ms=(0, 0, 100, 100, 500, 1_000, 5_000, 20_000),
    jumps_ms=(MINUTE_MS, 6 * MINUTE_MS, 30 * MINUTE_MS, 2_000 * MINUTE_MS),
    jump_permille=30,
    options_permille=300,
)
"""Small accounts, falling prices: liquidations, auctions of slices, insolvency."""

_EXTREME: Final = _CRASHING._replace(
    deposits=(100_000, 2**52),
    sizes=(1, 60, 10**6, 2**31, 2**32 - 1),
    leaps=(0.0001, 0.01, 0.5, 0.9, 1.1, 2, 30, 10_000),
    price_most=PRICE_MAX_TICKS,
)
"""Numbers at the ends of their ranges."""

_EXPIRING: Final = _CRASHING._replace(
    deposits=(300_000, 3_000_000, 10**8),
    sizes=(1, 5, 20, 60, 100, 400, 3_000),
    leap_permille=20,
    steps_ms=(0, 100, 1_000, 5_000, MINUTE_MS // 2, MINUTE_MS, MINUTE_MS),
    jumps_ms=(5 * MINUTE_MS, 10 * MINUTE_MS, 35 * MINUTE_MS),
    jump_permille=100,
    options_permille=800,
)
"""Money enough, and a clock that reaches expiry after expiry."""

TEMPERS: Final = (_CRASHING, _EXTREME, _EXPIRING)
"""In turn by seed."""


def make_genesis(random: Random, temper: Temper) -> EngineGenesis:
    """Four markets: with options and portfolio margin; by auction; either; with options or not."""
    choose = random.choice
    funding = FundingParams(
        200_000, 50_000, interval_ms=MINUTE_MS, sample_interval_ms=10_000, vote_interval_ms=1_000
    )
    mark = MarkParams(choose((1_000, 100_000)), 50_000, average_ms=choose((5_000, 150_000)))
    interest = OpenInterestParams(200_000, choose((2_000_000, 10**9)))

    def make_market(market: int, **features: object) -> MarketParams:
        return MarketParams(
            market=market,
            symbol=f"M{market}-PERP",
            tick_size_microquote=10_000,
            lots_per_base=1_000,
            initial_margin_ppm=100_000,
            maintenance_margin_ppm=50_000,
            maker_fee_ppm=-150,
            taker_fee_ppm=400,
            price_band_ppm=choose((500_000, 900_000)),
            oracle_max_age_ms=3 * MINUTE_MS,
            open_orders_max=choose((5, 1_000, 1_000)),
            funding=choose((funding, funding, None)),
            mark=choose((mark, mark, None)),
            open_interest=choose((interest, None)),
            **features,  # type: ignore[arg-type]  # What the callers below name.
        )

    with_options = _make_options(random)
    markets = (
        make_market(1, options=with_options),
        make_market(2, matching=Matching.AUCTION),
        make_market(3, matching=choose(tuple(Matching))),
        make_market(4, options=choose((None, with_options))),
    )
    tiers = FeeTiers(
        (FeeTier(100_000, 100, 50), FeeTier(1_000_000, 200, 50)), epoch_ms=10_000, epochs=3
    )
    return EngineGenesis(
        markets,
        tuple(GenesisDeposit(name, choose(temper.deposits)) for name in ACCOUNTS[:-1]),
        time_ms=START_MS,
        account_open_orders_max=choose((4, 24, 256)),
        fee_tiers=choose((tiers, None)),
        withdrawal_min_microquote=choose((1, 1_000)),
        liquidation=_make_liquidation(random),
    )


def _make_options(random: Random) -> OptionParams:
    choose = random.choice
    return OptionParams(
        tick_size_microquote=choose((1_000, 10_000)),
        strike_step_ticks=50,
        strikes_each_side=1,
        strikes_max=5,
        expiries=choose((1, 2, 3)),
        expiry_interval_ms=10 * MINUTE_MS,
        expiry_offset_ms=0,
        window_ms=4 * MINUTE_MS,
        sample_interval_ms=choose((MINUTE_MS // 2, MINUTE_MS)),
        mark_interval_ms=choose((1_000, 7_000)),
        maker_fee_ppm=-100,
        taker_fee_ppm=300,
        price_band_ppm=300_000,
        open_orders_max=choose((3, 10_000)),
        vol_tenors_s=(600,),
        vol_moneyness_ppm=(900_000, 1_100_000),
        vol_max_age_ms=3 * MINUTE_MS,
        portfolio=choose((PortfolioRules(), PortfolioRules(), None)),
    )


def _make_liquidation(random: Random) -> LiquidationParams:
    choose = random.choice
    return LiquidationParams(
        insurance_microquote=choose((1, 20_000, 100_000, 1_000_000)),
        fee_ppm=choose((0, 10_000, 100_000)),
        spread_ppm=choose((0, 100_000, PPM)),
        adjustment_ppm=choose((0, PPM, 100 * PPM)),
        part_ppm=choose((1, 200_000, PPM)),
        part_min_microquote=choose((0, 20_000, 1_000_000)),
        cooldown_ms=choose((1, 300, 20_000)),
        retry_ms=choose((1, 100, 5_000)),
        closing_max_ms=choose((0, 500, 20_000)),
        backstop_ppm=choose((0, 666_667, PPM)),
        buffer_ppm=choose((0, 150_000, 10 * PPM)),
        auction_fast_ms=choose((1, 300, 10_000)),
        auction_slow_ms=choose((1, 700, 20_000)),
        insolvent_ms=choose((0, 20_000, 60_000, 600_000)),
    )
