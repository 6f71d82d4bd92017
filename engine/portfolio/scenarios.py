"""Portfolio margin: one base asset's options, perpetuals and spot, tried in scenarios together.

The form is that of the risk manager of Derive's second protocol, with Paradex's floor on deltas:

    expiry value under a shock  V(e, s) = sum of sizes x Black-76 prices at the shocked forward
    discounted                  V where V <= 0, else V discount exp(-T (rate factor + add))
    change(s)   = sum over expiries of (discounted V(e, s) - V(e)) + changes of perps and base
    basis       = sum over expiries of min(V(e, up) - V(e), V(e, down) - V(e), 0) (a + b T)
    static      = perps, base and naked shorts at spot

`MarginParts` has the rest. All of it is one base asset's: whoever holds several asks once for each
and adds up, with the cash in one of them.

Prices depend on market data alone, so they are computed once for all accounts (`RiskArrays`). The
prices of one instrument, `v_0` at the mark, `v_1` and `v_2` on the basis and then in the scenarios,
are one integer, `v_0 + v_1 2^320 + v_2 2^640 + ...`: sizes times such integers, added up, are the
sums of products in all scenarios at once, as no slot's sum reaches the next slot
(`engine.portfolio.sums`).

Sums and products are exact; prices are rounded to the nearest Q64 number, charges up and excess
down. With the rounding of what comes in, a margin is off by at most 2^-60 of the portfolio's gross
value at spot: by 10^-10 in quote up to a hundred million.
"""

from collections.abc import Sequence
from typing import Final

from engine.portfolio.black76 import (
    YEAR_S,
    compute_call,
    compute_delta,
    compute_log,
    compute_total_vol,
)
from engine.portfolio.fixed_point import (
    FRACTION_BITS,
    ONE,
    compute_exp,
    compute_power,
    multiply_fixed,
)
from engine.portfolio.terms import (
    VOL_TERM_S,
    Instrument,
    InstrumentKind,
    MarketData,
    PortfolioParameters,
    VolShock,
)

_BITS: Final = FRACTION_BITS
LINEAR: Final = -1
"""The number of the group of perpetuals and base, beside those of the expiries."""

SLOT_BITS: Final = 320
"""Of one column's value in a row that is packed into one integer (`RiskArrays`)."""

SLOT_MASK: Final = (1 << SLOT_BITS) - 1
SLOT_BIAS: Final = 1 << (SLOT_BITS - 1)
"""Added to a slot it makes any value in it positive."""

_PRICE_BOUND: Final = 1 << 132
"""Prices are below it, as Q64 numbers; with the next bound no sum of values leaves its slot."""

SIZES_BOUND: Final = 1 << 118
"""The absolute sizes of a portfolio add up to less, as Q64 numbers."""


class ExpiryRisk:
    """What the options of one expiry share: options with one time to expiry and one rate."""

    __slots__ = ("basis_factor", "discount", "vol_multiples")

    def __init__(self, time_s: int, rate: int, parameters: PortfolioParameters) -> None:
        assert parameters.discount <= ONE
        time_s = max(0, time_s)
        years = time_s // YEAR_S
        loss_rate = multiply_fixed(max(0, rate), parameters.discount_rate_factor)
        loss_rate += parameters.discount_rate_add
        self.discount = multiply_fixed(
            parameters.discount, compute_exp(-multiply_fixed(years, loss_rate))
        )
        self.basis_factor = parameters.basis_factor
        self.basis_factor += multiply_fixed(parameters.basis_factor_year, years)
        is_short = time_s <= VOL_TERM_S
        power = parameters.vol_power_short if is_short else parameters.vol_power_long
        term_s = max(time_s, parameters.vol_term_min_s)
        scale = compute_power((VOL_TERM_S << _BITS) // term_s, power)
        self.vol_multiples = {
            VolShock.DOWN: max(0, ONE - multiply_fixed(parameters.vol_range_down, scale)),
            VolShock.NONE: ONE,
            VolShock.UP: ONE + multiply_fixed(parameters.vol_range_up, scale),
        }


class Risk:
    """What an account's margin reads of one instrument."""

    __slots__ = ("confidence", "delta_value", "group", "is_perp", "row", "spot", "strike_index")

    def __init__(self, instrument: Instrument, group: int, strike_index: int) -> None:
        self.is_perp = instrument.kind is InstrumentKind.PERP
        self.spot = instrument.spot
        self.confidence = instrument.confidence
        self.group = group
        """The number of its expiry, or `LINEAR`."""
        self.strike_index = strike_index
        """Options with the same number cover each other's shorts."""
        self.row = 0
        """Its price in each column, packed."""
        self.delta_value = 0
        """What a unit moves with the price, in quote."""


_Column = tuple[int, VolShock]


class RiskArrays:
    """The prices of all instruments in all scenarios, and what they were computed from."""

    __slots__ = (
        "bias",
        "columns",
        "expiries",
        "im_multiple",
        "is_doubted",
        "parameters",
        "risks",
        "scenario_columns",
        "stable_price",
        "strike_spots",
    )

    def __init__(self, market_data: MarketData, parameters: PortfolioParameters) -> None:
        """Price everything. The stable asset is worth something, and no price is negative."""
        assert market_data.stable_price > 0
        self.parameters = parameters
        self.stable_price = market_data.stable_price
        lack = max(0, parameters.peg_threshold - self.stable_price)
        self.im_multiple = parameters.im_factor + charge(lack, parameters.peg_factor)
        self.columns: list[_Column] = [
            (spot_shock, VolShock.NONE)
            for spot_shock in (ONE, parameters.basis_shock_up, parameters.basis_shock_down)
        ]
        """The mark, the basis up and down, and every other combination of shocks, once."""
        self.scenario_columns: list[int] = []
        for each in parameters.scenarios:
            column = (each.spot_shock, each.vol_shock)
            if column not in self.columns:
                self.columns.append(column)
            self.scenario_columns.append(self.columns.index(column))
        self.is_doubted = any(
            each.confidence < parameters.confidence_threshold for each in market_data.instruments
        )
        """Is any price trusted so little that it costs something?"""
        self.bias = _pack([SLOT_BIAS] * len(self.columns))
        self.expiries: list[ExpiryRisk] = []
        self.strike_spots: list[int] = []
        """The price that naked shorts of each strike are charged at."""
        self.risks: list[Risk] = []
        self._price(market_data.instruments)

    def _price(self, instruments: Sequence[Instrument]) -> None:
        groups: dict[tuple[int, int], int] = {}
        strikes: dict[tuple[int, int, int], int] = {}
        forwards: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
        for each in instruments:
            if each.kind in (InstrumentKind.PERP, InstrumentKind.BASE):
                risk = Risk(each, LINEAR, 0)
                risk.row = _pack_prices(self._price_linear(each))
                risk.delta_value = each.spot
                self.risks.append(risk)
                continue
            group = groups.setdefault((each.time_s, each.rate), len(groups))
            if group == len(self.expiries):
                self.expiries.append(ExpiryRisk(each.time_s, each.rate, self.parameters))
            index = strikes.setdefault((group, each.strike, each.spot), len(strikes))
            if index == len(self.strike_spots):
                self.strike_spots.append(each.spot)
            shocked = forwards.get((each.forward, each.forward_fixed))
            if shocked is None:
                shocked = self._shock_forward(each)
                forwards[each.forward, each.forward_fixed] = shocked
            risk = Risk(each, group, index)
            self._price_option(risk, each, shocked)
            self.risks.append(risk)

    def _price_linear(self, instrument: Instrument) -> tuple[int, ...]:
        if instrument.kind is InstrumentKind.PERP:
            price = instrument.forward
            return tuple(multiply_fixed(shock - ONE, price) for shock, _ in self.columns)
        price = instrument.spot
        return tuple(price * shock // self.stable_price for shock, _ in self.columns)

    def _shock_forward(self, instrument: Instrument) -> tuple[tuple[int, int], ...]:
        """The shocked forward and its logarithm for each column."""
        fixed = instrument.forward_fixed
        variable = instrument.forward - fixed
        shocked = [multiply_fixed(variable, shock) + fixed for shock, _ in self.columns]
        logs = {price: compute_log(price) for price in dict.fromkeys(shocked)}
        return tuple((price, logs[price]) for price in shocked)

    def _price_option(
        self, risk: Risk, instrument: Instrument, shocked: tuple[tuple[int, int], ...]
    ) -> None:
        strike = instrument.strike
        is_call = instrument.kind is InstrumentKind.CALL
        log_strike = compute_log(strike)
        time_s = instrument.time_s
        total_vol = compute_total_vol(instrument.vol, time_s) if time_s > 0 else 0
        multiples = self.expiries[risk.group].vol_multiples
        total_vols = {shock: multiply_fixed(total_vol, multiples[shock]) for shock in VolShock}
        row = []
        for (forward, log_forward), (_, vol_shock) in zip(shocked, self.columns, strict=True):
            call = compute_call(forward, strike, log_forward, log_strike, total_vols[vol_shock])
            row.append(call if is_call else call + strike - forward)
        risk.row = _pack_prices(row)
        forward, log_forward = shocked[0]
        delta = compute_delta(forward, strike, log_forward, log_strike, total_vol, is_call=is_call)
        risk.delta_value = multiply_fixed(delta, instrument.spot)


def _pack(row: Sequence[int]) -> int:
    packed = 0
    for value in reversed(row):
        packed = (packed << SLOT_BITS) + value
    return packed


def _pack_prices(row: Sequence[int]) -> int:
    assert max(row) < _PRICE_BOUND
    assert min(row) > -_PRICE_BOUND
    return _pack(row)


def charge(value: int, factor: int) -> int:
    """A part of a value, rounded up."""
    return -(-value * factor >> _BITS)
