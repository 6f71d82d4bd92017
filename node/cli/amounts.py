"""Prices and sizes as people write them, exactly, to and from the engine's integers.

People write decimal numbers in quote per unit of the base asset; the engine counts ticks and lots.
Nothing is rounded on the way in: a number between two ticks is refused, with its neighbours.
"""

import re
from fractions import Fraction
from typing import Final

from engine.limits import ORDER_SIZE_MAX_LOTS, PRICE_MAX_TICKS
from node.cli.views import MarketInfo
from node.exit_codes import ExitCode, OperatorError

MICRO: Final = 1_000_000
DIGITS_MAX: Final = 30
"""Of a number on the command line; far beyond every bound of the engine."""

_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?")


class AmountError(OperatorError):
    """A price or size that the market does not know."""

    code = "usage.amount"
    exit_code = ExitCode.USAGE


def parse_price(text: str, market: MarketInfo) -> int:
    """Return the price in ticks; raises `AmountError` unless it is a positive multiple."""
    step = Fraction(market.tick_size_microquote, MICRO)
    return _parse_multiple(text, step, PRICE_MAX_TICKS, "price", market)


def parse_size(text: str, market: MarketInfo) -> int:
    """Return the size in lots; raises `AmountError` unless it is a positive multiple."""
    step = Fraction(1, market.lots_per_base)
    return _parse_multiple(text, step, ORDER_SIZE_MAX_LOTS, "size", market)


def _parse_multiple(
    text: str, step: Fraction, count_max: int, what: str, market: MarketInfo
) -> int:
    if len(text) > DIGITS_MAX or not _DECIMAL.fullmatch(text):
        raise AmountError(
            f"{what} {text!r} is not a decimal number", advice="write it like 60000 or 0.25"
        )
    value = Fraction(text)
    count = value / step
    if count > count_max:
        raise AmountError(
            f"{what} {text} is out of range for {market.symbol}",
            advice=f"choose at most {format_fraction(count_max * step)}",
        )
    if count.denominator != 1 or count < 1:
        below, above = count.__floor__() * step, (count.__floor__() + 1) * step
        near = [format_fraction(each) for each in (below, above) if each > 0]
        raise AmountError(
            f"{what} {text} is not a positive multiple of {format_fraction(step)}, the step of "
            f"{market.symbol}",
            advice=f"choose {' or '.join(near)}",
        )
    return count.numerator


def format_price(ticks: int, market: MarketInfo) -> str:
    """A price in ticks as a decimal number."""
    return format_fraction(
        Fraction(ticks * market.tick_size_microquote, MICRO),
        Fraction(market.tick_size_microquote, MICRO),
    )


def format_size(lots: int, market: MarketInfo) -> str:
    """A size in lots as a decimal number."""
    return format_fraction(Fraction(lots, market.lots_per_base), Fraction(1, market.lots_per_base))


def format_quote(microquote: int) -> str:
    """An amount of quote currency with two decimals, rounded half away from zero for display."""
    cents = (abs(microquote) + MICRO // 200) // (MICRO // 100)
    sign = "-" if microquote < 0 and cents else ""
    return f"{sign}{cents // 100:,}.{cents % 100:02}"


def format_fraction(value: Fraction, step: Fraction | None = None) -> str:
    """Decimal digits of a number, as many as `step` (or the number itself) needs.

    Exact for denominators of twos and fives; others end after twelve decimals.
    """
    decimals = 0
    unit = value if step is None else step
    while decimals < 12 and (unit * 10**decimals).denominator != 1:
        decimals += 1
    scaled = value * 10**decimals
    number = abs(scaled.__floor__() if scaled >= 0 else scaled.__ceil__())
    sign = "-" if value < 0 else ""
    whole, rest = divmod(number, 10**decimals)
    return f"{sign}{whole}.{rest:0{decimals}}" if decimals else f"{sign}{whole}"
