"""What a gateway shows of options: their terms, volatilities and greeks.

Greeks are those of Black-76 at the mark's forward and volatility (`engine.portfolio.black76`),
rounded down.
"""

from msgspec import Struct

from engine.limits import PPM, QUOTE_MICROQUOTE
from engine.options.chains import compute_price
from engine.portfolio.black76 import YEAR_S, compute_greeks
from engine.portfolio.fixed_point import FRACTION_BITS, from_ratio
from engine.trading.market import Market

_DAYS_A_YEAR = YEAR_S // 86_400


class GreeksView(Struct, frozen=True, array_like=True):
    """How the value of an option or of a position changes, all in millionths."""

    delta_micro: int
    """Of a whole unit of the base asset: what it moves like."""
    gamma_micro: int
    """Of the delta, for a price higher by 1 in quote."""
    vega_micro: int
    """Micro-quote, for a volatility higher by 1 % a year."""
    theta_micro: int
    """Micro-quote, for a day that passes."""


class OptionView(Struct, frozen=True, array_like=True):
    """An option's terms, and where it stands."""

    underlying: int
    is_call: bool
    expiry_ms: int
    strike_ticks: int
    """In ticks of the underlying."""
    forward_microquote: int
    """The settlement price as it is expected now, for a whole unit of the base asset."""
    vol_ppm: int
    """Of the surface; 0 before there is one."""
    is_closed: bool
    """It has expired and awaits its settlement."""
    samples: int
    """Of the index, for the settlement price, so far."""
    greeks: GreeksView
    """Of one option on a whole unit of the base asset."""
    short_initial_ppm: int
    """Initial margin of a short one under cross margin, of the underlying's index, less what it is
    out of the money. A long one's is all of its mark, as its maintenance margin."""
    short_initial_min_ppm: int
    """At least this, of the underlying's index. A put never needs more than its strike."""
    short_maintenance_ppm: int
    """Maintenance margin of a short one, of the underlying's index."""


def view_option(market: Market) -> OptionView | None:
    """A market's terms as an option; None for a perpetual."""
    series, chain = market.series, market.chain
    if series is None or chain is None:
        return None
    expiry = series.expiry
    total, parts = chain.compute_forward(expiry)
    tick = chain.underlying.params.tick_size_microquote
    return OptionView(
        chain.underlying.market_id,
        series.is_call,
        expiry.expiry_ms,
        series.strike_ticks,
        total * tick // parts,
        series.vol_ppm,
        expiry.is_closed,
        expiry.sample_count,
        view_greeks(market, market.params.lots_per_base),
        chain.params.short_initial_ppm,
        chain.params.short_initial_min_ppm,
        chain.params.short_maintenance_ppm,
    )


def view_greeks(market: Market, lots: int) -> GreeksView:
    """The greeks of a position in a perpetual, whose delta is its size, or in an option."""
    series, chain = market.series, market.chain
    base = market.params.lots_per_base
    if series is None or chain is None:
        return GreeksView(lots * QUOTE_MICROQUOTE // base, 0, 0, 0)
    forward = compute_price(chain.underlying, *chain.compute_forward(series.expiry))
    greeks = compute_greeks(
        forward,
        series.strike,
        from_ratio(series.vol_ppm, PPM),
        from_ratio(chain.compute_time_left_ms(series.expiry), 1_000),
        is_call=series.is_call,
    )

    def scale(value: int, parts: int) -> int:
        return lots * value * QUOTE_MICROQUOTE // ((base * parts) << FRACTION_BITS)

    return GreeksView(
        scale(greeks.delta, 1),
        scale(greeks.gamma, 1),
        scale(greeks.vega, 100),
        scale(greeks.theta, _DAYS_A_YEAR),
    )
