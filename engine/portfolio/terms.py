"""What a portfolio is margined by: its instruments, the parameters, and what comes out.

Every number is Q64 (`engine.portfolio.fixed_point`): prices in quote for a unit of the base asset,
sizes in units of it, rates and volatilities to the year, times in seconds. They do not fit 64 bits,
so these structs never go over a wire.

Where a genesis has a number for a parameter (`engine.portfolio.rules`), its default is that
number's, but for the floor on deltas; the others are those of Derive's portfolio margin for ether
and bitcoin as well.
"""

from enum import IntEnum, StrEnum
from typing import Final

from msgspec import Struct

from engine.limits import PPM
from engine.portfolio.fixed_point import ONE, from_ratio
from engine.portfolio.rules import PortfolioRules

DAY_S: Final = 86_400 * ONE
"""A day as a Q64 number of seconds."""

VOL_TERM_S: Final = 30 * DAY_S
"""An option of this term has its volatility shocked by the plain ranges; shorter terms more, by one
power, longer ones less, by another."""


class VolShock(IntEnum):
    """What a scenario does to volatilities."""

    DOWN = -1
    NONE = 0
    UP = 1


class Scenario(Struct, frozen=True):
    """One future: all prices times a factor, all volatilities shocked in one direction."""

    spot_shock: int
    vol_shock: VolShock


_DEFAULTS: Final = PortfolioRules(net_delta_ppm=0, hedged_delta_ppm=0)
"""Of a file, which has a floor on deltas only if it asks for one."""


def _share(ppm: int) -> int:
    return from_ratio(ppm, PPM)


def _make_scenarios(rules: PortfolioRules) -> tuple[Scenario, ...]:
    return tuple(
        Scenario(_share(each.spot_ppm), VolShock(each.vol_direction)) for each in rules.scenarios
    )


class PortfolioParameters(Struct, frozen=True):
    """Every number of the formula; none is negative, and zero switches a charge off."""

    scenarios: tuple[Scenario, ...] = _make_scenarios(_DEFAULTS)
    """What the portfolio is tried in."""
    vol_range_up: int = _share(_DEFAULTS.vol_range_up_ppm)
    """By this part volatilities rise where they are shocked up, at a term of 30 days."""
    vol_range_down: int = _share(_DEFAULTS.vol_range_down_ppm)
    """By this part they fall where they are shocked down; never below zero."""
    vol_power_short: int = _share(_DEFAULTS.vol_power_short_ppm)
    """The ranges are multiplied by `30 days / T` to this power up to that term."""
    vol_power_long: int = _share(_DEFAULTS.vol_power_long_ppm)
    """The same beyond that term."""
    vol_term_min_s: int = _DEFAULTS.vol_term_min_s * ONE
    """Shorter terms count as this long for that; above zero."""
    discount: int = _share(_DEFAULTS.discount_ppm)
    """What shocked gains of an expiry are worth, before time; at most 1."""
    discount_rate_factor: int = ONE
    """Time takes the rate off them, times this."""
    discount_rate_add: int = _share(_DEFAULTS.discount_rate_ppm)
    """Time takes this rate a year off them besides."""
    basis_shock_up: int = _share(_DEFAULTS.basis_shock_up_ppm)
    """An expiry's forward moves alone, up to this factor."""
    basis_shock_down: int = _share(_DEFAULTS.basis_shock_down_ppm)
    """An expiry's forward moves alone, down to this factor."""
    basis_factor: int = _share(_DEFAULTS.basis_factor_ppm)
    """So much of the loss by that is charged."""
    basis_factor_year: int = _share(_DEFAULTS.basis_factor_year_ppm)
    """So much more of it for each year of the term."""
    static_perp: int = _share(_DEFAULTS.static_perp_ppm)
    """Charged of perpetuals' value at spot."""
    static_base: int = from_ratio(3, 100)
    """Charged of the base asset's value at spot."""
    static_naked_short: int = _share(_DEFAULTS.static_naked_short_ppm)
    """Charged of the spot price for each option sold that none of its strike covers."""
    im_factor: int = _share(_DEFAULTS.im_factor_ppm)
    """The initial margin's multiple of losses and static charges."""
    peg_threshold: int = from_ratio(99, 100)
    """The multiple grows where the stable asset is worth less than this."""
    peg_factor: int = 4 * ONE
    """It grows by this times what the stable asset lacks to that."""
    confidence_threshold: int = from_ratio(55, 100)
    """Prices that their source trusts less than this cost initial margin."""
    confidence_factor: int = ONE
    """They cost this times what it lacks to full trust, of the size at spot."""
    net_delta: int = _share(_DEFAULTS.net_delta_ppm)
    """The margin's floor: this part of what the portfolio moves with the price; Paradex: 0.02."""
    hedged_delta: int = _share(_DEFAULTS.hedged_delta_ppm)
    """The floor has this part of what cancels out, too; Paradex: 0.01. At most twice `net_delta`
    where margins of parts must not sum to less than that of the whole."""
    delta_maintenance: int = _share(_DEFAULTS.delta_maintenance_ppm)
    """This part of the floor holds for the maintenance margin."""


def make_parameters(rules: PortfolioRules) -> PortfolioParameters:
    """The rules of a genesis as fixed point numbers."""
    shares = {
        name: _share(getattr(rules, f"{name}_ppm"))
        for name in PortfolioParameters.__struct_fields__
        if f"{name}_ppm" in PortfolioRules.__struct_fields__
    }
    return PortfolioParameters(
        scenarios=_make_scenarios(rules),
        vol_term_min_s=rules.vol_term_min_s * ONE,
        discount_rate_add=_share(rules.discount_rate_ppm),
        **shares,
    )


class InstrumentKind(StrEnum):
    """What an instrument pays."""

    CALL = "call"
    PUT = "put"
    PERP = "perp"
    """A linear perpetual: its position is worth nothing at its mark price; what has been gained or
    lost on it since is cash."""
    BASE = "base"
    """The base asset itself."""


class Instrument(Struct, frozen=True):
    """One instrument with its market data."""

    kind: InstrumentKind
    spot: int
    """The index price of the base asset."""
    forward: int
    """Of an option: of its expiry, whole. Of a perpetual: its mark price. Of no use otherwise."""
    time_s: int = 0
    """To the expiry of an option; below zero, the time has passed."""
    strike: int = 0
    vol: int = 0
    rate: int = 0
    """The interest to the expiry of an option; below zero it counts as zero."""
    confidence: int = ONE
    """0 to 1: how far the source of these data trusts them."""
    forward_fixed: int = 0
    """The part of `forward` that is settled, when the settlement price is an average and some of it
    has passed: shocks leave it as it is."""


class MarketData(Struct, frozen=True):
    """What the prices are computed from."""

    instruments: tuple[Instrument, ...]
    stable_price: int = ONE
    """Of the asset that accounts are kept in, in quote; above zero."""


class Portfolio(Struct, frozen=True):
    """What an account holds."""

    positions: tuple[tuple[int, int], ...]
    """Places in `MarketData.instruments` and signed sizes."""
    cash: int = 0
    """With what has been gained or lost on perpetuals up to their mark prices."""


class MarginParts(Struct, frozen=True):
    """What a margin is made of.

    loss = static_perp + static_base + static_naked_short - worst_change
    maintenance = mark_to_market - max(loss, delta_maintenance x delta_floor)
    initial = mark_to_market - max(loss x im_multiple, delta_floor) - confidence
    """

    cash: int
    """As it is given."""
    option_value: int
    """Of all options."""
    base_value: int
    """Of the base asset."""
    worst_change: int
    """The least of the scenarios' changes and of the basis: never above zero."""
    worst_scenario: int
    """The first scenario that is it, counted from 0; nothing (in the engine -1) for the basis."""
    basis_change: int
    """What the basis charges, as a loss: never above zero."""
    static_perp: int
    """The charge on perpetuals."""
    static_base: int
    """The charge on the base asset."""
    static_naked_short: int
    """The charge on naked shorts."""
    im_multiple: int
    """`im_factor` with what the stable asset's price adds."""
    confidence: int
    """The charge for doubtful prices."""
    net_delta: int
    """In quote, what the portfolio moves with the price: signed."""
    hedged_delta: int
    """Half of what the sum of absolute deltas exceeds the net one by."""
    delta_floor: int
    """The least initial margin, by deltas."""


class PortfolioMargin(Struct, frozen=True):
    """The margins of a portfolio as excess: an account passes unless it is negative."""

    mark_to_market: int
    """Cash and positions."""
    maintenance_margin: int
    initial_margin: int
    scenario_changes: tuple[int, ...]
    """What each scenario makes of the mark-to-market, gains of an expiry discounted."""
    parts: MarginParts
