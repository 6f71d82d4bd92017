"""What the demo takers do, as pure functions and one small state: who takes what.

Two kinds of flow: random orders whose side leans against the taker's position, and the trades of a
tape, spread over the accounts so that each buy goes to whoever is shortest and each sell to whoever
is longest. A tape may buy more than it sells for days; `TakerBook.rebalance` gives such a surplus
back to the makers in orders of its own, so that no account drifts towards its margin.
"""

from collections.abc import Sequence
from typing import Final

from engine.genesis import MarketParams
from engine.instructions import MarketOrder, Side
from engine.limits import PPM, PRICE_MAX_TICKS, QUOTE_MICROQUOTE
from localnet.splitmix import SplitMix

PROTECTION_PPM: Final = 30_000
"""Takers accept prices this much worse than the reference: inside every market's price band, and
far beyond the outermost quote."""

RANDOM_ORDER_MAX_MICROQUOTE: Final = 4_000 * QUOTE_MICROQUOTE
"""Value of the largest random order."""

LEAN_LIMIT_MICROQUOTE: Final = 50_000 * QUOTE_MICROQUOTE
"""Value of a position at which a random order always reduces it."""

SURPLUS_LIMIT_MICROQUOTE: Final = 5_000_000 * QUOTE_MICROQUOTE
"""Value of all takers' positions in a market from which on they give back."""


def compute_protective_ticks(side: Side, reference_ticks: int) -> int:
    """The worst price that a taker accepts."""
    price = reference_ticks * (PPM + side * PROTECTION_PPM) // PPM
    return min(max(price, 1), PRICE_MAX_TICKS)


def compute_random_order(
    random: SplitMix, params: MarketParams, reference_ticks: int, position_lots: int
) -> MarketOrder:
    """An order of random size; its side is random at no position, certain at the lean limit."""
    lot_value = reference_ticks * params.unit_microquote
    max_lots = max(1, RANDOM_ORDER_MAX_MICROQUOTE // lot_value)
    limit_lots = max(1, LEAN_LIMIT_MICROQUOTE // lot_value)
    held = min(max(position_lots, -limit_lots), limit_lots)
    is_sell = random.below(2 * limit_lots) < limit_lots + held
    side = Side.SELL if is_sell else Side.BUY
    lots = min(1 + random.below(max_lots), params.order_size_max_lots)
    return MarketOrder(params.market, side, compute_protective_ticks(side, reference_ticks), lots)


class TakerBook:
    """What the takers of one market hold, by their orders sent and their positions known."""

    def __init__(self, accounts: Sequence[bytes]) -> None:
        assert accounts
        self.positions = dict.fromkeys(accounts, 0)
        """Lots. An estimate: orders count in full when they are handed out."""

    def assign(self, side: Side, lots: int) -> bytes:
        """Choose the account for an order, so that positions stay close together."""
        choose = min if side is Side.BUY else max
        account = choose(self.positions, key=lambda each: self.positions[each])
        self.positions[account] += side * lots
        return account

    def set_position(self, account: bytes, lots: int) -> None:
        """Replace the estimate by what the engine says."""
        self.positions[account] = lots

    def rebalance(
        self, params: MarketParams, reference_ticks: int, max_lots: int
    ) -> tuple[bytes, MarketOrder] | None:
        """An order that gives back part of the takers' surplus, and its account; None if small."""
        surplus = sum(self.positions.values())
        if abs(surplus) * reference_ticks * params.unit_microquote <= SURPLUS_LIMIT_MICROQUOTE:
            return None
        side = Side.SELL if surplus > 0 else Side.BUY
        lots = min(abs(surplus) // 2 + 1, max_lots)
        account = self.assign(side, lots)
        protective = compute_protective_ticks(side, reference_ticks)
        return account, MarketOrder(params.market, side, protective, lots)
