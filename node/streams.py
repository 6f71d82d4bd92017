"""What clients hear: blocks, certified results, trades and receipts, in order, without gaps.

Results are told only once a quorum has certified them and this node's own root agrees; until then
the engine's output waits here, one entry a height, bounded by how far execution may run ahead of
certificates. What is not here when it is certified, because it made room or was executed in an
earlier life of the node, is in the archive: whoever watches an account is told which heights.
"""

from collections import deque
from functools import partial
from typing import Any, Final

from msgspec import Raw
from msgspec.structs import asdict

from crypto.codec import decode, encode
from engine.block import BlockOutput
from engine.instructions import Side
from engine.receipts import Fill, Receipt
from node.account_events import describe_entries
from node.door import Door
from node.events import (
    BlockNotice,
    CertifiedNotice,
    DeliveredNotice,
    OpaqueReply,
    ReceiptUpdate,
    SubmitReply,
)
from node.plain import to_plain
from node.protocol import (
    AccountEvents,
    AccountEventsMissed,
    BlockEvent,
    Channel,
    DeliveredEvent,
    ExecutedEvent,
    OpaqueSubmitted,
    ReceiptEvent,
    ReceiptLevel,
    Submitted,
    TradeEvent,
)

RECENT_TRADES_MAX: Final = 2_000
"""Certified trades that the `trades` query can reach back to."""

UNCERTIFIED_OUTPUTS_MAX: Final = 4_096
"""Outputs that wait for a certificate; the oldest are dropped from the streams (never from the
archive) when certificates stay away for longer."""

UNCERTIFIED_OUTPUTS_MAX_BYTES: Final = 128 << 20
"""Their bytes together; likewise."""

EVENTS_PER_FRAME_MAX: Final = 1_000
"""Entries in one `AccountEvents`: some hundred bytes each, far below what a client takes."""


_SIDES: Final = {side: to_plain(side) for side in Side}


def describe_receipts(receipts: list[Receipt]) -> bytes:
    """Receipts as a MessagePack list of maps, by index in the bundle."""
    ordered = sorted(receipts, key=lambda receipt: receipt.index)
    return encode([to_plain(receipt) for receipt in ordered])


def describe_trade(height: int, fill: Fill) -> dict[str, Any]:
    """A certified trade as a map: `to_plain` for a struct that a block may have in masses."""
    return {"height": height, **asdict(fill), "taker_side": _SIDES[fill.taker_side]}


class Streams:
    """Turns the core's notices into the door's events."""

    def __init__(self, door: Door, missed: tuple[int, int] | None = None) -> None:
        """`missed` are the first and the last height that an earlier life of the node executed and
        did not see certified."""
        self._door = door
        self._missed = missed
        """Heights that were executed and cannot be told once they are certified."""
        self._outputs: dict[int, bytes] = {}
        """Of uncertified heights, rising."""
        self._outputs_bytes = 0
        self._certified_receipts: dict[bytes, list[Receipt]] = {}
        self.recent_fills: deque[tuple[int, Fill]] = deque(maxlen=RECENT_TRADES_MAX)
        """Of certified heights, oldest first."""

    # ---- answers ----------------------------------------------------------------------------

    def on_submit_reply(self, reply: SubmitReply) -> None:
        """Answer a client's envelopes."""
        self._door.reply(reply.source, Submitted(reply.request, reply.results))

    def on_opaque_reply(self, reply: OpaqueReply) -> None:
        """Answer a client's opaque transactions."""
        self._door.reply(reply.source, OpaqueSubmitted(reply.request, reply.count, reply.code))

    # ---- blocks -----------------------------------------------------------------------------

    def on_block(self, notice: BlockNotice) -> None:
        """A block was committed."""
        block = notice.block
        self._door.publish(
            Channel.BLOCKS,
            lambda subscription, sequence: BlockEvent(
                subscription,
                sequence,
                block.height,
                block.view,
                notice.block_id,
                block.author,
                block.time_ms,
                len(block.lanes),
            ),
        )

    def on_delivered(self, notice: DeliveredNotice) -> None:
        """A block's contents are complete here."""
        opaque = {namespace: count for namespace, count, _ in notice.opaque}
        self._door.publish(
            Channel.BLOCKS,
            lambda subscription, sequence: DeliveredEvent(
                subscription, sequence, notice.height, notice.envelopes, notice.refused, opaque
            ),
        )

    # ---- results ----------------------------------------------------------------------------

    def on_output(self, height: int, output: bytes) -> None:
        """The engine executed a height with instructions; nothing is told yet."""
        assert height not in self._outputs, "a height is executed once"
        self._outputs[height] = output
        self._outputs_bytes += len(output)
        while (
            len(self._outputs) > UNCERTIFIED_OUTPUTS_MAX
            or self._outputs_bytes > UNCERTIFIED_OUTPUTS_MAX_BYTES
        ):
            dropped, _ = self._take_oldest()
            self._missed = (dropped if self._missed is None else self._missed[0], dropped)

    def _take_oldest(self) -> tuple[int, bytes]:
        height = next(iter(self._outputs))
        output = self._outputs.pop(height)
        self._outputs_bytes -= len(output)
        return height, output

    def on_certified(self, notice: CertifiedNotice) -> None:
        """Everything up to a height is certified: tell trades and results."""
        self._certified_receipts = {}
        self._publish_missed(notice.certificate.header.height)
        for header in notice.own:
            instructions = fills = 0
            while self._outputs and next(iter(self._outputs)) <= header.height:
                height, encoded = self._take_oldest()
                output = decode(BlockOutput, encoded)
                instructions += len(output.receipts)
                fills += len(output.fills)
                self._publish_output(height, output)
            self._door.publish(
                Channel.BLOCKS,
                lambda subscription, sequence, header=header, counts=(instructions, fills): (  # type: ignore[misc]  # defaults bind the loop's values
                    ExecutedEvent(subscription, sequence, header.height, header.state_root, *counts)
                ),
            )

    def _publish_missed(self, certified_height: int) -> None:
        if self._missed is None or self._missed[1] > certified_height:
            return
        first, last = self._missed
        self._missed = None
        self._door.publish(
            Channel.ACCOUNT,
            lambda subscription, sequence: AccountEventsMissed(subscription, sequence, first, last),
        )

    def _publish_output(self, height: int, output: BlockOutput) -> None:
        """Tell what somebody hears. A block may have a hundred thousand trades, and this is where
        votes are made: what nobody hears is not described."""
        newest = output.fills[-RECENT_TRADES_MAX:]
        self.recent_fills.extend((height, fill) for fill in newest)
        for fill in output.fills:
            # Who cannot keep up is cut off meanwhile, so there may be nobody left.
            if not self._door.has_subscribers(Channel.TRADES):
                break
            raw = Raw(encode(describe_trade(height, fill)))
            self._door.publish(
                Channel.TRADES,
                lambda subscription, sequence, raw=raw: TradeEvent(  # type: ignore[misc]  # as above
                    subscription, sequence, height, raw
                ),
            )
        if self._door.has_subscribers(Channel.ACCOUNT):
            self._publish_account_events(height, output)
        if self._door.has_subscribers(Channel.RECEIPTS):
            for receipt in output.receipts:
                self._certified_receipts.setdefault(receipt.envelope_id, []).append(receipt)

    def _publish_account_events(self, height: int, output: BlockOutput) -> None:
        told: dict[bytes, list[dict[str, Any]]] = {}
        watched = partial(self._door.is_watched, Channel.ACCOUNT)
        for account, entry in describe_entries(output, watched):
            told.setdefault(account, []).append(entry)
        for account, entries in told.items():
            for start in range(0, len(entries), EVENTS_PER_FRAME_MAX):
                raw = Raw(encode(entries[start : start + EVENTS_PER_FRAME_MAX]))
                self._door.publish_to(
                    Channel.ACCOUNT,
                    account,
                    lambda subscription, sequence, raw=raw: AccountEvents(  # type: ignore[misc]  # defaults bind the loop's values
                        subscription, sequence, height, raw
                    ),
                )

    def on_receipt(self, update: ReceiptUpdate) -> None:
        """An envelope reached a level; `executed` comes right after the certificate's notice."""
        if not self._door.is_watched(Channel.RECEIPTS, update.account):
            return
        results: Raw | None = None
        if update.level is ReceiptLevel.EXECUTED:
            receipts = self._certified_receipts.get(update.envelope_id)
            results = Raw(describe_receipts(receipts)) if receipts is not None else None
        self._door.publish_to(
            Channel.RECEIPTS,
            update.account,
            lambda subscription, sequence: ReceiptEvent(
                subscription,
                sequence,
                update.envelope_id,
                update.level,
                update.height,
                update.code,
                results,
            ),
        )
