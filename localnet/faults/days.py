"""What a scenario file says of a market's day: its tables `[crash]` and `[options]`."""

from typing import Any, Final, TypeVar

import msgspec

from engine.options.params import find_option_fault
from localnet.crash import Crash
from localnet.faults.model import FaultError, parse_duration_s
from localnet.faults.words import describe_problem, fields_of
from localnet.markets import MARKETS
from localnet.options_day import OptionsDay

_T = TypeVar("_T", Crash, OptionsDay)

_KEYS: Final = "keys and their meaning: docs/faults.md"


def read_crash(table: dict[str, Any], run_for_s: float, *, has_traders: bool) -> Crash:
    """The fall of a market. Raises `FaultError`."""
    crash = _read(Crash, "[crash]", table, ("from", "for"))
    if not has_traders or crash.from_s + crash.for_s >= run_for_s:
        raise FaultError(
            "a crash without traders, or that lasts beyond the end",
            advice="raise run_for, and leave the traders",
        )
    return crash


def read_options_day(table: dict[str, Any], run_for_s: float, *, has_traders: bool) -> OptionsDay:
    """The options of a market. Raises `FaultError`."""
    day = _read(OptionsDay, "[options]", table, ("expiry_every", "window", "sample_every"))
    params = next(each for each in MARKETS if each.symbol == day.market)
    if params.options is None:
        has = ", ".join(each.symbol for each in MARKETS if each.options is not None)
        raise FaultError(f"there are no options on {day.market}", advice=f"markets: {has}")
    fault = find_option_fault(day.option_params(params), params.lots_per_base)
    if fault:
        raise FaultError(f"[options] makes no sense: {fault}", advice=_KEYS)
    # The first one that everybody sees from its listing on may be nearly two intervals away.
    if not has_traders or 2 * day.expiry_every_s >= run_for_s:
        raise FaultError(
            "options without traders, who move the index, or without a whole series",
            advice="run for more than two expiries, and leave the traders",
        )
    return day


def _read(kind: type[_T], name: str, table: dict[str, Any], durations: tuple[str, ...]) -> _T:
    """A table whose durations are words like `30s`, as seconds."""
    given = dict(table)
    for key in durations:
        if key not in given:
            raise FaultError(f"{name} needs {key}", advice=f'as in {key} = "30s"')
        given[f"{key}_s"] = parse_duration_s(str(given.pop(key)))
    try:
        day = msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        message = describe_problem(error, name, fields_of(kind))
        raise FaultError(message, advice=_KEYS) from error
    symbols = [each.symbol for each in MARKETS]
    if day.market not in symbols:
        raise FaultError(
            f"there is no market {day.market!r}", advice=f"markets: {', '.join(symbols)}"
        )
    return day
