"""What options must come to when they expire, computed from what was recorded, by rational numbers.

It is the engine's judge, so it shares nothing with it: an import contract keeps everything of the
product out of this file, and it is worked out another way. The engine counts samples as blocks come
and keeps a sum; here all blocks are known, and the window is cut into intervals afterwards. The
engine divides integers once; here a price is an exact fraction.

    sample      the index at the first block of an interval that had a fresh one
    intervals   of `sample_interval_ms`, from `window_ms` before the expiry on
    settled     at the first block from the expiry on with a fresh index, once more than half of the
                window's intervals have a sample; until then intervals after the expiry count, too
    price       the mean of the samples
    payout      lots x unit x max(0, price - strike) for a call, max(0, strike - price) for a put,
                rounded down, so that a short pays up
    balance     the deposit, less premiums of what was bought, plus premiums of what was sold, less
                fees, plus payouts

Amounts are micro-quote; a unit is what one lot at one tick is worth.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple


class Terms(NamedTuple):
    """What the genesis says of the options of one underlying."""

    window_ms: int
    sample_interval_ms: int
    unit_microquote: int
    """Of the underlying, in whose ticks strikes and index are."""
    premium_unit_microquote: int
    """Of an option, in whose ticks premiums are."""


class IndexPoint(NamedTuple):
    """The index of one block."""

    time_ms: int
    price_ticks: int
    is_fresh: bool


class Listing(NamedTuple):
    """What one series is."""

    expiry_ms: int
    strike_ticks: int
    is_call: bool


class Trade(NamedTuple):
    """One trade in a series."""

    market: int
    price_ticks: int
    lots: int
    buyer: bytes
    seller: bytes
    buyer_fee_microquote: int
    seller_fee_microquote: int


class Settlement(NamedTuple):
    """What one expiry must come to."""

    time_ms: int
    """Of the block that settles."""
    samples: tuple[int, ...]
    """In ticks."""
    payouts: dict[tuple[bytes, int], int]
    """By account and market: positive for who is paid. Nobody without a position."""

    @property
    def price_ticks(self) -> Fraction:
        """The mean."""
        return Fraction(sum(self.samples), len(self.samples))


def compute_settlement(
    terms: Terms,
    expiry_ms: int,
    points: Sequence[IndexPoint],
    listings: Mapping[int, Listing],
    trades: Iterable[Trade],
) -> Settlement | None:
    """What an expiry must come to; None while it cannot be settled. `points` are in the order of
    blocks, `trades` may be of any series."""
    start_ms = expiry_ms - terms.window_ms
    needed = terms.window_ms // terms.sample_interval_ms // 2 + 1
    first: dict[int, int] = {}
    for point in points:
        if not point.is_fresh or point.time_ms < start_ms:
            continue
        is_over = point.time_ms >= expiry_ms
        if not (is_over and len(first) >= needed):
            first.setdefault(
                (point.time_ms - start_ms) // terms.sample_interval_ms, point.price_ticks
            )
        if is_over and len(first) >= needed:
            samples = tuple(first.values())
            price = Fraction(sum(samples), len(samples))
            positions = compute_positions(trades)
            payouts = {
                (account, market): compute_payout(terms, listings[market], price, lots)
                for (account, market), lots in positions.items()
                if lots and market in listings and listings[market].expiry_ms == expiry_ms
            }
            return Settlement(point.time_ms, samples, payouts)
    return None


def compute_positions(trades: Iterable[Trade]) -> dict[tuple[bytes, int], int]:
    """Lots by account and market, zeros among them."""
    positions: dict[tuple[bytes, int], int] = defaultdict(int)
    for trade in trades:
        positions[trade.buyer, trade.market] += trade.lots
        positions[trade.seller, trade.market] -= trade.lots
    return dict(positions)


def compute_payout(terms: Terms, listing: Listing, price_ticks: Fraction, lots: int) -> int:
    """What a position receives, in micro-quote."""
    above = price_ticks - listing.strike_ticks
    value = max(above if listing.is_call else -above, Fraction(0))
    return math.floor(lots * value * terms.unit_microquote)


def compute_balance(
    terms: Terms,
    account: bytes,
    deposit_microquote: int,
    trades: Iterable[Trade],
    settlements: Iterable[Settlement],
) -> int:
    """What an account that did nothing but trade options must have in the end."""
    balance = deposit_microquote
    for trade in trades:
        premium = trade.price_ticks * trade.lots * terms.premium_unit_microquote
        if trade.buyer == account:
            balance -= premium + trade.buyer_fee_microquote
        if trade.seller == account:
            balance += premium - trade.seller_fee_microquote
    for settlement in settlements:
        for (holder, _), amount in settlement.payouts.items():
            if holder == account:
                balance += amount
    return balance


def find_difference(
    due: Mapping[tuple[bytes, int], int], booked: Mapping[tuple[bytes, int], int]
) -> list[str]:
    """Where what was paid is not what was due; the smallest difference counts."""
    problems = []
    for account, market in sorted({*due, *booked}):
        wanted, found = due.get((account, market)), booked.get((account, market))
        if wanted != found:
            problems.append(
                f"account {account.hex()[:16]} in series {market}: "
                f"{_say(found)} micro-quote booked, {_say(wanted)} due"
            )
    return problems


def _say(amount: int | None) -> str:
    return "no" if amount is None else str(amount)
