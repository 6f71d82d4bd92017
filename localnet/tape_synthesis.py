"""Synthetic trades for tests, demonstrations and benchmarks, when no recorded tape is at hand."""

from collections.abc import Iterator
from typing import Final

from localnet.price_path import PricePath
from localnet.splitmix import SplitMix
from localnet.tape import UNIT, TapeTrade

FIRST_TIME_MS: Final = 1_700_000_000_000
TICKS_PER_QUOTE: Final = 10
BASE_PRICE_TICKS: Final = 60_000 * TICKS_PER_QUOTE
QUANTITY_STEP: Final = UNIT // 10_000
"""Quantities are multiples of 0.0001 of the base asset."""

PATH_STEP_EVERY_TRADES: Final = 20
TAIL_DOUBLINGS: Final = 11
"""The largest quantities are about 2^11 times as large as the smallest."""

GAP_MAX_MS: Final = 100
"""Trades are 0 to this apart."""


def generate_trades(count: int, seed: int) -> Iterator[TapeTrade]:
    """Yield `count` trades of a market like BTC/USD: clustered in time, mostly small sizes."""
    below = SplitMix(seed).below
    path = PricePath(seed, 0, BASE_PRICE_TICKS)
    time_ms = FIRST_TIME_MS
    for number in range(count):
        if number % PATH_STEP_EVERY_TRADES == 0:
            path.step()
        time_ms += below(GAP_MAX_MS + 1) if below(2) else 0
        is_buyer_maker = bool(below(2))
        # Sellers who take get the bid, a tick below the path; buyers pay the ask above it.
        price_ticks = path.price_ticks + (-1 if is_buyer_maker else 1)
        # A power-law tail: one trade in 2^k is about 2^k times as large as the smallest ones.
        draw = below(1 << TAIL_DOUBLINGS) | 1 << TAIL_DOUBLINGS
        quantity = QUANTITY_STEP * (1 + below(4 * (draw & -draw)))
        yield TapeTrade(
            trade_id=number + 1,
            price=price_ticks * UNIT // TICKS_PER_QUOTE,
            quantity=quantity,
            time_ms=time_ms,
            is_buyer_maker=is_buyer_maker,
        )
