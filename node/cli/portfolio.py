"""A portfolio in a file, for `rota market margin`: read, bounded and turned into exact integers.

A number is a JSON number or a decimal string, and is read as it is written, then rounded once, to
the nearest multiple of 2^-64. What may be left out of a file, and what it is then, stands in
`_Market` and `_File`; parameters that are left out are the published ones (`PortfolioParameters`).
"""

import json
import re
import sys
from collections import Counter
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from engine.portfolio.fixed_point import FRACTION_BITS, ONE, from_ratio
from engine.portfolio.terms import (
    Instrument,
    InstrumentKind,
    MarketData,
    Portfolio,
    PortfolioMargin,
    PortfolioParameters,
    Scenario,
    VolShock,
)
from node.exit_codes import ExitCode, OperatorError

FILE_SIZE_MAX_BYTES: Final = 1 << 20
"""A thousand markets and positions take a third of it."""

MARKETS_MAX: Final = 1_000
SCENARIOS_MAX: Final = 100
DIGITS_MAX: Final = 60
"""Of one number, and decimal places."""

PROBLEM_LENGTH_MAX: Final = 200
"""Characters of what the parser says; it quotes the file."""

PLACES: Final = 12
"""Decimal places of what is printed."""

STANDARD_INPUT: Final = Path("-")
"""Stands for it, as with other programs."""

_NUMBER: Final = re.compile(r"[!-^`-~]+")
"""Visible ASCII but the underscore; what it may mean `Decimal` knows."""


class PortfolioFileError(OperatorError):
    """The file holds no portfolio whose margin could be computed.

    | code | meaning |
    |---|---|
    | `portfolio.incomplete` | An option lacks its expiry, strike, forward or volatility. |
    | `portfolio.spot_differs` | Two markets have different spot prices, though of one base asset. |
    | `portfolio.malformed` | The file is no JSON document of the form of a portfolio. |
    | `portfolio.market_unknown` | A position is in a market that the file does not describe. |
    | `portfolio.out_of_range` | A number is beyond its bounds or has too many digits. |
    | `portfolio.parameter_unknown` | There is no parameter of that name. |
    | `portfolio.too_large` | The file, or one of its lists, is too long. |
    | `portfolio.unreadable` | The file cannot be opened or read. |
    """

    code = "portfolio.malformed"
    exit_code = ExitCode.USAGE


class _Market(Struct, frozen=True, forbid_unknown_fields=True):
    """One instrument. The fields of options alone may be left out or null otherwise."""

    kind: InstrumentKind
    """`call`, `put`, `perp` or `base`."""
    spot: Decimal
    """The index price of the base asset."""
    expiry_s: Decimal | None = None
    """Options need it: seconds to the expiry. Below zero, it is over."""
    strike: Decimal | None = None
    """Options need it."""
    forward: Decimal | None = None
    """Options need it: the price of their expiry, whole. Of a perpetual the mark price, which is
    the spot price if left out."""
    vol: Decimal | None = None
    """Options need it: 1 is 100 % a year."""
    rate: Decimal | None = None
    """The interest up to an option's expiry: 0 if left out."""
    confidence: Decimal | None = None
    """From 0 to 1, the least of all sources that the market's data are from: 1 if left out."""
    forward_fixed: Decimal | None = None
    """The part of `forward` that is settled already and that no shock moves: 0 if left out."""


class _VolWord(StrEnum):
    UP = "up"
    NONE = "none"
    DOWN = "down"


class _Scenario(Struct, frozen=True, forbid_unknown_fields=True):
    spot_shock: Decimal
    """The factor on all prices."""
    vol_shock: _VolWord
    """`up`, `none` or `down`."""


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    markets: dict[str, _Market]
    """By name: all of one base asset, as whatever is here moves together."""
    positions: dict[str, Decimal]
    """Signed sizes by the name of the market."""
    cash: Decimal = Decimal(0)
    """With what has been gained or lost on perpetuals up to their mark prices: 0 if left out."""
    stable_price: Decimal = Decimal(1)
    """Of the asset that cash is in: 1 if left out."""
    parameters: dict[str, Decimal | list[_Scenario]] = {}
    """By name; `scenarios` is a list. Each has its default if left out, and may be zero."""


_Bounds = tuple[Decimal, Decimal]
_PRICE: Final = (Decimal(0), Decimal("1e12"))
_STRIKE: Final = (Decimal("1e-9"), _PRICE[1])
_SIZE: Final = (Decimal("-1e12"), Decimal("1e12"))
_CASH: Final = (Decimal("-1e15"), Decimal("1e15"))
_STABLE: Final = (Decimal("1e-6"), Decimal("1e6"))
_SECONDS: Final = (Decimal("-1e10"), Decimal("1e10"))
_VOL: Final = (Decimal(0), Decimal(100))
_RATE: Final = (Decimal(-100), Decimal(100))
_UNIT: Final = (Decimal(0), Decimal(1))
_SHOCK: Final = (Decimal(0), Decimal(100))
_PARAMETER: Final = (Decimal(0), Decimal(1_000))
_PARAMETER_BOUNDS: Final = {
    "discount": _UNIT,
    "vol_power_short": _UNIT,
    "vol_power_long": _UNIT,
    "vol_term_min_s": (Decimal(1), _SECONDS[1]),
    "basis_shock_up": _SHOCK,
    "basis_shock_down": _SHOCK,
}
"""The bounds of parameters that are not those of the others."""

PARAMETER_NAMES: Final = tuple(each.name for each in structs.fields(PortfolioParameters))


def read_portfolio(path: Path) -> tuple[Portfolio, MarketData, PortfolioParameters]:
    """Read a file, or standard input; raises `PortfolioFileError`."""
    try:
        if path == STANDARD_INPUT:
            data = sys.stdin.buffer.read(FILE_SIZE_MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(FILE_SIZE_MAX_BYTES + 1)
    except OSError as error:
        raise PortfolioFileError(
            f"cannot read {path}: {error.strerror}",
            code="portfolio.unreadable",
            advice="name a file that exists and may be read",
        ) from error
    if len(data) > FILE_SIZE_MAX_BYTES:
        raise PortfolioFileError(
            f"{path} is larger than {FILE_SIZE_MAX_BYTES} bytes",
            code="portfolio.too_large",
            advice="leave out the markets that the portfolio has no position in",
        )
    return parse_portfolio(data)


def parse_portfolio(data: bytes) -> tuple[Portfolio, MarketData, PortfolioParameters]:
    """Turn the bytes of a file into what the engine reads; raises `PortfolioFileError`."""
    try:
        file = msgspec.json.decode(data, type=_File)
        # The first decoder keeps the last of two equal names, and reads what people hardly mean.
        _validate_numbers(json.loads(data, object_pairs_hook=_make_object, parse_int=Decimal), ())
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PortfolioFileError(
            f"the file holds no portfolio: {str(error)[:PROBLEM_LENGTH_MAX]}",
            advice="see `rota market margin --help` for its form",
        ) from error
    _validate_count("markets", len(file.markets), MARKETS_MAX)
    _validate_count("positions", len(file.positions), MARKETS_MAX)
    places = {name: place for place, name in enumerate(file.markets)}
    positions = []
    for name, size in file.positions.items():
        if name not in places:
            raise PortfolioFileError(
                f"there is a position in {_shorten(name)}, which is not among the markets",
                code="portfolio.market_unknown",
                advice="add it to `markets`",
            )
        positions.append((places[name], _fixed(size, f"the position in {_shorten(name)}", _SIZE)))
    portfolio = Portfolio(tuple(positions), _fixed(file.cash, "cash", _CASH))
    instruments = tuple(_read_market(name, market) for name, market in file.markets.items())
    if len({each.spot for each in instruments}) > 1:
        raise PortfolioFileError(
            "two markets have different spot prices, and all are of one base asset",
            code="portfolio.spot_differs",
            advice="give all markets the index price of the one base asset as spot",
        )
    stable_price = _fixed(file.stable_price, "stable_price", _STABLE)
    return portfolio, MarketData(instruments, stable_price), _read_parameters(file.parameters)


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """One object of the file. Raises `PortfolioFileError` if a name comes twice in it."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise PortfolioFileError(
            f"the name {_shorten(twice)} comes twice in one object",
            advice="leave one of the two out",
        )
    return found


def _validate_numbers(value: object, path: tuple[str, ...]) -> None:
    """Refuse what `Decimal` would read and JSON not: blanks, `1_000`, digits of other scripts.

    Raises `PortfolioFileError`.
    """
    if isinstance(value, dict):
        for name, each in value.items():
            _validate_numbers(each, (*path, name))
    elif isinstance(value, list):
        for each in value:
            _validate_numbers(each, path)
    elif isinstance(value, str) and not _is_word(path) and not _NUMBER.fullmatch(value):
        raise PortfolioFileError(
            f"{_shorten(value)} is no decimal number", advice="write it like 1000, -0.25 or 1e-6"
        )


def _is_word(path: tuple[str, ...]) -> bool:
    """Whether what stands there is one of a few words, which the decoder has checked."""
    is_kind = len(path) == 3 and path[0] == "markets" and path[2] == "kind"
    return is_kind or path == ("parameters", "scenarios", "vol_shock")


def _read_market(name: str, market: _Market) -> Instrument:
    def fixed(field: str, bounds: _Bounds, default: int = 0) -> int:
        value = getattr(market, field)
        if value is None:
            return default
        return _fixed(value, f"{field} of {_shorten(name)}", bounds)

    spot = fixed("spot", _PRICE)
    confidence = fixed("confidence", _UNIT, ONE)
    if market.kind in (InstrumentKind.PERP, InstrumentKind.BASE):
        forward = fixed("forward", _PRICE, spot)
        return Instrument(market.kind, spot, forward, confidence=confidence)
    for field in ("expiry_s", "strike", "forward", "vol"):
        if getattr(market, field) is None:
            raise PortfolioFileError(
                f"{_shorten(name)} is an option and has no {field}",
                code="portfolio.incomplete",
                advice="give an option its expiry_s, strike, forward, spot and vol",
            )
    forward = fixed("forward", _PRICE)
    forward_fixed = fixed("forward_fixed", _PRICE)
    if forward_fixed > forward:
        raise PortfolioFileError(
            f"forward_fixed of {_shorten(name)} is above its forward",
            code="portfolio.out_of_range",
            advice="give the whole in forward, and the part that is settled in forward_fixed",
        )
    return Instrument(
        market.kind,
        spot,
        forward,
        time_s=fixed("expiry_s", _SECONDS),
        strike=fixed("strike", _STRIKE),
        vol=fixed("vol", _VOL),
        rate=fixed("rate", _RATE),
        confidence=confidence,
        forward_fixed=forward_fixed,
    )


def _read_parameters(entries: dict[str, Decimal | list[_Scenario]]) -> PortfolioParameters:
    changes: dict[str, Any] = {}
    for name, value in entries.items():
        if name not in PARAMETER_NAMES:
            raise PortfolioFileError(
                f"there is no parameter {_shorten(name)}",
                code="portfolio.parameter_unknown",
                advice=f"the parameters are {', '.join(PARAMETER_NAMES)}",
            )
        if isinstance(value, list) != (name == "scenarios"):
            raise PortfolioFileError(
                f"{name} is {'a list' if isinstance(value, list) else 'a number'}",
                code="portfolio.malformed",
                advice="scenarios are a list; every other parameter is a number",
            )
        if isinstance(value, list):
            _validate_count("scenarios", len(value), SCENARIOS_MAX)
            changes[name] = tuple(
                Scenario(
                    _fixed(each.spot_shock, "spot_shock", _SHOCK),
                    VolShock[each.vol_shock.name],
                )
                for each in value
            )
        else:
            changes[name] = _fixed(value, name, _PARAMETER_BOUNDS.get(name, _PARAMETER))
    return structs.replace(PortfolioParameters(), **changes)


def _validate_count(what: str, count: int, most: int) -> None:
    if count > most:
        raise PortfolioFileError(
            f"the file has {count} {what}; at most {most} are allowed",
            code="portfolio.too_large",
            advice=f"leave some {what} out",
        )


def _fixed(value: Decimal, what: str, bounds: _Bounds) -> int:
    """The Q64 number nearest to a decimal one within bounds."""
    low, high = bounds
    if not value.is_finite() or not low <= value <= high:
        raise PortfolioFileError(
            f"{what} is out of range",
            code="portfolio.out_of_range",
            advice=f"choose {low:f} to {high:f}",
        )
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int), "a finite number"
    if len(digits) > DIGITS_MAX or exponent < -DIGITS_MAX:
        raise PortfolioFileError(
            f"{what} has too many digits",
            code="portfolio.out_of_range",
            advice=f"write at most {DIGITS_MAX} digits",
        )
    return from_ratio(*value.as_integer_ratio()) if value else 0


def _shorten(name: str) -> str:
    """A name out of the file, for an error."""
    return repr(name if len(name) <= 40 else f"{name[:40]}…")


def format_fixed(value: int) -> str:
    """A Q64 number with twelve decimal places, to the nearest."""
    units = (value * 10**PLACES + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS
    whole, part = divmod(abs(units), 10**PLACES)
    return f"{'-' * (units < 0)}{whole}.{part:0{PLACES}d}"


def format_short(value: int) -> str:
    """The same without zeros at the end."""
    return format_fixed(value).rstrip("0").rstrip(".")


def describe_margin(margin: PortfolioMargin, parameters: PortfolioParameters) -> dict[str, Any]:
    """What `--json` prints: decimal strings."""
    parts = {
        name: format_fixed(value)
        for name, value in structs.asdict(margin.parts).items()
        if name != "worst_scenario"
    }
    worst = margin.parts.worst_scenario
    return {
        "mark_to_market": format_fixed(margin.mark_to_market),
        "maintenance_margin": format_fixed(margin.maintenance_margin),
        "initial_margin": format_fixed(margin.initial_margin),
        "parts": {**parts, "worst_scenario": worst if worst >= 0 else None},
        "scenarios": [
            {
                "spot_shock": format_fixed(scenario.spot_shock),
                "vol_shock": scenario.vol_shock.name.lower(),
                "change": format_fixed(change),
            }
            for scenario, change in zip(parameters.scenarios, margin.scenario_changes, strict=True)
        ],
    }
