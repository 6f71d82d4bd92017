"""Every parameter of a genesis under the name that it has there, in units that people read."""

from collections.abc import Iterator, Sequence
from enum import Enum
from fractions import Fraction
from typing import Final

from msgspec import Struct

from engine.genesis import EngineGenesis
from engine.limits import QUOTE_MICROQUOTE
from node.cli.amounts import format_duration, format_fraction, format_percent, format_quote
from node.cli.output import WholeTable, show_cell, table

_NAMED_ELSEWHERE: Final = frozenset({"market", "symbol"})

_UNITS: Final = ("_ppm", "_microquote", "_ms", "_s")


def make_market_table(genesis: EngineGenesis) -> WholeTable:
    """A row for each parameter, a column for each market; a part that no market has is one row."""
    columns = [dict(_list_parameters(each)) for each in genesis.markets]
    # By the fullest market's order: what others lack stands where it belongs.
    names = [name for name in max(columns, key=len) if name not in _NAMED_ELSEWHERE]
    names += [name for each in columns for name in each if name not in (*names, *_NAMED_ELSEWHERE)]
    parts = {name.rpartition(".")[0] for name in names}
    names = list(dict.fromkeys(name for name in names if name not in parts))
    rows = [(name, *(each.get(name, "-") for each in columns)) for name in names]
    return table(["parameter", *(f"{each.symbol}>" for each in genesis.markets)], rows)


def make_exchange_tables(genesis: EngineGenesis) -> list[WholeTable]:
    """Fee tiers, liquidation, and the bounds that hold for all markets."""
    rows: list[tuple[str, str]] = []
    for name in ("account_open_orders_max", "withdrawal_min_microquote"):
        rows.append((_drop_unit(name), format_parameter(name, getattr(genesis, name))))
    if genesis.liquidation is None:
        rows.append(("liquidation", "off"))
    else:
        rows += _list_parameters(genesis.liquidation, "liquidation.")
    tables = [table(["parameter", "value"], rows)]
    fees = genesis.fee_tiers
    if fees is not None:
        tiers = [
            (
                place,
                format_quote(each.volume_microquote),
                format_percent(each.taker_reduction_ppm),
                format_percent(each.maker_reduction_ppm),
            )
            for place, each in enumerate(fees.tiers, 1)
        ]
        epoch = format_duration(fees.epoch_ms)
        title = f"by the volume of {fees.epochs} full epochs of {epoch}"
        columns = ["fee tier>", "from volume>", "taker less>", "maker less>"]
        tables.append(table(columns, tiers, title=title))
    return tables


def _list_parameters(value: Struct, path: str = "") -> Iterator[tuple[str, str]]:
    for name in value.__struct_fields__:
        each = getattr(value, name)
        if isinstance(each, Struct):
            yield from _list_parameters(each, f"{path}{name}.")
        else:
            yield f"{path}{_drop_unit(name)}", format_parameter(name, each)


def _drop_unit(name: str) -> str:
    """What is shown has another unit than what the file has."""
    return next((name.removesuffix(each) for each in _UNITS if name.endswith(each)), name)


def format_parameter(name: str, value: object) -> str:
    """A parameter in the unit that its name ends in."""
    if isinstance(value, Enum):
        return value.value if isinstance(value, str) else value.name.lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        if any(isinstance(each, Struct) for each in value):
            return f"{len(value)}, see --json"
        return ", ".join(format_parameter(name, each) for each in value)
    if isinstance(value, int):
        if name.endswith("_ppm"):
            return format_percent(value)
        if name.endswith("_microquote"):
            return format_fraction(Fraction(value, QUOTE_MICROQUOTE))
        if name.endswith("_ms"):
            return format_duration(value)
        if name.endswith("_s"):
            return format_duration(value * 1_000)
    return show_cell(value)
