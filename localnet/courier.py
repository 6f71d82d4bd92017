"""Brings envelopes into the order whatever happens to single nodes, and follows their receipts.

A courier keeps one connection to one node's door. When that connection ends, or goes quiet for too
long, it turns to the next node, subscribes again and hands in everything that has
no final receipt yet, as the same bytes: an envelope counts once, so that is always safe. What the
first node had passed on already is then refused as a duplicate nonce, and the courier asks what
became of it.

In flight at most `IN_FLIGHT_MAX` envelopes wait for their executed receipts; `send` waits for room.
That is the back-pressure: nobody produces faster than the cluster certifies results.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

from engine.instructions import Instruction
from engine.receipts import Receipt
from mempool.refusal import RefusalCode
from node.client import DoorClient, Subscription
from node.client_stream import DoorError
from node.config import Endpoint
from node.envelopes import EnvelopeFactory, SignedEnvelope, convert_receipts, split_for_door
from node.protocol import BlockEvent, Channel, ReceiptEvent, ReceiptLevel, SubmitResult

IN_FLIGHT_MAX: Final = 64
"""Envelopes of one courier without a final receipt; below one key's nonce window, so that an
envelope which comes late is never refused as too low."""

EXPIRY_AHEAD_HEIGHTS: Final = 4_096
"""Envelopes expire this many heights after the newest that the courier knows of."""

QUIET_MAX_S: Final = 8.0
"""A connection without any event for this long is given up; even an idle chain makes blocks."""

CONNECT_TIMEOUT_S: Final = 3.0
"""Deadline of connecting and of each request."""

RECONNECT_DELAY_S: Final = 0.2
RECONNECT_DELAY_MAX_S: Final = 2.0
"""Between a lost connection and the next attempt; doubles while nobody answers, up to the limit."""

RETRY_DELAY_S: Final = 0.1
"""Before envelopes that a full pool refused are handed in again."""

EXPIRY_GRACE_HEIGHTS: Final = 64
"""This many heights past its expiry, an envelope that was not ordered never will be."""

TRANSIENT_REFUSALS: Final = frozenset({RefusalCode.POOL_FULL, RefusalCode.SENDER_FULL})
"""Refusals that say nothing about the envelope: hand it in again."""

DUPLICATE_REFUSALS: Final = frozenset(
    {RefusalCode.NONCE_DUPLICATE, RefusalCode.NONCE_TOO_LOW, RefusalCode.EXPIRED}
)
"""Refusals of an envelope that may have been ordered already: ask what became of it."""

PENDING: Final = RefusalCode.ENVELOPE_PENDING
"""The node has it already and will order it: as good as received."""


class Ticket:
    """One envelope on its way. `ordered` and `done` are set at the latest when it fails."""

    def __init__(self, envelope: SignedEnvelope, instructions: Sequence[Instruction]) -> None:
        self.envelope = envelope
        self.instructions = tuple(instructions)
        self.sent_at = time.monotonic()
        self.expiry_height = 0
        self.ordered = trio.Event()
        """The envelope has its place in the order, or failed."""
        self.done = trio.Event()
        """The envelope has its certified result, or failed."""
        self.refusal: str | None = None
        """Why the envelope as a whole failed."""
        self.receipts: tuple[Receipt, ...] = ()
        """The engine's answers, one an instruction; empty if it failed."""
        self.ordered_after_ms: float | None = None
        self.executed_after_ms: float | None = None

    def _elapsed_ms(self) -> float:
        return round((time.monotonic() - self.sent_at) * 1_000, 2)

    def apply_ordered(self) -> None:
        """The envelope is in a committed block."""
        if not self.ordered.is_set():
            self.ordered_after_ms = self._elapsed_ms()
            self.ordered.set()

    def apply_executed(self, receipts: tuple[Receipt, ...]) -> None:
        """The result is certified."""
        self.apply_ordered()
        if not self.done.is_set():
            self.executed_after_ms = self._elapsed_ms()
            self.receipts = receipts
            self.done.set()

    def apply_refused(self, code: str) -> None:
        """The envelope will never be executed."""
        if not self.done.is_set():
            self.refusal = code
            self.ordered.set()
            self.done.set()


class Courier:
    """Delivers the envelopes of some accounts through whichever node answers. `run` is its task."""

    def __init__(
        self,
        doors: Sequence[Endpoint],
        accounts: Sequence[bytes],
        *,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`doors` are tried in turn, the first one first; `note` hears why one was left."""
        assert doors
        self._note = note
        self._doors = tuple(doors)
        self._accounts = tuple(accounts)
        self._turn = 0
        self._tickets: dict[bytes, Ticket] = {}
        self._room = trio.Semaphore(IN_FLIGHT_MAX)
        self._waiting: dict[bytes, Ticket] = {}
        # Tickets to be handed in on this connection, oldest first.
        self._wake = trio.Event()
        self._last_event_at = 0.0
        self._known = trio.Event()
        self._client: DoorClient | None = None
        self.committed_height = 0
        """The newest height that any node announced."""
        self.reconnects = 0

    # ---- what others call ------------------------------------------------------------------

    async def send(self, factory: EnvelopeFactory, instructions: Sequence[Instruction]) -> Ticket:
        """Sign a bundle and take charge of it; waits while too many are in flight."""
        await self._room.acquire()
        await self._known.wait()
        expiry_height = self.committed_height + EXPIRY_AHEAD_HEIGHTS
        envelope = factory.sign(instructions, expiry_height)
        ticket = Ticket(envelope, instructions)
        ticket.expiry_height = expiry_height
        self._tickets[envelope.envelope_id] = ticket
        self._enqueue([ticket])
        return ticket

    def abandon(self, ticket: Ticket) -> None:
        """Stop caring for an envelope; it may still be executed."""
        self._settle(ticket)
        ticket.apply_refused("courier.abandoned")

    async def query(self, name: str, *arguments: object) -> Any:
        """Ask the node of this moment for a view. Raises `DoorError`."""
        client = self._client
        if client is None:
            raise DoorError("door.closed", "not connected at this moment")
        return await client.query(name, *arguments)

    @property
    def in_flight(self) -> int:
        """Envelopes without a final receipt."""
        return len(self._tickets)

    # ---- one connection after the other ----------------------------------------------------

    async def run(self) -> None:
        """Deliver until cancelled."""
        delay_s = RECONNECT_DELAY_S
        noted: set[str] = set()
        while True:
            door = self._doors[self._turn % len(self._doors)]
            try:
                async with DoorClient.connect(
                    door.host, door.port, timeout_s=CONNECT_TIMEOUT_S
                ) as client:
                    delay_s = RECONNECT_DELAY_S
                    noted.clear()
                    await self._serve(client)
            except DoorError as error:
                # A node may go at any time; nothing is lost that the next one cannot do.
                self.reconnects += 1
                text = f"left the door at {door}: {error}"
                if text not in noted:
                    self._note(text)
                noted.add(text)
            self._turn += 1
            await trio.sleep(delay_s)
            delay_s = min(2 * delay_s, RECONNECT_DELAY_MAX_S)

    async def _serve(self, client: DoorClient) -> None:
        """Work with one node until its connection ends; raises `DoorError` then."""
        blocks = await client.subscribe(Channel.BLOCKS)
        receipts = [await client.subscribe(Channel.RECEIPTS, account) for account in self._accounts]
        self._note_height(blocks.committed_height)
        self._last_event_at = trio.current_time()
        self._client = client
        self._waiting = {}
        self._enqueue(list(self._tickets.values()))
        failure: DoorError | None = None
        async with trio.open_nursery() as nursery:

            async def guard(task: Any, *arguments: object) -> None:
                nonlocal failure
                try:
                    await task(*arguments)
                except DoorError as error:
                    failure = failure or error
                    nursery.cancel_scope.cancel()

            nursery.start_soon(guard, self._follow_blocks, blocks)
            for subscription in receipts:
                nursery.start_soon(guard, self._follow_receipts, subscription)
            nursery.start_soon(guard, self._hand_in, client)
            nursery.start_soon(guard, self._watch)
        self._client = None
        if failure is not None:
            raise failure

    async def _watch(self) -> None:
        """Give up a node that answers but makes no progress."""
        while True:
            await trio.sleep(QUIET_MAX_S / 4)
            if trio.current_time() - self._last_event_at > QUIET_MAX_S:
                raise DoorError("door.timeout", "no event for too long")

    async def _follow_blocks(self, blocks: Subscription) -> None:
        async for event in blocks:
            self._last_event_at = trio.current_time()
            if isinstance(event, BlockEvent):
                self._note_height(event.height)
                self._check_expiries()

    async def _follow_receipts(self, receipts: Subscription) -> None:
        async for event in receipts:
            assert isinstance(event, ReceiptEvent)
            ticket = self._tickets.get(event.envelope_id)
            if ticket is not None:
                self._apply(ticket, event.level, event.code, event.results)

    def _note_height(self, height: int) -> None:
        self.committed_height = max(self.committed_height, height)
        self._known.set()

    def _check_expiries(self) -> None:
        """Ask about envelopes that can no longer be ordered: their receipts may have been missed.

        Tickets are in the order of their sending, hence of their expiry: the first one decides.
        """
        oldest = next(iter(self._tickets.values()), None)
        if oldest is None or oldest.envelope.envelope_id in self._waiting:
            return
        if self.committed_height > oldest.expiry_height + EXPIRY_GRACE_HEIGHTS:
            self._enqueue([oldest])

    # ---- handing in ------------------------------------------------------------------------

    def _enqueue(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._waiting[ticket.envelope.envelope_id] = ticket
        self._wake.set()

    async def _hand_in(self, client: DoorClient) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            tickets = list(self._waiting.values())
            self._waiting = {}
            retry: list[Ticket] = []
            position = 0
            for part in split_for_door([ticket.envelope.data for ticket in tickets]):
                results = await client.submit(part)
                for result in results:
                    if await self._apply_result(client, tickets[position], result):
                        retry.append(tickets[position])
                    position += 1
            if retry:
                await trio.sleep(RETRY_DELAY_S)
                self._enqueue(retry)

    async def _apply_result(self, client: DoorClient, ticket: Ticket, result: SubmitResult) -> bool:
        """Act on the door's answer; True to hand it in again."""
        code = result.code
        if code is None or code == PENDING or ticket.done.is_set():
            return False
        if code in TRANSIENT_REFUSALS:
            return True
        if code in DUPLICATE_REFUSALS:
            return not await self._ask(client, ticket, code)
        self._apply(ticket, ReceiptLevel.REFUSED, code, None)
        return False

    async def _ask(self, client: DoorClient, ticket: Ticket, code: str) -> bool:
        """Find out what became of an envelope that seems to be settled; False if nobody knows yet.

        A node that only received it, or forgot it, gives no answer: then the refusal stands.
        """
        try:
            view = await client.query("envelope", ticket.envelope.envelope_id)
        except DoorError as error:
            if error.code != "envelope.unknown":
                raise
            view = {}
        level = view.get("level") if isinstance(view, dict) else None
        if level in (ReceiptLevel.RECEIVED, ReceiptLevel.AVAILABLE):
            # Refused while an older copy of it is on its way.
            return False
        if level in (ReceiptLevel.ORDERED, ReceiptLevel.EXECUTED, ReceiptLevel.REFUSED):
            self._apply(ticket, ReceiptLevel(level), view.get("code"), view.get("results"))
        else:
            self._apply(ticket, ReceiptLevel.REFUSED, code, None)
        return True

    # ---- outcomes --------------------------------------------------------------------------

    def _apply(
        self, ticket: Ticket, level: ReceiptLevel, code: str | None, results: object
    ) -> None:
        match level:
            case ReceiptLevel.ORDERED:
                ticket.apply_ordered()
            case ReceiptLevel.EXECUTED:
                ticket.apply_executed(() if results is None else convert_receipts(results))
                self._settle(ticket)
            case ReceiptLevel.REFUSED:
                ticket.apply_refused(code or "unknown")
                self._settle(ticket)

    def _settle(self, ticket: Ticket) -> None:
        if self._tickets.pop(ticket.envelope.envelope_id, None) is not None:
            self._waiting.pop(ticket.envelope.envelope_id, None)
            self._room.release()
