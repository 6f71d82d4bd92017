"""A day on which one market falls: its price, and who is caught in it. Pure.

*Leveraged* accounts buy what their deposit carries, and do nothing more. *Bidders* take slices of
those of them that are under liquidation (`engine.liquidation.bidding`), and sell what they got into
the quotes. `localnet.crash_crowd` has them act.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

from engine.genesis import LiquidationParams, MarketParams
from engine.instructions import Bid, Instruction, MarketOrder, Side
from engine.limits import PPM, QUOTE_MICROQUOTE
from localnet.markets import LIQUIDATION, AccountPlan
from localnet.takers import compute_protective_ticks

CROWD_MAX: Final = 32
"""Leveraged accounts of one market, and bidders: a bundle holds a bid for each, and a sale."""

ENTRY_MAX_MICROQUOTE: Final = 150_000 * QUOTE_MICROQUOTE
"""Value of one order of a leveraged account: a third of what the makers quote on a side."""

ENTRY_PROTECTION_PPM: Final = 5_000
"""Such an order pays this much more than the reference at most: beyond the outermost quote, and so
little that the margin for the worst price leaves room for leverage."""

BID_PORTION_PPM: Final = 100_000
"""What a bidder takes at once of what an account has."""

BID_PREMIUM_PPM: Final = 1_000
"""What a bidder asks for, in parts of the maintenance margin."""

Deposits = Annotated[
    tuple[Annotated[int, Meta(ge=1, le=1_000_000_000)], ...], Meta(max_length=CROWD_MAX)
]
"""One for each account, in whole units of quote."""


class Crash(Struct, frozen=True, forbid_unknown_fields=True):
    """One fall. Times count from readiness."""

    market: str
    from_s: Annotated[float, Meta(ge=0)]
    for_s: Annotated[float, Meta(gt=0)]
    fall_percent: Annotated[int, Meta(ge=1, le=90)]
    """How far the price is down at the end; it stays there."""
    insurance: Annotated[int, Meta(ge=0, le=1_000_000_000)]
    """What the insurance fund begins with, in whole units of quote."""
    leverage_percent: Annotated[int, Meta(ge=1, le=10_000)]
    """Value of a leveraged account's position, in parts of its deposit."""
    leveraged: Deposits = ()
    bidders: Deposits = ()

    def factor_ppm(self, elapsed_s: float) -> int:
        """What the market's price is multiplied with so long after readiness."""
        part_ppm = int(PPM * min(1.0, max(0.0, (elapsed_s - self.from_s) / self.for_s)))
        return PPM - self.fall_percent * part_ppm // 100

    def liquidation(self) -> LiquidationParams:
        """A localnet's, but for the insurance fund."""
        return replace(LIQUIDATION, insurance_microquote=self.insurance * QUOTE_MICROQUOTE)

    def accounts(self) -> tuple[AccountPlan, ...]:
        """Whom the genesis needs beside a localnet's own accounts."""
        pairs = [
            *zip(self.leveraged_names(), self.leveraged, strict=True),
            *zip(self.bidder_names(), self.bidders, strict=True),
        ]
        return tuple(AccountPlan(name, whole * QUOTE_MICROQUOTE, False) for name, whole in pairs)

    def leveraged_names(self) -> list[str]:
        """By number."""
        return [f"leveraged{number}" for number in range(len(self.leveraged))]

    def bidder_names(self) -> list[str]:
        """By number."""
        return [f"bidder{number}" for number in range(len(self.bidders))]

    def target_lots(self, deposit: int, params: MarketParams, price_ticks: int) -> int:
        """What a leveraged account wants to have, rounded down."""
        value = deposit * QUOTE_MICROQUOTE * self.leverage_percent // 100
        return value // (price_ticks * params.unit_microquote)


def apply_factor(price_ticks: int, factor_ppm: int) -> int:
    """A price under a factor, rounded down to a tick, at least one."""
    return max(1, price_ticks * factor_ppm // PPM)


def compute_entry(params: MarketParams, price_ticks: int, missing_lots: int) -> MarketOrder:
    """The next order of a leveraged account that misses so many lots."""
    assert missing_lots > 0
    most = max(1, ENTRY_MAX_MICROQUOTE // (price_ticks * params.unit_microquote))
    protective = -(-price_ticks * (PPM + ENTRY_PROTECTION_PPM) // PPM)
    return MarketOrder(params.market, Side.BUY, protective, min(missing_lots, most))


def compute_bids(
    params: MarketParams, price_ticks: int, held_lots: int, accounts: Iterable[bytes]
) -> list[Instruction]:
    """What a bidder sends: bids for whatever of these accounts is for sale, and a sale of what it
    has. Bids for what is not for sale are refused and cost nothing."""
    bids: list[Instruction] = [Bid(each, BID_PORTION_PPM, BID_PREMIUM_PPM) for each in accounts]
    if held_lots > 0:
        protective = compute_protective_ticks(Side.SELL, price_ticks)
        bids.append(MarketOrder(params.market, Side.SELL, protective, held_lots, reduce_only=True))
    return bids


def find_market(markets: Sequence[MarketParams], symbol: str) -> MarketParams:
    """The market of that name, which somebody has checked."""
    return next(each for each in markets if each.symbol == symbol)
