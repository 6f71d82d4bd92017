"""Cuts a tape into chunks that are due together and that the quoted depth can fill."""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final, NamedTuple

import trio

from engine.genesis import MarketParams
from engine.instructions import Side
from localnet.tape import TapeTrade, compute_price_ticks, compute_size_lots

CHUNK_TRADES_MAX: Final = 512
"""Trades that are sent at once: eight full bundles."""

DUE_TOLERANCE_MS: Final = 20
"""Trades that are due this soon go out with those that are due now."""


class TapeOrder(NamedTuple):
    """One trade of the tape as a taker order."""

    side: Side
    lots: int
    price_ticks: int
    time_ms: int


class TapeChunk(NamedTuple):
    """Orders to be sent together; the price of the last one is the market's price."""

    orders: tuple[TapeOrder, ...]

    @property
    def price_ticks(self) -> int:
        return self.orders[-1].price_ticks


def convert_trades(
    trades: Iterable[TapeTrade], params: MarketParams, max_lots: int
) -> Iterator[TapeOrder]:
    """Express trades in a market's ticks and lots; no order is larger than `max_lots`."""
    for trade in trades:
        yield TapeOrder(
            trade.taker_side,
            compute_size_lots(trade, params, max_lots),
            compute_price_ticks(trade, params),
            trade.time_ms,
        )


async def play_tape(
    orders: Iterator[TapeOrder], *, speed: float, max_lots: int
) -> AsyncIterator[TapeChunk]:
    """Yield chunks when they are due; each buys and sells at most `max_lots`.

    `speed` is how many times faster than recorded; with `inf` everything is due at once, and the
    pace is that of whoever takes the chunks. Whoever is late gets larger chunks until it has
    caught up. Times that run backwards count as the time before.
    """
    assert speed > 0
    started_at = trio.current_time()
    first_ms: int | None = None
    chunk: list[TapeOrder] = []
    taken = {Side.BUY: 0, Side.SELL: 0}
    for order in orders:
        if first_ms is None:
            first_ms = order.time_ms
        due_at = started_at + (order.time_ms - first_ms) / 1_000 / speed
        is_early = due_at > trio.current_time() + DUE_TOLERANCE_MS / 1_000
        is_full = len(chunk) == CHUNK_TRADES_MAX or taken[order.side] + order.lots > max_lots
        if chunk and (is_early or is_full):
            yield TapeChunk(tuple(chunk))
            chunk, taken = [], {Side.BUY: 0, Side.SELL: 0}
        if is_early:
            await trio.sleep_until(due_at)
        chunk.append(order)
        taken[order.side] += order.lots
    if chunk:
        yield TapeChunk(tuple(chunk))
