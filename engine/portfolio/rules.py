"""What the genesis says of portfolio margin.

Integers only, so that they travel: rates, volatilities and shocks in ppm, times in seconds. The
defaults stand here alone.
"""

from typing import Annotated

from msgspec import Meta, Struct

from engine.limits import PPM, SCENARIOS_MAX

_Ppm = Annotated[int, Meta(ge=0, le=PPM)]


class ScenarioRule(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One future that a portfolio is tried in."""

    spot_ppm: Annotated[int, Meta(ge=1, le=100 * PPM)]
    """All prices times this."""
    vol_direction: Annotated[int, Meta(ge=-1, le=1)]
    """Whether volatilities are shocked down (-1), not at all, or up."""


def _make_scenarios() -> tuple[ScenarioRule, ...]:
    inner = [
        ScenarioRule(spot_ppm, direction)
        for spot_ppm in range(1_150_000, 800_000, -50_000)
        for direction in (1, 0, -1)
    ]
    return (ScenarioRule(1_200_000, 1), *inner, ScenarioRule(800_000, 1))


class PortfolioRules(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Every number of portfolio margin on one underlying (`engine.portfolio.terms` explains each).

    The 23 scenarios and the charges are published ones of Derive, the floor on deltas Paradex's.
    """

    scenarios: Annotated[tuple[ScenarioRule, ...], Meta(max_length=SCENARIOS_MAX)] = (
        _make_scenarios()
    )
    """The futures that a portfolio is tried in."""
    vol_range_up_ppm: _Ppm = 600_000
    """By this part volatilities rise where they are shocked up, at a term of 30 days."""
    vol_range_down_ppm: _Ppm = 300_000
    """By this part they fall where they are shocked down; never below zero."""
    vol_power_short_ppm: _Ppm = 300_000
    """The ranges are multiplied by `30 days / T` to this power up to that term."""
    vol_power_long_ppm: _Ppm = 130_000
    """The same beyond that term."""
    vol_term_min_s: Annotated[int, Meta(ge=1, le=31_536_000)] = 86_400
    """Shorter terms count as this long for that."""
    discount_ppm: _Ppm = 950_000
    """What shocked gains of an expiry are worth, before time."""
    discount_rate_ppm: _Ppm = 120_000
    """Time takes this rate a year off them."""
    basis_shock_up_ppm: Annotated[int, Meta(ge=PPM, le=10 * PPM)] = 1_050_000
    """An expiry's forward moves alone, up to this factor."""
    basis_shock_down_ppm: _Ppm = 950_000
    """An expiry's forward moves alone, down to this factor."""
    basis_factor_ppm: Annotated[int, Meta(ge=0, le=10 * PPM)] = 1_000_000
    """So much of the loss by that is charged."""
    basis_factor_year_ppm: Annotated[int, Meta(ge=0, le=10 * PPM)] = 1_200_000
    """So much more of it for each year of the term."""
    static_perp_ppm: _Ppm = 30_000
    """Charged of perpetuals' value at the index."""
    static_naked_short_ppm: _Ppm = 20_000
    """Charged of the index for each option sold that none of its strike covers."""
    im_factor_ppm: Annotated[int, Meta(ge=PPM, le=10 * PPM)] = 1_250_000
    """The initial margin's multiple of losses and static charges."""
    net_delta_ppm: _Ppm = 20_000
    """The margin's floor: this part of what the portfolio moves with the price."""
    hedged_delta_ppm: _Ppm = 10_000
    """The floor has this part of what cancels out, too: at most twice as much."""
    delta_maintenance_ppm: _Ppm = 500_000
    """This part of the floor holds for the maintenance margin."""
