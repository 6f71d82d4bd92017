"""Handing an instruction in, following it to its certified result, and telling it in words."""

import time
from collections.abc import Awaitable, Callable
from fractions import Fraction
from typing import Any, Final, NamedTuple

import trio

from crypto.codec import encode
from engine.accounts.sub_accounts import compute_account_id
from engine.instructions import Amend, Instruction, MarketOrder, OnBehalf, PlaceOrder
from engine.receipts import ReasonCode
from engine.refusals import REFUSALS
from mempool.envelope import BodyKind
from mempool.keys import KeyChange, KeyChanges
from node.cli.amounts import format_fee, format_price, format_quote, format_size
from node.cli.margin_hint import describe_missing
from node.cli.output import DetailedError, Output
from node.cli.reasons import explain
from node.cli.target import Identity
from node.cli.views import (
    MarketInfo,
    ReceiptInfo,
    query_account,
    query_market,
    query_markets,
    read_view,
)
from node.client import DoorClient, Subscription
from node.client_stream import DoorError
from node.envelopes import EnvelopeFactory, SignedEnvelope
from node.exit_codes import ExitCode, OperatorError
from node.protocol import Channel, ReceiptEvent, ReceiptLevel

EXPIRY_AHEAD_HEIGHTS: Final = 500
"""An order that is not ordered within so many blocks never will be: it cannot turn up later."""


class Executed(NamedTuple):
    """What became of an instruction, and where more can be asked about it."""

    receipt: ReceiptInfo
    height: int
    client: DoorClient


Teller = Callable[[Executed], Awaitable[tuple[dict[str, object], str]]]
"""What a command adds to the document and to the words about its receipt."""


class RejectedError(OperatorError):
    """The protocol or the engine refused; `code` is the reason."""

    code = "order.rejected"
    exit_code = ExitCode.REJECTED


class TimedOutError(DetailedError):
    """The network did not answer in time; what becomes of the order is open."""

    code = "order.timeout"
    exit_code = ExitCode.TIMED_OUT


async def submit_instruction(
    client: DoorClient,
    identity: Identity,
    instruction: Instruction,
    market: MarketInfo | None,
    output: Output,
    timeout_s: float,
    follow_up: str,
    tell: Teller | None = None,
    noun: str = "order",
) -> int:
    """Sign, submit, follow to the certified result and print it, in the units of `market`; return
    its height.

    `noun` is what the number in the receipt numbers.
    `follow_up`, with the envelope's id behind it, is the command that asks for it later.

    Raises `RejectedError`, or `TimedOutError` when the result does not come in time.
    """
    welcome = client.welcome
    factory = EnvelopeFactory(identity.secret, welcome.chain_id, account=identity.account)
    envelope = factory.sign([instruction], welcome.committed_height + EXPIRY_AHEAD_HEIGHTS)
    events = await client.subscribe(Channel.RECEIPTS, identity.account)
    levels: list[dict[str, Any]] = []
    with trio.move_on_after(timeout_s):
        answer = await _follow(client, events, envelope, levels, output)
        receipt = read_view(ReceiptInfo, answer, "receipt")
        document = {
            "envelope_id": envelope.envelope_id,
            "account": identity.account,
            "node": welcome.node,
            "levels": levels,
            "receipt": answer,
        }
        if receipt.status == "refused":
            # An amend that names its order failed before it touched it.
            asked = instruction.instruction if isinstance(instruction, OnBehalf) else instruction
            is_cancelled = isinstance(asked, Amend) and not receipt.order_id
            is_cancelled = is_cancelled and receipt.code in REFUSALS[PlaceOrder]
            sub = instruction.sub if isinstance(instruction, OnBehalf) else 0
            account = compute_account_id(identity.account, sub)
            raise await _engine_refusal(
                client, receipt.code, market, account, asked, is_cancelled=is_cancelled
            )
        height = int(levels[-1]["height"])
        more, words = ({}, "") if tell is None else await tell(Executed(receipt, height, client))
        lines = [describe_outcome(receipt, market, noun), *([words] if words else [])]
        output.data({**document, **more}, *lines, f"envelope {envelope.envelope_id.hex()}")
        return height
    raise TimedOutError(
        f"no certified result within {timeout_s:g} s",
        advice=f"it may still come: {follow_up}{envelope.envelope_id.hex()}",
        details={"envelope_id": envelope.envelope_id},
    )


async def submit_keys(
    client: DoorClient,
    identity: Identity,
    changes: tuple[KeyChange, ...],
    output: Output,
    timeout_s: float,
) -> tuple[dict[str, Any], int]:
    """Hand in changes of session keys, which take effect where they are ordered; return what can
    be said of them, and the height.

    Raises `RejectedError`, or `TimedOutError` when they are not ordered in time.
    """
    welcome = client.welcome
    factory = EnvelopeFactory(identity.secret, welcome.chain_id)
    expiry = welcome.committed_height + EXPIRY_AHEAD_HEIGHTS
    body = encode(KeyChanges(changes))
    envelope = factory.sign_body(body, expiry, kind=BodyKind.KEYS)
    events = await client.subscribe(Channel.RECEIPTS, identity.account)
    levels: list[dict[str, Any]] = []
    with trio.move_on_after(timeout_s):
        await _follow(client, events, envelope, levels, output, until=ReceiptLevel.ORDERED)
        document = {
            "envelope_id": envelope.envelope_id,
            "account": identity.account,
            "node": welcome.node,
            "levels": levels,
        }
        return document, levels[-1]["height"]
    raise TimedOutError(
        f"not ordered within {timeout_s:g} s",
        advice="it may still come: see the account's session keys with `rota account show`",
        details={"envelope_id": envelope.envelope_id},
    )


async def _follow(
    client: DoorClient,
    events: Subscription,
    envelope: SignedEnvelope,
    levels: list[dict[str, Any]],
    output: Output,
    until: ReceiptLevel = ReceiptLevel.EXECUTED,
) -> dict[str, Any]:
    """Submit one envelope of one instruction and return its receipt; note levels on the way. Where
    an earlier level will do there is no receipt."""
    sent_at = time.perf_counter()

    def note(level: ReceiptLevel, height: int) -> None:
        latency_ms = round((time.perf_counter() - sent_at) * 1000, 1)
        levels.append({"level": level.value, "height": height, "latency_ms": latency_ms})
        place = f"at height {height}" if height else ""
        output.note(f"{level.value:10} {latency_ms:8.1f} ms  {place}".rstrip())

    (answer,) = await client.submit([envelope.data])
    if answer.code is not None:
        reason = explain(answer.code)
        raise RejectedError(
            f"the node refused the envelope: {reason.meaning}",
            advice=f"nothing was sent on; {reason.advice}",
            code=answer.code,
        )
    note(ReceiptLevel.RECEIVED, 0)
    while True:
        event = await events.receive()
        assert isinstance(event, ReceiptEvent)
        if event.envelope_id != envelope.envelope_id or event.level is ReceiptLevel.RECEIVED:
            continue
        note(event.level, event.height)
        if event.level is ReceiptLevel.REFUSED:
            code = event.code or "envelope.refused"
            reason = explain(code)
            raise RejectedError(
                f"refused when it was ordered: {reason.meaning}",
                advice=f"nothing was executed; {reason.advice}",
                code=code,
            )
        if until is not ReceiptLevel.EXECUTED and event.level.rank >= until.rank:
            return {}
        if event.level is ReceiptLevel.EXECUTED:
            receipts = read_view(list[dict[str, Any]], event.results, "receipts")
            if len(receipts) != 1:
                raise DoorError("door.malformed", f"{len(receipts)} receipts for one instruction")
            return receipts[0]


_MARGIN_CODES: Final = frozenset(
    {ReasonCode.MARGIN_INSUFFICIENT, ReasonCode.COLLATERAL_INSUFFICIENT}
)


async def _engine_refusal(
    client: DoorClient,
    code: str,
    market: MarketInfo | None,
    account: bytes,
    order: Instruction | None = None,
    *,
    is_cancelled: bool = False,
) -> RejectedError:
    """The engine's refusal in words; one for the price band says where the band is now, one for
    margin what the account has, and what an order would have needed."""
    reason = explain(code)
    meaning, advice = reason.meaning, reason.advice
    if code == ReasonCode.ORDER_PRICE_BAND and market is not None:
        now = await query_market(client, market.symbol)
        low, high = (format_price(each, now) for each in (now.band_low_ticks, now.band_high_ticks))
        meaning += f": {market.symbol} takes {low} to {high} at this moment"
        advice = f"choose a price from {low} to {high}"
    if code in _MARGIN_CODES:
        _, view = await query_account(client, account)
        equity, margin = view.equity_microquote, view.initial_margin_microquote
        meaning += f": equity {format_quote(equity)}, initial margin now {format_quote(margin)}"
        if isinstance(order, PlaceOrder | MarketOrder):
            markets = {each.market: each for each in await query_markets(client)}
            meaning += describe_missing(order, view, markets)
    changed = "the old order is cancelled" if is_cancelled else "nothing was changed"
    return RejectedError(
        f"the engine refused it: {meaning}", advice=f"{changed}; {advice}", code=code
    )


def describe_outcome(receipt: ReceiptInfo, market: MarketInfo | None, noun: str = "order") -> str:
    """A receipt in words. A receipt does not name its market: without it sizes are in lots."""
    is_remainder = receipt.code == ReasonCode.ORDER_IOC_REMAINDER
    if is_remainder and not receipt.filled_lots:
        words = ["nothing filled; remainder cancelled"]
    else:
        words = [receipt.status.replace("_", " ")]
    if receipt.status == "cancelled" and not receipt.cancelled_count and not receipt.order_id:
        words = ["there was no order to cancel"]
    elif receipt.cancelled_count:
        words.append(f"{receipt.cancelled_count} order{'s' * (receipt.cancelled_count > 1)}")
    elif receipt.order_id:
        words.append(f"{noun} {receipt.order_id}")
    if receipt.filled_lots:
        notional = receipt.filled_notional_microquote
        if market is None:
            words.append(f"filled {receipt.filled_lots} lots for {format_quote(notional)}")
        else:
            average = Fraction(notional, receipt.filled_lots * market.unit_microquote)
            price = format_price(round(average), market)
            words.append(f"filled {format_size(receipt.filled_lots, market)} at about {price}")
        words.append(f"fee {format_fee(receipt.fee_microquote)}")
    if receipt.resting_lots:
        size = receipt.resting_lots
        words.append(f"resting {f'{size} lots' if market is None else format_size(size, market)}")
    if is_remainder and receipt.filled_lots:
        words.append("remainder cancelled")
    elif receipt.code != ReasonCode.OK and not is_remainder:
        words.append(f"{explain(receipt.code).meaning} [{receipt.code}]")
    return ", ".join(words)
