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
sums of products in all scenarios at once, as no slot's sum reaches the next slot.

Sums and products are exact; prices are rounded to the nearest Q64 number, charges up and excess
down. With the rounding of what comes in, a margin is off by at most 2^-60 of the portfolio's gross
value at spot: by 10^-10 in quote up to a hundred million.
"""

from collections.abc import Iterable, Sequence
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
    MarginParts,
    MarketData,
    Portfolio,
    PortfolioMargin,
    PortfolioParameters,
    VolShock,
)

_BITS: Final = FRACTION_BITS
_LINEAR: Final = -1
"""The number of the group of perpetuals and base, beside those of the expiries."""

_SLOT_BITS: Final = 320
"""Of one column's value in a row that is packed into one integer (`RiskArrays`)."""

_SLOT_MASK: Final = (1 << _SLOT_BITS) - 1
_SLOT_BIAS: Final = 1 << (_SLOT_BITS - 1)
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
        """The number of its expiry, or `_LINEAR`."""
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
        self.im_multiple = parameters.im_factor + _charge(lack, parameters.peg_factor)
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
        self.bias = _pack([_SLOT_BIAS] * len(self.columns))
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
                risk = Risk(each, _LINEAR, 0)
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


class _Holding:
    """The positions of an account in one group."""

    __slots__ = ("confidence", "spot_value", "value")

    def __init__(self) -> None:
        self.value = 0
        """In every column, packed."""
        self.spot_value = 0
        self.confidence = ONE


class _Exposure:
    """The positions of an account, grouped and summed up; values are Q128."""

    __slots__ = ("base", "gross_delta", "holdings", "naked_shorts", "net_delta", "perps")

    def __init__(self, arrays: RiskArrays, positions: Iterable[tuple[int, int]]) -> None:
        self.holdings: dict[int, _Holding] = {}
        self.perps = 0
        self.base = 0
        self.net_delta = 0
        self.gross_delta = 0
        strikes: dict[int, int] = {}
        risks = arrays.risks
        total_size = 0
        for index, size in positions:
            if not size:
                continue
            risk = risks[index]
            holding = self.holdings.get(risk.group)
            if holding is None:
                holding = self.holdings[risk.group] = _Holding()
            holding.value += size * risk.row
            if risk.confidence < holding.confidence:
                holding.confidence = risk.confidence
            delta = size * risk.delta_value
            self.net_delta += delta
            self.gross_delta += abs(delta)
            absolute = abs(size)
            total_size += absolute
            spot_value = absolute * risk.spot
            holding.spot_value += spot_value
            if risk.group != _LINEAR:
                strikes[risk.strike_index] = strikes.get(risk.strike_index, 0) + size
            elif risk.is_perp:
                self.perps += spot_value
            else:
                self.base += spot_value
        assert total_size < SIZES_BOUND
        self.naked_shorts = 0
        for index, size in strikes.items():
            if size < 0:
                self.naked_shorts -= size * arrays.strike_spots[index]


def compute_margin(
    arrays: RiskArrays, positions: Iterable[tuple[int, int]], cash: int
) -> PortfolioMargin:
    """The margins of one account: each position is the place of an instrument and a size.

    One position for each instrument: what is bought and sold of one is no hedge of deltas.
    """
    parameters = arrays.parameters
    exposure = _Exposure(arrays, positions)
    totals, option_value, base_value, basis = _compute_values(arrays, exposure)
    mark = option_value + base_value
    changes = [totals[column] - mark for column in arrays.scenario_columns]
    worst, worst_scenario = basis, -1
    if changes and (least := min(changes)) < basis:
        worst, worst_scenario = least, changes.index(least)

    static_perp = _charge(exposure.perps, parameters.static_perp)
    static_base = _charge(exposure.base, parameters.static_base)
    static_naked_short = _charge(exposure.naked_shorts, parameters.static_naked_short)
    loss = static_perp + static_base + static_naked_short - worst
    hedged_delta = (exposure.gross_delta - abs(exposure.net_delta)) >> 1
    floor = _charge(abs(exposure.net_delta), parameters.net_delta)
    floor += _charge(hedged_delta, parameters.hedged_delta)
    confidence = _compute_confidence(exposure, parameters)
    value = mark + (cash << _BITS)
    maintenance = max(loss, _charge(floor, parameters.delta_maintenance))
    initial = max(_charge(loss, arrays.im_multiple), floor) + confidence
    return PortfolioMargin(
        mark_to_market=value >> _BITS,
        maintenance_margin=(value - maintenance) >> _BITS,
        initial_margin=(value - initial) >> _BITS,
        scenario_changes=tuple(each >> _BITS for each in changes),
        parts=MarginParts(
            cash=cash,
            option_value=option_value >> _BITS,
            base_value=base_value >> _BITS,
            worst_change=worst >> _BITS,
            worst_scenario=worst_scenario,
            basis_change=basis >> _BITS,
            static_perp=-(-static_perp >> _BITS),
            static_base=-(-static_base >> _BITS),
            static_naked_short=-(-static_naked_short >> _BITS),
            im_multiple=arrays.im_multiple,
            confidence=-(-confidence >> _BITS),
            net_delta=exposure.net_delta >> _BITS,
            hedged_delta=hedged_delta >> _BITS,
            delta_floor=-(-floor >> _BITS),
        ),
    )


def _charge(value: int, factor: int) -> int:
    """A part of a value, rounded up."""
    return -(-value * factor >> _BITS)


def _compute_values(arrays: RiskArrays, exposure: _Exposure) -> tuple[list[int], int, int, int]:
    """Discounted values by column; the values of options and base at the mark; the basis."""
    totals = option_value = base_value = basis = 0
    bias = arrays.bias
    for group, holding in exposure.holdings.items():
        value = holding.value
        biased = value + bias
        mark = (biased & _SLOT_MASK) - _SLOT_BIAS
        totals += value << _BITS
        if group == _LINEAR:
            base_value = mark
            continue
        option_value += mark
        up = (biased >> _SLOT_BITS) & _SLOT_MASK
        down = (biased >> 2 * _SLOT_BITS) & _SLOT_MASK
        least = min(up, down) - _SLOT_BIAS - mark
        expiry = arrays.expiries[group]
        if least < 0:
            basis += least * expiry.basis_factor >> _BITS
        # Every slot's highest bit says that there is no loss, and becomes a mask of all below.
        signs = biased & bias
        gains = biased & (signs - (signs >> (_SLOT_BITS - 1)))
        totals -= gains * (ONE - expiry.discount)
    return _unpack(totals + bias, len(arrays.columns)), option_value, base_value, basis


def _pack(row: Sequence[int]) -> int:
    packed = 0
    for value in reversed(row):
        packed = (packed << _SLOT_BITS) + value
    return packed


def _pack_prices(row: Sequence[int]) -> int:
    assert max(row) < _PRICE_BOUND
    assert min(row) > -_PRICE_BOUND
    return _pack(row)


def _unpack(biased: int, count: int) -> list[int]:
    """The Q192 values out of their slots, as Q128 rounded down."""
    size = _SLOT_BITS >> 3
    data = biased.to_bytes(count * size, "little")
    return [
        (int.from_bytes(data[start : start + size], "little") - _SLOT_BIAS) >> _BITS
        for start in range(0, count * size, size)
    ]


def _compute_confidence(exposure: _Exposure, parameters: PortfolioParameters) -> int:
    """What prices of little confidence cost: of each group, by the least trusted of its
    instruments that are held. Doubt in the perpetual's or the base asset's price is doubt in the
    options on it."""
    linear = exposure.holdings.get(_LINEAR)
    least = ONE if linear is None else linear.confidence
    total = 0
    for holding in exposure.holdings.values():
        confidence = min(holding.confidence, least)
        if confidence < parameters.confidence_threshold:
            factor = _charge(ONE - confidence, parameters.confidence_factor)
            total += _charge(holding.spot_value, factor)
    return total


def compute_portfolio_margin(
    portfolio: Portfolio, market_data: MarketData, parameters: PortfolioParameters
) -> PortfolioMargin:
    """The margins of one portfolio, from nothing: a pure function of the three."""
    arrays = RiskArrays(market_data, parameters)
    return compute_margin(arrays, portfolio.positions, portfolio.cash)
