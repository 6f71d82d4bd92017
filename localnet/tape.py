"""Tapes: recorded trades in the layout of Binance's public trade archives.

One trade a line, comma-separated, with or without a header line:

| column | form |
|---|---|
| trade id | whole number |
| price, qty, quote qty | decimal, at most 8 places; price and qty above zero |
| time | milliseconds since 1970, or microseconds as in newer archives, told apart by size |
| is buyer maker | `true` or `false`, in any case: whether the seller was the taker |
| is best match | likewise; spot archives have it, futures archives do not; not used |

A tape is read line by line, so its length does not matter. Anything else than this layout is an
error that names the line; nothing is skipped or guessed. Prices and quantities are integers in
units of 10^-8 throughout.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from engine.genesis import MarketParams
from engine.instructions import Side
from engine.limits import PRICE_MAX_TICKS, QUOTE_MICROQUOTE
from node.exit_codes import ExitCode, OperatorError

LINE_MAX_BYTES: Final = 512
"""A line of a tape, its end included."""

COUNT_CHUNK_BYTES: Final = 1 << 20
"""Read at a time where only lines are counted."""

UNIT: Final = 10**8
"""Prices and quantities are counted in 1/UNIT."""

VALUE_MAX: Final = 2**80
"""Bound on a price or quantity in 1/UNIT: far above any real one."""

MICROSECONDS_FROM: Final = 10**14
"""A time of at least this is in microseconds: as milliseconds it would lie past the year 5000."""

TIME_MAX: Final = 10**17

HEADER_FIRST_COLUMNS: Final = frozenset({"id", "trade_id", "trade id"})
"""What the first column of a header line is called."""

_INTEGER = re.compile(r"[0-9]{1,19}", re.ASCII)
_DECIMAL = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,8}))?", re.ASCII)


class TapeError(OperatorError):
    """The tape cannot be read or is not in this layout; the message names the line."""

    code = "tape.malformed"
    exit_code = ExitCode.CONFIG


class TapeTrade(NamedTuple):
    """One recorded trade."""

    trade_id: int
    price: int
    """Per whole unit of the base asset, in 1/UNIT of quote."""
    quantity: int
    """In 1/UNIT of base."""
    time_ms: int
    is_buyer_maker: bool

    @property
    def taker_side(self) -> Side:
        """Who crossed the spread: if the buyer was resting, the seller did."""
        return Side.SELL if self.is_buyer_maker else Side.BUY


def read_tape(path: Path) -> Iterator[TapeTrade]:
    """Yield the trades of a file, reading as it goes. Raises `TapeError`."""
    with _open(path) as file:
        yield from parse_tape(file, str(path))


def count_trades(path: Path) -> int:
    """How many trades a file holds, by its lines. Raises `TapeError`."""
    lines = 0
    with _open(path) as file:
        first = file.readline(LINE_MAX_BYTES)
        file.seek(0)
        last = b""
        while chunk := file.read(COUNT_CHUNK_BYTES):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    lines += last not in (b"", b"\n")
    return lines - _is_header(first.decode("ascii", errors="replace").split(","))


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise TapeError(
            f"cannot read {path}: {error.strerror}",
            advice="name a CSV file of trades with --tape",
            code="tape.unreadable",
        ) from error


def _is_header(columns: list[str]) -> bool:
    return columns[0].strip().lower() in HEADER_FIRST_COLUMNS


def parse_tape(file: BinaryIO, name: str) -> Iterator[TapeTrade]:
    """Yield the trades of an open file; `name` is for messages. Raises `TapeError`."""
    number = 0
    while line := file.readline(LINE_MAX_BYTES):
        number += 1
        try:
            if not line.endswith(b"\n") and len(line) == LINE_MAX_BYTES:
                raise ValueError(f"longer than {LINE_MAX_BYTES} bytes")
            text = line.decode("ascii").removesuffix("\n").removesuffix("\r")
            columns = text.split(",")
            if number == 1 and _is_header(columns):
                continue
            trade = _parse_columns(columns)
        except ValueError as error:
            raise TapeError(
                f"{name}, line {number}: {error}",
                advice="a line is: trade id,price,qty,quote qty,time in ms,is buyer maker",
            ) from error
        yield trade


def _parse_columns(columns: list[str]) -> TapeTrade:
    if len(columns) not in (6, 7):
        raise ValueError(f"{len(columns)} columns instead of 6 or 7")
    trade_id = _parse_integer("trade id", columns[0])
    price = _parse_decimal("price", columns[1])
    quantity = _parse_decimal("qty", columns[2])
    _parse_decimal("quote qty", columns[3])
    time = _parse_integer("time", columns[4])
    is_buyer_maker = _parse_boolean("is buyer maker", columns[5])
    if len(columns) == 7:
        _parse_boolean("is best match", columns[6])
    if price == 0 or quantity == 0:
        raise ValueError("a price or quantity of zero")
    if time > TIME_MAX:
        raise ValueError(f"time {time} is out of range")
    time_ms = time // 1_000 if time >= MICROSECONDS_FROM else time
    return TapeTrade(trade_id, price, quantity, time_ms, is_buyer_maker)


def _parse_integer(column: str, text: str) -> int:
    if _INTEGER.fullmatch(text) is None:
        raise ValueError(f"{column} {text[:40]!r} is no whole number")
    return int(text)


def _parse_decimal(column: str, text: str) -> int:
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f"{column} {text[:40]!r} is no decimal with at most 8 places")
    whole, fraction = match.groups()
    value = int(whole) * UNIT + int((fraction or "").ljust(8, "0"))
    if value > VALUE_MAX:
        raise ValueError(f"{column} {text} is out of range")
    return value


def _parse_boolean(column: str, text: str) -> bool:
    lowered = text.lower()
    if lowered not in ("true", "false"):
        raise ValueError(f"{column} {text[:40]!r} is neither true nor false")
    return lowered == "true"


def format_trade(trade: TapeTrade) -> str:
    """Return the line of a trade, without its end; `parse_tape` gives the trade back."""
    quote = trade.price * trade.quantity // UNIT
    maker = "true" if trade.is_buyer_maker else "false"
    return (
        f"{trade.trade_id},{format_decimal(trade.price)},{format_decimal(trade.quantity)},"
        f"{format_decimal(quote)},{trade.time_ms},{maker}"
    )


def format_decimal(value: int) -> str:
    """Return a number of 1/UNIT as a decimal, without trailing zeros."""
    whole, fraction = divmod(value, UNIT)
    return f"{whole}.{fraction:08d}".rstrip("0").rstrip(".")


HEADER: Final = "id,price,qty,quote_qty,time,is_buyer_maker"
"""The header line that futures archives carry."""


def compute_price_ticks(trade: TapeTrade, params: MarketParams) -> int:
    """The trade's price in a market's ticks, rounded to the nearest, inside what is a price."""
    tick = params.tick_size_microquote * (UNIT // QUOTE_MICROQUOTE)
    return min(max((2 * trade.price + tick) // (2 * tick), 1), PRICE_MAX_TICKS)


def compute_size_lots(trade: TapeTrade, params: MarketParams, max_lots: int) -> int:
    """The trade's size in a market's lots: rounded to the nearest, at least 1, at most `max_lots`.

    The bound stands for the depth that the demo market makers quote: a tape may come from a
    market a thousand times as deep.
    """
    lots = (2 * trade.quantity * params.lots_per_base + UNIT) // (2 * UNIT)
    return min(max(lots, 1), max_lots)
