"""The markets and accounts that a new localnet starts with.

Parameters are in the range of what large perpetual exchanges use for the same assets; the notional
of every lot at every tick is a whole number of micro-quote. Funding is at most six times what
initial margin exceeds maintenance margin by, for eight hours, so that no payment alone liquidates.
The mark keeps to less than half of the maintenance margin around the index, likewise.
The last market matches by auctions.
"""

from typing import Final, NamedTuple

from engine.genesis import (
    FeeTier,
    FeeTiers,
    FundingParams,
    LiquidationParams,
    MarketParams,
    MarkParams,
    Matching,
    OpenInterestParams,
)
from engine.limits import QUOTE_MICROQUOTE
from engine.options.params import OptionParams
from engine.portfolio.rules import PortfolioRules

_IMPACT_MICROQUOTE: Final = 10_000_000_000
"""10,000 in quote: what a vote on funding or on the mark would trade."""

_MILLION: Final = 1_000_000_000_000
"""A million in quote."""

_BITCOIN_OPTIONS: Final = OptionParams(
    tick_size_microquote=10_000,
    strike_step_ticks=10_000,
    strikes_each_side=2,
    strikes_max=12,
    expiries=2,
    taker_fee_ppm=3_000,
    portfolio=PortfolioRules(),
)
"""Calls and puts a thousand USD apart, for the next two days at 08:00 UTC."""

MARKETS: Final = (
    MarketParams(
        market=1,
        symbol="BTC-PERP",
        tick_size_microquote=100_000,
        lots_per_base=10_000,
        initial_margin_ppm=50_000,
        maintenance_margin_ppm=30_000,
        maker_fee_ppm=-50,
        taker_fee_ppm=450,
        price_band_ppm=100_000,
        oracle_max_age_ms=10_000,
        funding=FundingParams(_IMPACT_MICROQUOTE, rate_max_ppm=120_000),
        mark=MarkParams(_IMPACT_MICROQUOTE, premium_max_ppm=10_000),
        open_interest=OpenInterestParams(200 * _MILLION, 800 * _MILLION),
        options=_BITCOIN_OPTIONS,
    ),
    MarketParams(
        market=2,
        symbol="ETH-PERP",
        tick_size_microquote=10_000,
        lots_per_base=1_000,
        initial_margin_ppm=50_000,
        maintenance_margin_ppm=30_000,
        maker_fee_ppm=-50,
        taker_fee_ppm=450,
        price_band_ppm=100_000,
        oracle_max_age_ms=10_000,
        funding=FundingParams(_IMPACT_MICROQUOTE, rate_max_ppm=120_000),
        mark=MarkParams(_IMPACT_MICROQUOTE, premium_max_ppm=10_000),
        open_interest=OpenInterestParams(200 * _MILLION, 800 * _MILLION),
    ),
    MarketParams(
        market=3,
        symbol="SOL-PERP",
        tick_size_microquote=10_000,
        lots_per_base=100,
        initial_margin_ppm=100_000,
        maintenance_margin_ppm=50_000,
        maker_fee_ppm=0,
        taker_fee_ppm=500,
        price_band_ppm=150_000,
        oracle_max_age_ms=10_000,
        funding=FundingParams(_IMPACT_MICROQUOTE, rate_max_ppm=300_000),
        mark=MarkParams(_IMPACT_MICROQUOTE, premium_max_ppm=20_000),
        open_interest=OpenInterestParams(40 * _MILLION, 160 * _MILLION),
    ),
    MarketParams(
        market=4,
        symbol="DOGE-PERP",
        tick_size_microquote=10,
        lots_per_base=1,
        initial_margin_ppm=200_000,
        maintenance_margin_ppm=100_000,
        maker_fee_ppm=0,
        taker_fee_ppm=500,
        price_band_ppm=200_000,
        oracle_max_age_ms=10_000,
        funding=FundingParams(_IMPACT_MICROQUOTE, rate_max_ppm=600_000),
        matching=Matching.AUCTION,
        mark=MarkParams(_IMPACT_MICROQUOTE, premium_max_ppm=40_000),
        open_interest=OpenInterestParams(20 * _MILLION, 80 * _MILLION),
    ),
)
"""Ticks are 0.1, 0.01, 0.01 and 0.00001 USD; lots 0.0001 BTC, 0.001 ETH, 0.01 SOL and 1 DOGE."""

LIQUIDATION: Final = LiquidationParams(
    insurance_microquote=1_000_000 * QUOTE_MICROQUOTE,
    cooldown_ms=5_000,
    closing_max_ms=30_000,
    auction_fast_ms=60_000,
    auction_slow_ms=600_000,
    insolvent_ms=120_000,
)
"""Shorter than on large exchanges: whoever tries it wants to see the end. The fund begins with a
million in quote."""

FEE_TIERS: Final = FeeTiers(
    (
        FeeTier(5_000_000 * QUOTE_MICROQUOTE, taker_reduction_ppm=50, maker_reduction_ppm=0),
        FeeTier(25_000_000 * QUOTE_MICROQUOTE, taker_reduction_ppm=100, maker_reduction_ppm=10),
        FeeTier(100_000_000 * QUOTE_MICROQUOTE, taker_reduction_ppm=150, maker_reduction_ppm=20),
    ),
    epoch_ms=3_600_000,
    epochs=24,
)
"""By the volume of a day; exchanges take 14 or 30, which nobody sees the end of on a localnet."""

WITHDRAWAL_MIN_MICROQUOTE: Final = QUOTE_MICROQUOTE

PEOPLE: Final = ("alice", "bob")
"""Accounts for whoever tries the commands; nothing trades for them by itself."""

DEMO_TRADERS: Final = tuple(f"trader{number}" for number in range(8))
"""Accounts of the demo traders' process."""

PERSON_DEPOSIT_MICROQUOTE: Final = 100_000 * QUOTE_MICROQUOTE
TRADER_DEPOSIT_MICROQUOTE: Final = 50_000_000 * QUOTE_MICROQUOTE
"""Deep enough to quote all markets for days without running out of margin."""

FEE_CREDIT_MICROQUOTE: Final = 1_000_000 * QUOTE_MICROQUOTE
"""Envelope fees of one account, people and traders alike, and of each member's oracle key."""


class AccountPlan(NamedTuple):
    """One account of a new localnet."""

    name: str
    deposit_microquote: int
    is_trader: bool
    """Driven by the demo traders' process."""


ACCOUNTS: Final = (
    *(AccountPlan(name, PERSON_DEPOSIT_MICROQUOTE, False) for name in PEOPLE),
    *(AccountPlan(name, TRADER_DEPOSIT_MICROQUOTE, True) for name in DEMO_TRADERS),
)


def make_plain_market(market: int, symbol: str) -> MarketParams:
    """A market of usual parameters, of which measurements and simulations have as many as they
    want. Prices are around 100,000 ticks; reports of its price may be a minute old."""
    return MarketParams(
        market=market,
        symbol=symbol,
        tick_size_microquote=10_000,
        lots_per_base=1_000,
        initial_margin_ppm=50_000,
        maintenance_margin_ppm=30_000,
        maker_fee_ppm=-20,
        taker_fee_ppm=500,
        price_band_ppm=100_000,
        oracle_max_age_ms=60_000,
    )
