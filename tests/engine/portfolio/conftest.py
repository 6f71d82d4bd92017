"""Two perpetuals, one with options: what accounts with portfolio margin hold."""

import pytest

from engine.genesis import MarketParams
from engine.options.params import OptionParams
from engine.portfolio.rules import PortfolioRules

WEEK_MS = 7 * 86_400_000


@pytest.fixture
def market_params():
    """The one with options. At an index of 600,000 ticks, which is 60,000 in quote, strikes are
    1,000 apart; a lot is 0.0001."""
    return MarketParams(
        market=1,
        symbol="BTC-PERP",
        tick_size_microquote=100_000,
        lots_per_base=10_000,
        initial_margin_ppm=50_000,
        maintenance_margin_ppm=30_000,
        maker_fee_ppm=0,
        taker_fee_ppm=0,
        price_band_ppm=200_000,
        oracle_max_age_ms=60_000,
        options=OptionParams(
            tick_size_microquote=10_000,
            strike_step_ticks=10_000,
            expiries=3,
            expiry_interval_ms=WEEK_MS,
            portfolio=PortfolioRules(),
        ),
    )
