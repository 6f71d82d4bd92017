"""Parameters of options that a genesis may have."""

import pytest
from msgspec.structs import replace

from engine.genesis import (
    EngineGenesis,
    GenesisError,
    MarketParams,
    validate_genesis,
)
from engine.limits import SERIES_ID_FIRST, SERIES_MAX
from engine.options.params import OptionParams
from engine.portfolio.rules import PortfolioRules

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


@pytest.mark.parametrize(
    "changes",
    [
        {"tick_size_microquote": 1_500},
        {"strikes_each_side": 4},
        {"strikes_max": 64, "expiries": 12},
        {"sample_interval_ms": 7 * MINUTE_MS},
        {"sample_interval_ms": 100},
        {"window_ms": HOUR_MS},
        {"expiry_offset_ms": HOUR_MS},
        {"maker_fee_ppm": -1},
        {"short_initial_min_ppm": 160_000},
        {"short_maintenance_ppm": 140_000},
        {"portfolio": PortfolioRules(net_delta_ppm=4_999)},
        {"portfolio": PortfolioRules(hedged_delta_ppm=40_001)},
        {"vol_min_ppm": 6_000_000},
        {"vol_tenors_s": tuple(range(1, 12))},
        {"vol_tenors_s": (7_200, 1_800)},
        {"vol_moneyness_ppm": (900_000, 900_000)},
    ],
)
def test_options_that_make_no_sense_are_refused_in_the_genesis(changes, market_params):
    options = replace(market_params.options, **changes)
    with pytest.raises(GenesisError):
        validate_genesis(EngineGenesis((replace(market_params, options=options),)))


def test_twice_the_floor_on_the_net_delta_is_allowed_for_the_hedged_one(market_params):
    for rules in (
        PortfolioRules(net_delta_ppm=5_000),
        PortfolioRules(net_delta_ppm=0, hedged_delta_ppm=0),
    ):
        options = replace(market_params.options, portfolio=rules)
        validate_genesis(EngineGenesis((replace(market_params, options=options),)))


def test_the_series_of_all_markets_are_bounded_and_have_ids_of_their_own(market_params):
    many = OptionParams(1_000, 50, strikes_max=64, expiries=7)
    assert many.series_max == SERIES_MAX
    crowded = replace(market_params, options=many)
    validate_genesis(EngineGenesis((crowded,)))
    other = MarketParams(2, "Y-PERP", 10_000, 1_000, 100_000, 50_000, 0, 0, 500_000, 60_000)
    with pytest.raises(GenesisError, match="option series"):
        validate_genesis(EngineGenesis((crowded, replace(other, options=market_params.options))))
    with pytest.raises(GenesisError, match="market id"):
        validate_genesis(EngineGenesis((market_params, replace(other, market=SERIES_ID_FIRST))))
