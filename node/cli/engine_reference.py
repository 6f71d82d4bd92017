"""The tables of the engine's page: whatever of it stands in code already.

`docs/engine.md` is written by hand around marked places, which `fill_page` fills. Words are those
of docstrings, of `node.cli.reasons` and of the maps below. What has none is told by `find_gaps`,
in a sentence that says where to add it.
"""

import inspect
import re
from collections.abc import Iterator
from enum import Enum, IntEnum
from types import ModuleType
from typing import Any, Final, get_args

import msgspec
from msgspec import Struct, structs

import engine
from engine import instructions, limits, receipts
from engine.commitment import root as commitment
from engine.genesis import EngineGenesis
from engine.instructions import Instruction
from engine.portfolio.rules import ScenarioRule
from engine.receipts import Event, Fill, ReasonCode, Receipt
from engine.refusals import (
    BUNDLE_REFUSALS,
    EVENT_CODES,
    NOTES,
    REFUSALS,
    SESSION_REFUSALS,
    Codes,
)
from mempool import keys
from mempool.refusal import RefusalCode
from node.cli.docstrings import read_block, read_constants, read_field_docs
from node.cli.reasons import OUTCOME_REASONS, REFUSAL_REASONS


def show_number(value: int) -> str:
    """A number with its thousands marked, or as a power of two where it is a large one."""
    for power, rest in ((value, ""), (value + 1, " - 1")):
        if power >= 2**20 and power & (power - 1) == 0:
            return f"2^{power.bit_length() - 1}{rest}"
    return f"{value:,}"


_MARK: Final = re.compile(r"<!-- table: ([a-z-]+) -->\n.*?<!-- end of table -->\n", re.DOTALL)

UNITS: Final = {
    "ticks": "ticks",
    "lots": "lots",
    "microquote": "micro-quote",
    "ppm": "ppm",
    "ppb": "ppb",
    "ms": "ms",
    "s": "s",
}
"""What the last word of a field's name says."""

MEANINGS: Final = {
    "DepositEvent.amount_microquote": "What arrived.",
    "EngineGenesis.deposits": "Balances from the start.",
    "EngineGenesis.markets": "What is traded.",
    "AuthorizeKey.key": "Public key of the new session key.",
    "AuthorizeKey.scope": "What it may do.",
    "Fill.price_ticks": "The maker's price; in an auction the one price of the auction.",
    "RevokeKey.key": "Public key of the session key.",
    "OneCancelsOther.first": "One leg.",
    "OneCancelsOther.second": "The other leg.",
    "account": "The account.",
    "bidder": "The account whose bid it was.",
    "cancelled_count": "How many orders were cancelled.",
    "client_id": "The owner's own name for the order; 0 for none.",
    "code": "Why it ended so.",
    "equity_microquote": "At mark.",
    "envelope_id": "The envelope that carried the instruction.",
    "fee_microquote": "The fee as taker; negative for a rebate.",
    "filled_lots": "What traded.",
    "filled_notional_microquote": "What that was worth, exactly.",
    "good_til_ms": "When it ends if it is still there; 0 means never.",
    "initial_margin_ppm": "Of the value of the largest position that all open orders could make.",
    "kind": "Whether it fires as the price gets worse for its side, or better.",
    "maintenance_margin_ppm": "Of the value of a position; at most the initial margin.",
    "maker": "The account whose order rested.",
    "maker_order_id": "The order that rested.",
    "market": "The market's number.",
    "order_id": "The order.",
    "owner": "The account whose order it is.",
    "price_ticks": "The limit: it never trades at a worse price.",
    "reduce_only": "Only makes a position smaller: it is cut to the position, now and later.",
    "resting_lots": "What is left of it in the book.",
    "self_trade": "What it does when it meets an order of the same account.",
    "side": "The direction.",
    "size_lots": "The size.",
    "source": "The price that it watches.",
    "status": "How it ended.",
    "symbol": "The market's name, as BTC-PERP.",
    "taker": "The account whose order came in.",
    "taker_order_id": "The order that came in.",
    "taker_side": "The direction of the order that came in.",
    "tif": "How long it may wait, if at all.",
    "time_ms": "The time of the first state.",
}
"""Of fields that mean the same in several classes. A docstring below a field comes first."""

VALUES: Final = {
    "OnBehalf.instruction": "an instruction",
    "OnBehalf.sub": f"1 to {limits.SUB_ACCOUNTS_MAX}",
    "Transfer.account": "an account's id, or empty",
    "Transfer.sub": f"0 to {limits.SUB_ACCOUNTS_MAX}",
    "AuthorizeKey.markets": f"up to {keys.KEY_MARKETS_MAX} markets' numbers",
    "AuthorizeKey.subs": f"up to {keys.KEY_SUB_ACCOUNTS_MAX} accounts' numbers",
    "AuthorizeKey.expires_ms": "later than the block",
    "VolatilityReport.vols_ppm": "so many as knots, `vol_min_ppm` to `vol_max_ppm`",
    "Withdraw.destination": "20 bytes, not all zero",
    "amount_microquote": f"1 to {show_number(limits.DEPOSITS_TOTAL_MAX_MICROQUOTE)}",
    "CancelAll.market": "a market's number, or none",
    "client_id": f"0 to {show_number(limits.CLIENT_ID_MAX)}",
    "duration_ms": f"1 to 86,400 intervals, at most {limits.TWAP_DURATION_MAX_MS:,}",
    "good_til_ms": "0, or later than the block",
    "interval_ms": f"{limits.TWAP_INTERVAL_MIN_MS:,} to {limits.TWAP_INTERVAL_MAX_MS:,}",
    "market": "a market's number",
    "offset_ticks": f"1 to {show_number(limits.PRICE_MAX_TICKS)}",
    "order_id": "an order's id, or 0",
    "portion_ppm": f"1 to {show_number(limits.PPM)}",
    "premium_ppm": f"0 to {show_number(limits.PPM)}",
    "price_ticks": f"1 to {show_number(limits.PRICE_MAX_TICKS)}",
    "protective_price_ticks": f"1 to {show_number(limits.PRICE_MAX_TICKS)}",
    "sequence": f"1 to {show_number(limits.SEQUENCE_MAX)}",
    "size_lots": "1 to the market's `order_size_max_lots`",
    "slack_ticks": f"0 to {show_number(limits.PRICE_MAX_TICKS)}",
    "source_time_ms": f"0 to {show_number(limits.TIME_MAX_MS)}",
    "timeout_ms": f"0 to {limits.DEAD_MAN_TIMEOUT_MAX_MS:,}",
    "trigger_ticks": f"1 to {show_number(limits.PRICE_MAX_TICKS)}",
}
"""Which numbers an instruction may hold, by the name of the field, or `Class.field`."""


def fill_page(page: str) -> str:
    """The page with every marked place filled.

    Raises AssertionError for a place of an unknown name, and for a table without a place.
    """
    tables = render_tables()
    names = _MARK.findall(page)
    assert sorted(names) == sorted(tables), (
        f"the page has places for {sorted(names)}, and there are tables {sorted(tables)}: each "
        "needs one place `<!-- table: NAME -->`, `<!-- end of table -->` in docs/engine.md"
    )
    return _MARK.sub(
        lambda match: (
            f"<!-- table: {match[1]} -->\n\n{tables[match[1]]}\n\n<!-- end of table -->\n"
        ),
        page,
    )


def render_tables() -> dict[str, str]:
    """The tables, by the name of their place."""
    return {
        "phases": f"```text\n{read_block(engine.__doc__ or '', 'Phases of a block')}\n```",
        "instructions": "\n\n".join(map(_render_instruction, KINDS)),
        "keys": _render_keys(),
        "choices": "\n\n".join(map(_render_choice, _find_choices())),
        "receipts": "\n\n".join(_render_answer(each) for each in (Receipt, Fill)),
        "events": "\n\n".join(map(_render_answer, get_args(Event))),
        "codes": _render_codes(),
        "parameters": "\n\n".join(map(_render_parameters, _find_parameters())),
        "limits": _render_limits(),
        "state": f"```text\n{read_block(commitment.__doc__ or '', 'kinds of leaves')}\n```",
    }


KINDS: Final[tuple[type[Struct], ...]] = get_args(Instruction)
KEY_KINDS: Final[tuple[type[Struct], ...]] = get_args(keys.KeyChange)


def find_gaps() -> list[str]:
    """What the page cannot say, one sentence for each, which says what to add and where."""
    gaps = [
        f"{code.value} has no meaning: add it to OUTCOME_REASONS in node/cli/reasons.py"
        for code in ReasonCode
        if code not in OUTCOME_REASONS
    ]
    told = {code for codes in (*REFUSALS.values(), *EVENT_CODES.values()) for code in codes}
    gaps += [
        f"nothing says where {code.value} turns up: add it to engine/refusals.py, to REFUSALS for"
        " each instruction that it refuses, or to EVENT_CODES"
        for code in ReasonCode
        if code not in told | {*BUNDLE_REFUSALS, *SESSION_REFUSALS, *NOTES}
    ]
    gaps += [
        f"{kind.__name__} has no table of refusals: add it to REFUSALS in engine/refusals.py"
        for kind in KINDS
        if kind not in REFUSALS
    ]
    for kind in (*KINDS, *KEY_KINDS, Receipt, Fill, *get_args(Event), *_find_parameters()):
        if not _describe(kind):
            gaps.append(f"{kind.__name__} has no docstring")
        gaps += [
            f"{kind.__name__}.{field.name} has no meaning: add a docstring below it, or an entry"
            " to MEANINGS in node/cli/engine_reference.py"
            for field in structs.fields(kind)
            if not _explain(kind, field.name)
        ]
    gaps += [
        f"nothing says which numbers {kind.__name__}.{field.name} may be: add it to VALUES in"
        " node/cli/engine_reference.py"
        for kind in (*KINDS, *KEY_KINDS)
        for field in structs.fields(kind)
        if not _show_values(kind, field)
    ]
    gaps += [
        f"{choice.__name__}.{name} has no meaning: add a docstring below it"
        for choice in _find_choices()
        for name, meaning in _read_members(choice).items()
        if not meaning
    ]
    gaps += [
        f"limits.{name} has no meaning: add a docstring below it"
        for name, meaning in read_constants(limits).items()
        if not meaning
    ]
    return gaps


# ---- instructions, receipts and events -----------------------------------------------------


def _render_instruction(kind: type[Struct]) -> str:
    return f"{_render_fields(kind)}\n\nRefused with {_show_codes(REFUSALS.get(kind, ()))}."


def _render_keys() -> str:
    """What may be asked about session keys, and what refuses it."""
    scopes = [
        f"| {each.value} | `{each.name}` | {meaning} |"
        for each, meaning in zip(keys.KeyScope, _read_members(keys.KeyScope).values(), strict=True)
    ]
    codes = [
        f"| `{code}` | {reason.meaning} | {reason.advice} |"
        for code, reason in REFUSAL_REASONS.items()
        if code.startswith("key.") or code is RefusalCode.KEYS_MALFORMED
    ]
    parts = [
        *map(_render_fields, KEY_KINDS),
        "\n".join(["| number | scope | meaning |", "|---:|---|---|", *scopes]),
        "\n".join(["| code | meaning | what to do |", "|---|---|---|", *codes]),
    ]
    return "\n\n".join(parts)


def _render_fields(kind: type[Struct]) -> str:
    lines = [f"### {kind.__name__} ({kind.__struct_config__.tag})", "", _describe(kind), ""]
    lines += ["| field | unit | values | default | meaning |", "|---|---|---|---|---|"]
    for field in structs.fields(kind):
        default = _show_default(field)
        lines.append(
            f"| `{field.name}` | {_unit(field.name)} | {_show_values(kind, field)} | {default}"
            f" | {_explain(kind, field.name)} |"
        )
    return "\n".join(lines)


def _render_answer(kind: type[Struct]) -> str:
    lines = [f"### {kind.__name__} ({kind.__struct_config__.tag})", "", _describe(kind), ""]
    lines += ["| field | unit | meaning |", "|---|---|---|"]
    lines += [
        f"| `{field.name}` | {_unit(field.name)} | {_explain(kind, field.name)} |"
        for field in structs.fields(kind)
    ]
    if kind in EVENT_CODES:
        lines += ["", f"Its codes: {_show_codes(EVENT_CODES[kind])}."]
    return "\n".join(lines)


def _render_choice(choice: type[Enum]) -> str:
    lines = [f"### {choice.__name__}", "", _describe(choice), ""]
    lines += ["| number | name | meaning |", "|---:|---|---|"]
    meanings = _read_members(choice)
    lines += [f"| {each.value} | `{each.name}` | {meanings[each.name]} |" for each in choice]
    return "\n".join(lines)


def _render_codes() -> str:
    lines = ["| code | meaning | what to do | where |", "|---|---|---|---|"]
    for code in sorted(ReasonCode):
        reason = OUTCOME_REASONS.get(code)
        meaning, advice = ("", "") if reason is None else reason
        lines.append(f"| `{code}` | {meaning} | {advice} | {_show_places(code)} |")
    return "\n".join(lines)


def _show_places(code: ReasonCode) -> str:
    """Where a code turns up: what it refuses first, then what tells of it."""
    refused = [kind.__name__ for kind, codes in REFUSALS.items() if code in codes]
    places = [f"refuses {', '.join(refused)}"] if refused else []
    places += ["refuses a whole bundle"] if code in BUNDLE_REFUSALS else []
    places += ["refuses whatever a session key signed"] if code in SESSION_REFUSALS else []
    places += ["in receipts of what was done"] if code in NOTES else []
    events = [kind.__name__ for kind, codes in EVENT_CODES.items() if code in codes]
    places += [f"in {', '.join(events)}"] if events else []
    return "; ".join(places)


# ---- parameters and limits -----------------------------------------------------------------


def _find_parameters() -> list[type[Struct]]:
    """The genesis and all that it consists of, in order of appearance."""
    found: list[type[Struct]] = []

    def visit(kind: type[Struct]) -> None:
        if kind not in found:
            found.append(kind)
            for field in structs.fields(kind):
                for part in _find_structs(msgspec.inspect.type_info(field.type)):
                    visit(part)

    visit(EngineGenesis)
    return found


def _find_structs(info: Any) -> Iterator[type[Struct]]:
    """The structs of a type, however deep in lists and choices."""
    if isinstance(info, msgspec.inspect.StructType):
        yield info.cls
    for part in (*getattr(info, "types", ()), *getattr(info, "item_types", ())):
        yield from _find_structs(part)
    for name in ("item_type", "type"):
        if (part := getattr(info, name, None)) is not None:
            yield from _find_structs(part)


def _render_parameters(kind: type[Struct]) -> str:
    lines = [f"### {kind.__name__}", "", _describe(kind), ""]
    lines += ["| parameter | unit | values | default | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| `{field.name}` | {_unit(field.name)} | {_show_values(kind, field)}"
        f" | {_show_default(field)} | {_explain(kind, field.name)} |"
        for field in structs.fields(kind)
    ]
    return "\n".join(lines)


def _render_limits() -> str:
    lines = ["| limit | value | meaning |", "|---|---:|---|"]
    lines += [
        f"| `{name}` | {show_number(getattr(limits, name))} | {meaning} |"
        for name, meaning in read_constants(limits).items()
    ]
    return "\n".join(lines)


# ---- words ---------------------------------------------------------------------------------


def _find_choices() -> list[type[Enum]]:
    """The enumerations of instructions and receipts, reason codes aside."""
    return [
        each
        for module in (instructions, receipts)
        for each in vars(module).values()
        if inspect.isclass(each)
        and issubclass(each, IntEnum)
        and each.__module__ == module.__name__
    ]


def _describe(kind: type) -> str:
    """A class's docstring, as it stands; lists and paragraphs are kept."""
    return inspect.cleandoc(kind.__doc__ or "")


def _module(kind: type) -> ModuleType:
    module = inspect.getmodule(kind)
    assert module is not None, "a class is defined somewhere"
    return module


def _explain(kind: type, field: str) -> str:
    meaning = read_field_docs(_module(kind))[kind.__name__].get(field)
    return meaning or MEANINGS.get(f"{kind.__name__}.{field}") or MEANINGS.get(field, "")


def _read_members(choice: type[Enum]) -> dict[str, str]:
    docs = read_field_docs(_module(choice))[choice.__name__]
    return {each.name: docs[each.name] or MEANINGS.get(each.name, "") for each in choice}


def _unit(field: str) -> str:
    return UNITS.get(field.rpartition("_")[2], "")


def _show_codes(codes: Codes) -> str:
    return ", ".join(f"`{code}`" for code in codes)


def _show_default(field: structs.FieldInfo) -> str:
    value = field.default
    match value:
        case msgspec.NODEFAULT:
            return ""
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case IntEnum():
            return f"`{value.name}`"
        case int():
            return show_number(value)
        case ():
            return "none"
        case (ScenarioRule(), *_):
            return f"the {len(value)} of [portfolio margin](reference/portfolio.md#parameters)"
        case _:
            return f"`{value}`"


def _show_values(kind: type[Struct], field: structs.FieldInfo) -> str:
    return (
        VALUES.get(f"{kind.__name__}.{field.name}")
        or _show_type(msgspec.inspect.type_info(field.type))
        or VALUES.get(field.name, "")
    )


def _show_type(info: Any) -> str:
    """Which values a type allows; "" for a number without bounds."""
    match info:
        case msgspec.inspect.BoolType():
            return "yes or no"
        case msgspec.inspect.EnumType(cls=cls):
            return ", ".join(f"`{each.name}`" for each in cls)
        case msgspec.inspect.IntType(ge=int(low), le=int(high)):
            return f"{show_number(low)} to {show_number(high)}"
        case msgspec.inspect.BytesType(min_length=low, max_length=high) if low == high and low:
            return f"{low} bytes"
        case msgspec.inspect.StrType(min_length=int(low), max_length=int(high)):
            return f"{low} to {high} characters"
        case msgspec.inspect.StructType(cls=cls):
            return f"`{cls.__name__}`"
        case msgspec.inspect.VarTupleType(item_type=item, min_length=low, max_length=high):
            count = "" if high is None else f"{low or 0} to {high} "
            return f"{count}of {_show_type(item)}"
        case msgspec.inspect.UnionType(types=types):
            parts = [_show_type(each) for each in types]
            return " or ".join(parts) if all(parts) else ""
        case msgspec.inspect.NoneType():
            return "none"
        case _:
            return ""
