"""What a portfolio's positions sum up to, and its margins: kept while positions change.

Every sum is linear in the positions or a sum over them, and exact, so a position that changes adds
its change to them (`PositionSums.change`), whatever came before: the margins of a portfolio that
was changed a thousand times are to the last bit those of one that was summed up from nothing.
What the sums of an expiry are worth in the scenarios is kept until one of its options changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from engine.portfolio.fixed_point import FRACTION_BITS, ONE
from engine.portfolio.scenarios import (
    LINEAR,
    SIZES_BOUND,
    SLOT_BIAS,
    SLOT_BITS,
    SLOT_MASK,
    RiskArrays,
    charge,
)
from engine.portfolio.terms import (
    MarginParts,
    MarketData,
    Portfolio,
    PortfolioMargin,
    PortfolioParameters,
)

_BITS: Final = FRACTION_BITS


class _Holding:
    """The positions in one group: an expiry's options, or perpetuals and base. Values are Q128."""

    __slots__ = ("basis", "discounted", "group", "is_due", "mark", "spot_value", "value")

    def __init__(self, group: int) -> None:
        self.group = group
        self.value = 0
        """In every column, packed."""
        self.spot_value = 0
        """At spot, longs and shorts alike."""
        self.is_due = False
        """Have positions changed since what follows was computed?"""
        self.mark = 0
        self.discounted = 0
        """Q192 in every column, packed."""
        self.basis = 0

    def update(self, arrays: RiskArrays) -> None:
        """Compute what follows from the sums."""
        self.is_due = False
        value = self.value
        bias = arrays.bias
        biased = value + bias
        self.mark = mark = (biased & SLOT_MASK) - SLOT_BIAS
        self.discounted = value << _BITS
        if self.group == LINEAR:
            return
        expiry = arrays.expiries[self.group]
        up = (biased >> SLOT_BITS) & SLOT_MASK
        down = (biased >> 2 * SLOT_BITS) & SLOT_MASK
        least = min(up, down) - SLOT_BIAS - mark
        self.basis = least * expiry.basis_factor >> _BITS if least < 0 else 0
        # Every slot's highest bit says that there is no loss, and becomes a mask of all below.
        signs = biased & bias
        gains = biased & (signs - (signs >> (SLOT_BITS - 1)))
        self.discounted -= gains * (ONE - expiry.discount)


class Assessment:
    """What the sums of a portfolio come to; Q128."""

    __slots__ = (
        "base_value",
        "basis",
        "changes",
        "confidence",
        "floor",
        "hedged_delta",
        "initial",
        "maintenance",
        "option_value",
        "static_base",
        "static_naked_short",
        "static_perp",
        "worst",
    )

    def __init__(self, sums: PositionSums) -> None:
        arrays = sums.arrays
        parameters = arrays.parameters
        totals = self.option_value = self.base_value = basis = 0
        for holding in sums.holdings.values():
            if holding.is_due:
                holding.update(arrays)
            totals += holding.discounted
            if holding.group == LINEAR:
                self.base_value = holding.mark
            else:
                self.option_value += holding.mark
                basis += holding.basis
        self.basis = basis
        mark = self.option_value + self.base_value
        columns = _unpack(totals + arrays.bias, len(arrays.columns))
        self.changes = [columns[column] - mark for column in arrays.scenario_columns]
        self.worst = min(basis, min(self.changes, default=basis))
        self.static_perp = charge(sums.perps, parameters.static_perp)
        self.static_base = charge(sums.base, parameters.static_base)
        self.static_naked_short = charge(sums.naked_shorts, parameters.static_naked_short)
        loss = self.static_perp + self.static_base + self.static_naked_short - self.worst
        net_delta = abs(sums.net_delta)
        self.hedged_delta = (sums.gross_delta - net_delta) >> 1
        self.floor = charge(net_delta, parameters.net_delta)
        self.floor += charge(self.hedged_delta, parameters.hedged_delta)
        self.confidence = sums.compute_confidence()
        self.maintenance = max(loss, charge(self.floor, parameters.delta_maintenance))
        self.initial = max(charge(loss, arrays.im_multiple), self.floor) + self.confidence


class PositionSums:
    """The positions of a portfolio, grouped and summed up; values are Q128."""

    __slots__ = (
        "_strikes",
        "_total_size",
        "arrays",
        "base",
        "gross_delta",
        "holdings",
        "naked_shorts",
        "net_delta",
        "perps",
        "sizes",
    )

    def __init__(self, arrays: RiskArrays) -> None:
        self.arrays = arrays
        self.sizes: dict[int, int] = {}
        """By the place of the instrument; Q64, none of them zero."""
        self.holdings: dict[int, _Holding] = {}
        """By group."""
        self.perps = 0
        self.base = 0
        self.net_delta = 0
        self.gross_delta = 0
        self.naked_shorts = 0
        self._strikes: dict[int, int] = {}
        self._total_size = 0

    def change(self, index: int, size: int) -> None:
        """Add to the position in one instrument."""
        sizes = self.sizes
        before = sizes.get(index, 0)
        after = before + size
        grown = abs(after) - abs(before)
        if after:
            sizes[index] = after
        elif before:
            del sizes[index]
        self._total_size += grown
        assert self._total_size < SIZES_BOUND
        risk = self.arrays.risks[index]
        group = risk.group
        holding = self.holdings.get(group)
        if holding is None:
            holding = self.holdings[group] = _Holding(group)
        holding.is_due = True
        holding.value += size * risk.row
        delta_value = risk.delta_value
        self.net_delta += size * delta_value
        self.gross_delta += grown * (delta_value if delta_value > 0 else -delta_value)
        spot_value = grown * risk.spot
        holding.spot_value += spot_value
        if group != LINEAR:
            strike = risk.strike_index
            held = self._strikes.get(strike, 0)
            kept = self._strikes[strike] = held + size
            if held < 0 or kept < 0:
                naked = min(held, 0) - min(kept, 0)
                self.naked_shorts += naked * self.arrays.strike_spots[strike]
        elif risk.is_perp:
            self.perps += spot_value
        else:
            self.base += spot_value

    def compute_confidence(self) -> int:
        """What prices of little confidence cost: of each group, by the least trusted of its
        instruments that are held. Doubt in the perpetual's or the base asset's price is doubt in
        the options on it."""
        arrays = self.arrays
        if not arrays.is_doubted:
            return 0
        parameters = arrays.parameters
        trusts: dict[int, int] = {}
        for index in self.sizes:
            risk = arrays.risks[index]
            trusts[risk.group] = min(trusts.get(risk.group, ONE), risk.confidence)
        linear = trusts.get(LINEAR, ONE)
        total = 0
        for group, confidence in trusts.items():
            least = min(confidence, linear)
            if least < parameters.confidence_threshold:
                factor = charge(ONE - least, parameters.confidence_factor)
                total += charge(self.holdings[group].spot_value, factor)
        return total

    def compute_needs(self) -> tuple[int, int, int]:
        """Mark-to-market, and by how much IM and MM go below zero without cash, rounded as in
        `compute_margin`; Q64."""
        found = Assessment(self)
        value = found.option_value + found.base_value
        mark = value >> _BITS
        initial = mark - ((value - found.initial) >> _BITS)
        return mark, initial, mark - ((value - found.maintenance) >> _BITS)


def sum_positions(arrays: RiskArrays, positions: Iterable[tuple[int, int]]) -> PositionSums:
    """The sums of positions, each the place of an instrument and a size."""
    sums = PositionSums(arrays)
    for index, size in positions:
        sums.change(index, size)
    return sums


def compute_margin(
    arrays: RiskArrays, positions: Iterable[tuple[int, int]], cash: int
) -> PortfolioMargin:
    """The margins of one account: each position is the place of an instrument and a size."""
    sums = sum_positions(arrays, positions)
    found = Assessment(sums)
    worst_scenario = found.changes.index(found.worst) if found.worst < found.basis else -1
    value = found.option_value + found.base_value + (cash << _BITS)
    return PortfolioMargin(
        mark_to_market=value >> _BITS,
        maintenance_margin=(value - found.maintenance) >> _BITS,
        initial_margin=(value - found.initial) >> _BITS,
        scenario_changes=tuple(each >> _BITS for each in found.changes),
        parts=MarginParts(
            cash=cash,
            option_value=found.option_value >> _BITS,
            base_value=found.base_value >> _BITS,
            worst_change=found.worst >> _BITS,
            worst_scenario=worst_scenario,
            basis_change=found.basis >> _BITS,
            static_perp=-(-found.static_perp >> _BITS),
            static_base=-(-found.static_base >> _BITS),
            static_naked_short=-(-found.static_naked_short >> _BITS),
            im_multiple=arrays.im_multiple,
            confidence=-(-found.confidence >> _BITS),
            net_delta=sums.net_delta >> _BITS,
            hedged_delta=found.hedged_delta >> _BITS,
            delta_floor=-(-found.floor >> _BITS),
        ),
    )


def _unpack(biased: int, count: int) -> list[int]:
    """The Q192 values out of their slots, as Q128 rounded down."""
    size = SLOT_BITS >> 3
    data = biased.to_bytes(count * size, "little")
    return [
        (int.from_bytes(data[start : start + size], "little") - SLOT_BIAS) >> _BITS
        for start in range(0, count * size, size)
    ]


def compute_portfolio_margin(
    portfolio: Portfolio, market_data: MarketData, parameters: PortfolioParameters
) -> PortfolioMargin:
    """The margins of one portfolio, from nothing: a pure function of the three."""
    arrays = RiskArrays(market_data, parameters)
    return compute_margin(arrays, portfolio.positions, portfolio.cash)
