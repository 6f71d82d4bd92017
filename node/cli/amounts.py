"""Prices, sizes and times as people write them, exactly, to and from the engine's integers.

People write decimal numbers in quote per unit of the base asset; the engine counts ticks and lots.
Nothing is rounded on the way in: a number between two ticks is refused, with its neighbours. Only
what is said in percent is rounded, to the tick that is nearer to where it is counted from.
"""

import re
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

from engine.limits import (
    DEPOSITS_TOTAL_MAX_MICROQUOTE,
    ORDER_SIZE_MAX_LOTS,
    PPM,
    PRICE_MAX_TICKS,
    QUOTE_MICROQUOTE,
)
from node.cli.views import MarketInfo
from node.exit_codes import ExitCode, OperatorError

DIGITS_MAX: Final = 30
"""Of a number on the command line; far beyond every bound of the engine."""

DURATION_MAX_MS: Final = 366 * 86_400_000
"""Of a duration on the command line; beyond every bound of the engine."""

_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?")
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)(ms|s|m|h|d|)")
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_TIME_SHOWN_MAX_MS: Final = 253_402_300_799_000
"""The end of the year 9999."""


class AmountError(OperatorError):
    """A price, size, distance or duration that cannot be what is meant."""

    code = "usage.amount"
    exit_code = ExitCode.USAGE


def parse_price(text: str, market: MarketInfo) -> int:
    """Return the price in ticks; raises `AmountError` unless it is a positive multiple."""
    step = Fraction(market.tick_size_microquote, QUOTE_MICROQUOTE)
    return _parse_multiple(text, step, PRICE_MAX_TICKS, "price", market)


def parse_size(text: str, market: MarketInfo) -> int:
    """Return the size in lots; raises `AmountError` unless it is a positive multiple."""
    step = Fraction(1, market.lots_per_base)
    return _parse_multiple(text, step, ORDER_SIZE_MAX_LOTS, "size", market)


def parse_quote(text: str) -> int:
    """Return an amount of quote currency in micro-quote; raises `AmountError` unless it is
    positive and whole in them."""
    amount = Fraction(0)
    if len(text) <= DIGITS_MAX and _DECIMAL.fullmatch(text):
        amount = Fraction(text) * QUOTE_MICROQUOTE
    if amount > DEPOSITS_TOTAL_MAX_MICROQUOTE:
        largest = DEPOSITS_TOTAL_MAX_MICROQUOTE // QUOTE_MICROQUOTE
        raise AmountError(
            f"{text} is more than can ever be deposited", advice=f"choose at most {largest}"
        )
    if amount.denominator != 1 or amount <= 0:
        raise AmountError(
            f"{text!r} is no amount of quote currency",
            advice="write it like 250 or 0.5, with at most six decimals",
        )
    return amount.numerator


def parse_distance(text: str, market: MarketInfo, reference_ticks: int) -> int:
    """Return a distance between prices in ticks: `50` in quote, or `1.5%` of a reference price.

    Raises `AmountError`. Zero is a distance.
    """
    if not text.endswith("%"):
        is_zero = _DECIMAL.fullmatch(text) and len(text) <= DIGITS_MAX and Fraction(text) == 0
        return 0 if is_zero else parse_price(text, market)
    number = text[:-1].strip()
    if len(number) > DIGITS_MAX or not _DECIMAL.fullmatch(number) or Fraction(number) > 100:
        raise AmountError(f"{text!r} is no part of a price", advice="write it like 1% or 0.25%")
    return int(reference_ticks * Fraction(number) / 100)


def parse_percent(text: str, what: str) -> int:
    """Return `25%` or `25` in parts of a million; raises `AmountError` unless it is whole in these
    and at most 100 %."""
    number = text.removesuffix("%").strip()
    parts = Fraction(-1)
    if len(number) <= DIGITS_MAX and _DECIMAL.fullmatch(number):
        parts = Fraction(number) * 10_000
    if parts.denominator != 1 or not 0 <= parts <= PPM:
        raise AmountError(
            f"{what} {text!r} is no percentage",
            advice="write it like 25% or 0.5%, at most 100%, with at most four decimals",
        )
    return parts.numerator


def parse_duration_ms(text: str) -> int:
    """Return a duration in ms: `90s`, `15m`, `2h`, `1d`, `500ms`, or plain seconds.

    Raises `AmountError` unless it is above zero and whole in ms.
    """
    match = _DURATION.fullmatch(text)
    duration_ms = Fraction(match[1]) * _UNIT_MS[match[2]] if match else Fraction(0)
    if duration_ms > DURATION_MAX_MS:
        longest = format_duration(DURATION_MAX_MS)
        raise AmountError(f"{text} is too long", advice=f"choose at most {longest}")
    if duration_ms.denominator != 1 or duration_ms <= 0:
        raise AmountError(f"{text!r} is no duration", advice="write it like 90s, 15m, 2h or 1d")
    return duration_ms.numerator


def format_duration(duration_ms: int) -> str:
    """A duration in the largest unit that it is a multiple of."""
    for unit in ("d", "h", "m", "s"):
        if duration_ms and duration_ms % _UNIT_MS[unit] == 0:
            return f"{duration_ms // _UNIT_MS[unit]}{unit}"
    return f"{duration_ms}ms"


def format_time(time_ms: int) -> str:
    """A time of the chain, as it is in UTC."""
    if time_ms > _TIME_SHOWN_MAX_MS:
        return "never"
    return f"{datetime.fromtimestamp(time_ms // 1_000, UTC):%Y-%m-%d %H:%M:%S}Z"


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
        Fraction(ticks * market.tick_size_microquote, QUOTE_MICROQUOTE),
        Fraction(market.tick_size_microquote, QUOTE_MICROQUOTE),
    )


def format_size(lots: int, market: MarketInfo) -> str:
    """A size in lots as a decimal number."""
    return format_fraction(Fraction(lots, market.lots_per_base), Fraction(1, market.lots_per_base))


def format_quote(microquote: int) -> str:
    """An amount of quote currency with two decimals, rounded half away from zero for display."""
    cents = (abs(microquote) + QUOTE_MICROQUOTE // 200) // (QUOTE_MICROQUOTE // 100)
    sign = "-" if microquote < 0 and cents else ""
    return f"{sign}{cents // 100:,}.{cents % 100:02}"


def format_fee(microquote: int) -> str:
    """The same of an amount that may be small: one below a cent in full."""
    if 0 < abs(microquote) < QUOTE_MICROQUOTE // 100:
        return format_fraction(Fraction(microquote, QUOTE_MICROQUOTE))
    return format_quote(microquote)


def format_percent(part_ppm: int) -> str:
    """Parts in a million as percent."""
    return f"{format_fraction(Fraction(part_ppm, 10_000))} %"


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
