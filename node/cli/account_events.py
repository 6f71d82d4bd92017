"""What befell an account, in words: one line an entry of its stream (`node.account_events`)."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final, TypeVar

from msgspec import Struct

from engine.receipts import ReasonCode
from mempool.ledger import KEY_ACTIVATION_DELAY_HEIGHTS
from node.cli.amounts import format_fee, format_percent, format_price, format_quote, format_size
from node.cli.output import encode_json
from node.cli.reasons import explain
from node.cli.views import MarketInfo, read_view

E = TypeVar("E", bound=Struct)


class Reader(Struct, frozen=True):
    """Whose eyes entries are told for, and what the numbers in them mean."""

    account: bytes
    markets: Mapping[int, MarketInfo]
    names: Mapping[bytes, str]

    def name(self, account: bytes) -> str:
        """Another account: its name in the localnet, or the first digits of its id."""
        return self.names.get(account) or account.hex()[:16]

    def size(self, market: int, lots: int) -> str:
        """A size; in lots where the market is gone."""
        found = self.markets.get(market)
        return f"{lots} lots" if found is None else format_size(lots, found)

    def price(self, market: int, ticks: int) -> str:
        """A price; in ticks where the market is gone."""
        found = self.markets.get(market)
        return f"{ticks} ticks" if found is None else format_price(ticks, found)


class FillEntry(Struct, frozen=True):
    """A trade."""

    market: int
    price_ticks: int
    size_lots: int
    taker_side: str
    maker_order_id: int
    taker_order_id: int
    taker: bytes
    maker_fee_microquote: int
    taker_fee_microquote: int
    maker_resting_lots: int


class OrderEntry(Struct, frozen=True):
    """An order shrank or ended."""

    market: int
    order_id: int
    client_id: int
    code: str
    removed_lots: int
    resting_lots: int


class WakeEntry(Struct, frozen=True):
    """A waiting order acted."""

    market: int
    order_id: int
    client_id: int
    status: str
    code: str
    placed_order_id: int
    filled_lots: int
    resting_lots: int
    filled_notional_microquote: int
    fee_microquote: int
    waiting_lots: int


class DeadManEntry(Struct, frozen=True):
    """A dead man's switch fired."""

    cancelled_count: int


class DepositEntry(Struct, frozen=True):
    """Collateral arrived."""

    amount_microquote: int
    credited: bool


class WithdrawalEntry(Struct, frozen=True):
    """A withdrawal came to be or came to its end."""

    withdrawal_id: int
    destination: bytes
    amount_microquote: int
    state: str


class TransferEntry(Struct, frozen=True):
    """Collateral went from one account to another."""

    source: bytes
    target: bytes
    amount_microquote: int


class SessionEntry(Struct, frozen=True):
    """A session key came or went."""

    height: int
    key: bytes
    state: str


class FundingEntry(Struct, frozen=True):
    """Funding was booked."""

    amount_microquote: int


class SettlementEntry(Struct, frozen=True):
    """An option expired."""

    market: int
    size_lots: int
    amount_microquote: int


class LiquidationEntry(Struct, frozen=True):
    """A step of a liquidation."""

    step: str
    equity_microquote: int
    maintenance_margin_microquote: int
    market: int
    lots: int
    notional_microquote: int
    insurance_microquote: int


class AuctionEntry(Struct, frozen=True):
    """A slice was sold."""

    account: bytes
    bidder: bytes
    part_ppm: int
    premium_microquote: int
    insurance_microquote: int


class SliceEntry(Struct, frozen=True):
    """Lots of a slice."""

    market: int
    account: bytes
    bidder: bytes
    size_lots: int
    paid_microquote: int


class DeleverageEntry(Struct, frozen=True):
    """A position was closed against another's."""

    market: int
    account: bytes
    counterparty: bytes
    size_lots: int
    paid_microquote: int


def describe_entry(entry: dict[str, Any], reader: Reader) -> str:
    """An entry in words; one of a kind that this version does not know as it is. Raises
    `DoorError`."""
    told = _TELLERS.get(entry["kind"])
    if told is None:
        return encode_json({key: value for key, value in entry.items() if key != "kind"})
    type_, tell = told
    return tell(read_view(type_, entry, "events"), reader)


def _fill(entry: FillEntry, reader: Reader) -> str:
    is_taker = entry.taker == reader.account
    is_buyer = (entry.taker_side == "buy") == is_taker
    size = reader.size(entry.market, entry.size_lots)
    price = reader.price(entry.market, entry.price_ticks)
    words = f"{'bought' if is_buyer else 'sold'} {size} at {price}"
    if is_taker:
        fee = entry.taker_fee_microquote
        return f"{words} as taker, order {entry.taker_order_id}, fee {format_fee(fee)}"
    words += (
        f" as maker, order {entry.maker_order_id}, fee {format_fee(entry.maker_fee_microquote)}"
    )
    left = entry.maker_resting_lots
    return f"{words}, {reader.size(entry.market, left)} left" if left else f"{words}, all done"


def _name_order(order_id: int, client_id: int) -> str:
    return f"order {order_id} (client id {client_id})" if client_id else f"order {order_id}"


def _order(entry: OrderEntry, reader: Reader) -> str:
    name = _name_order(entry.order_id, entry.client_id)
    gone = reader.size(entry.market, entry.removed_lots)
    left = f", {reader.size(entry.market, entry.resting_lots)} left" if entry.resting_lots else ""
    verb = "shrank by" if entry.resting_lots else "ended with"
    rest = "" if entry.resting_lots else " untraded"
    return f"{name} {verb} {gone}{rest}{left}: {explain(entry.code).meaning} [{entry.code}]"


def _wake(entry: WakeEntry, reader: Reader) -> str:
    words = [
        f"{_name_order(entry.order_id, entry.client_id)} woke: {entry.status.replace('_', ' ')}"
    ]
    if entry.placed_order_id and entry.placed_order_id != entry.order_id:
        words.append(f"as order {entry.placed_order_id}")
    if entry.filled_lots:
        filled = reader.size(entry.market, entry.filled_lots)
        words.append(f"filled {filled} for {format_quote(entry.filled_notional_microquote)}")
        words.append(f"fee {format_fee(entry.fee_microquote)}")
    if entry.resting_lots:
        words.append(f"resting {reader.size(entry.market, entry.resting_lots)}")
    if entry.waiting_lots:
        words.append(f"{reader.size(entry.market, entry.waiting_lots)} left for later slices")
    if entry.code != ReasonCode.OK:
        words.append(f"{explain(entry.code).meaning} [{entry.code}]")
    return ", ".join(words)


def _dead_man(entry: DeadManEntry, _: Reader) -> str:
    count = entry.cancelled_count
    return f"the dead man's switch cancelled {count} order{'s' * (count != 1)}"


def _deposit(entry: DepositEntry, _: Reader) -> str:
    held = "" if entry.credited else ", held back: all deposits together are at their bound"
    return f"{format_quote(entry.amount_microquote)} arrived{held}"


def _withdrawal(entry: WithdrawalEntry, _: Reader) -> str:
    amount = format_quote(entry.amount_microquote)
    number = entry.withdrawal_id
    return f"withdrawal {number} of {amount} to 0x{entry.destination.hex()}: {entry.state}"


def _transfer(entry: TransferEntry, reader: Reader) -> str:
    amount = format_quote(entry.amount_microquote)
    if entry.source == reader.account:
        return f"gave {amount} to {reader.name(entry.target)}"
    return f"received {amount} from {reader.name(entry.source)}"


def _session(entry: SessionEntry, _: Reader) -> str:
    words = f"session key {entry.key.hex()} {entry.state}"
    if entry.state != "authorised":
        return words
    return f"{words}, in force from height {entry.height + KEY_ACTIVATION_DELAY_HEIGHTS}"


def _say_payment(amount_microquote: int) -> str:
    verb = "received" if amount_microquote >= 0 else "paid"
    return f"{verb} {format_quote(abs(amount_microquote))}"


def _funding(entry: FundingEntry, _: Reader) -> str:
    return f"{_say_payment(entry.amount_microquote)} of funding, of all markets"


def _settlement(entry: SettlementEntry, reader: Reader) -> str:
    size = reader.size(entry.market, entry.size_lots)
    return f"a position of {size} expired: {_say_payment(entry.amount_microquote)}"


_STEPS: Final = {
    "begun": "below its maintenance margin: all orders are cancelled and positions closed",
    "closed": "closed",
    "auctioned": "slices of all that it has are for sale",
    "insolvent": "no equity is left: the insurance fund pays who takes slices",
    "covered": "its debt was paid for it",
    "ended": "it covers its maintenance margin again",
}


def _liquidation(entry: LiquidationEntry, reader: Reader) -> str:
    words = _STEPS.get(entry.step, entry.step)
    if entry.step == "closed":
        size = reader.size(entry.market, abs(entry.lots))
        words = f"{'sold' if entry.lots < 0 else 'bought'} {size} to close"
        words += f", worth {format_quote(entry.notional_microquote)}"
    if entry.insurance_microquote:
        verb = "received" if entry.insurance_microquote > 0 else "paid"
        words += f", the insurance fund {verb} {format_quote(abs(entry.insurance_microquote))}"
    equity = format_quote(entry.equity_microquote)
    needed = format_quote(entry.maintenance_margin_microquote)
    return f"{words}; equity {equity}, maintenance margin {needed}"


def _auction(entry: AuctionEntry, reader: Reader) -> str:
    part = format_percent(entry.part_ppm)
    premium = format_quote(entry.premium_microquote)
    if entry.bidder == reader.account:
        return f"took {part} of {reader.name(entry.account)} for a premium of {premium}"
    words = f"{reader.name(entry.bidder)} took {part} of it all for a premium of {premium}"
    if entry.insurance_microquote:
        words += f", of which the insurance fund paid {format_quote(entry.insurance_microquote)}"
    return words


def _say_change(market: int, lots: int, paid_microquote: int, other: bytes, reader: Reader) -> str:
    """A position that changed outside of the book; `paid_microquote` by whoever gained lots."""
    size = reader.size(market, abs(lots))
    direction = "up" if lots > 0 else "down"
    found = reader.markets.get(market)
    price = ""
    if found is not None and lots:
        ticks = Fraction(paid_microquote, lots * found.unit_microquote)
        price = f" at about {format_price(round(ticks), found)}"
    payment = _say_payment(-paid_microquote)
    return f"position {direction} by {size}{price}, {payment}, with {reader.name(other)}"


def _slice(entry: SliceEntry, reader: Reader) -> str:
    if entry.bidder == reader.account:
        lots, paid, other = entry.size_lots, entry.paid_microquote, entry.account
    else:
        lots, paid, other = -entry.size_lots, -entry.paid_microquote, entry.bidder
    return _say_change(entry.market, lots, paid, other, reader)


def _deleverage(entry: DeleverageEntry, reader: Reader) -> str:
    if entry.counterparty == reader.account:
        lots, paid, other = entry.size_lots, entry.paid_microquote, entry.account
    else:
        lots, paid, other = -entry.size_lots, -entry.paid_microquote, entry.counterparty
    return f"deleveraged: {_say_change(entry.market, lots, paid, other, reader)}"


_TELLERS: Final[dict[str, tuple[type[Any], Callable[[Any, Reader], str]]]] = {
    "fill": (FillEntry, _fill),
    "order": (OrderEntry, _order),
    "wake": (WakeEntry, _wake),
    "dead_man": (DeadManEntry, _dead_man),
    "deposit": (DepositEntry, _deposit),
    "withdrawal": (WithdrawalEntry, _withdrawal),
    "transfer": (TransferEntry, _transfer),
    "session": (SessionEntry, _session),
    "funding": (FundingEntry, _funding),
    "settlement": (SettlementEntry, _settlement),
    "liquidation": (LiquidationEntry, _liquidation),
    "auction": (AuctionEntry, _auction),
    "slice": (SliceEntry, _slice),
    "deleverage": (DeleverageEntry, _deleverage),
}
