"""What a block did to accounts, for their owners: fills, and events of the engine.

A receipt answers an instruction. What befalls an account without one of its own is told here: its
orders that others traded with, that expired, woke, shrank or were cancelled, funding and
settlements, transfers, the steps of its liquidation, and what it took over from others.

Each entry is a map of the struct's fields, with two more: `kind` (`KINDS`), and `leaf`, its place
among the leaves under the block's receipts root. Height and leaf together name an entry for ever,
and alike on every node: what a client has heard of one it need not hear of another.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Final, NamedTuple

from engine.block import BlockOutput
from engine.receipts import (
    AuctionEvent,
    DeadManEvent,
    DeleverageEvent,
    DepositEvent,
    Event,
    ExpiryEvent,
    Fill,
    FundingEvent,
    FundingPaidEvent,
    LiquidationEvent,
    OrderEvent,
    SeriesListedEvent,
    SessionEvent,
    SettlementEvent,
    SliceEvent,
    TransferEvent,
    WakeEvent,
    WithdrawalEvent,
)
from node.plain import to_plain


class Kind(NamedTuple):
    """One kind of entry."""

    name: str
    concerns: tuple[str, ...]
    """Fields that name accounts which hear of it; none: it is about a market."""


KINDS: Final[dict[type, Kind]] = {
    Fill: Kind("fill", ("maker", "taker")),
    OrderEvent: Kind("order", ("owner",)),
    WakeEvent: Kind("wake", ("owner",)),
    DeadManEvent: Kind("dead_man", ("account",)),
    DepositEvent: Kind("deposit", ("account",)),
    WithdrawalEvent: Kind("withdrawal", ("account",)),
    TransferEvent: Kind("transfer", ("source", "target")),
    SessionEvent: Kind("session", ("account",)),
    FundingPaidEvent: Kind("funding", ("account",)),
    SettlementEvent: Kind("settlement", ("account",)),
    LiquidationEvent: Kind("liquidation", ("account",)),
    AuctionEvent: Kind("auction", ("account", "bidder")),
    SliceEvent: Kind("slice", ("account", "bidder")),
    DeleverageEvent: Kind("deleverage", ("account", "counterparty")),
    FundingEvent: Kind("funding_rate", ()),
    SeriesListedEvent: Kind("series_listed", ()),
    ExpiryEvent: Kind("expiry", ()),
}
"""Every kind of fill and event."""


def list_concerned(entry: Fill | Event) -> tuple[bytes, ...]:
    """The accounts that an entry is about, each once."""
    fields = KINDS[type(entry)].concerns
    return tuple(dict.fromkeys(getattr(entry, field) for field in fields))


def describe_entries(
    output: BlockOutput, is_wanted: Callable[[bytes], bool]
) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """(account, entry) of those accounts of a block that are wanted, in the order of leaves."""
    entries: Iterator[Fill | Event] = chain(output.fills, output.events)
    for leaf, entry in enumerate(entries, len(output.receipts)):
        for account in list_concerned(entry):
            if is_wanted(account):
                yield account, {"kind": KINDS[type(entry)].name, "leaf": leaf, **to_plain(entry)}
