"""An exchange with options, an hour before the first of them expires."""

import pytest

from engine.genesis import EngineGenesis, GenesisDeposit, MarketParams
from engine.options.params import OptionParams

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
VOLS_PPM = (900_000, 800_000, 850_000, 700_000, 650_000, 750_000)
OPTIONS = OptionParams(
    tick_size_microquote=1_000,
    strike_step_ticks=50,
    strikes_each_side=2,
    strikes_max=8,
    expiries=2,
    expiry_interval_ms=HOUR_MS,
    expiry_offset_ms=0,
    window_ms=10 * MINUTE_MS,
    sample_interval_ms=MINUTE_MS,
    price_band_ppm=200_000,
    vol_tenors_s=(1_800, 7_200),
    vol_moneyness_ppm=(900_000, 1_000_000, 1_100_000),
)
MARKET = MarketParams(
    market=1,
    symbol="X-PERP",
    tick_size_microquote=10_000,
    lots_per_base=1_000,
    initial_margin_ppm=100_000,
    maintenance_margin_ppm=50_000,
    maker_fee_ppm=0,
    taker_fee_ppm=0,
    price_band_ppm=500_000,
    oracle_max_age_ms=60_000,
    options=OPTIONS,
)


@pytest.fixture
def options():
    """The parameters of the options."""
    return OPTIONS


@pytest.fixture
def market_params():
    """The perpetual that they are on."""
    return MARKET


@pytest.fixture
def vols_ppm():
    """The surface that is reported: two terms, three strikes."""
    return VOLS_PPM


@pytest.fixture
def make_exchange(world):
    """Five rich accounts, an index of 1,000 ticks, a surface."""

    def make(index=1_000, vols=VOLS_PPM, balance=10**12, markets=(MARKET,)):
        names = (world.ALICE, world.BOB, world.CAROL, world.DAVE, world.ERIN)
        deposits = tuple(GenesisDeposit(name, balance) for name in names)
        exchange = type(world)(EngineGenesis(markets, deposits))
        exchange.time_ms = 5 * HOUR_MS + 1_000
        if index:
            exchange.report(index, vols)
        return exchange

    return make


@pytest.fixture
def run_to_expiry(vols_ppm):
    """Reports once a minute from the beginning of a settlement window on."""

    def run(exchange, prices, start_ms=6 * HOUR_MS - 10 * MINUTE_MS):
        for number, price in enumerate(prices):
            exchange.time_ms = start_ms + number * MINUTE_MS + 17
            exchange.report(price, vols_ppm)

    return run
