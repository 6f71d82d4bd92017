"""The order door: where clients connect (`node.protocol` is what is spoken).

One task reads a connection, one writes it. Whatever a client sends can end only its own connection:
the crash barrier is `_serve_connection`. A client is bounded in everything it can make the node
hold: frame size, requests in flight (reading stops until answers go out, which is the
back-pressure), subscriptions, and unsent bytes, beyond which it is cut off as `door.slow_consumer`.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, TypeVar

import structlog
import trio
from msgspec import Raw, Struct

from crypto.codec import DecodeError, decode_lenient, encode
from node.framing import FramedStream, FramingError
from node.protocol import (
    DOOR_FRAME_MAX_BYTES,
    DOOR_VERSION,
    SUBSCRIPTIONS_MAX,
    Answer,
    BlockEvent,
    Channel,
    ClientFrame,
    DeliveredEvent,
    ExecutedEvent,
    Hello,
    OpaqueSubmitted,
    Query,
    ReceiptEvent,
    Refused,
    ServerFrame,
    SubmitEnvelopes,
    SubmitOpaque,
    Submitted,
    Subscribe,
    Subscribed,
    TradeEvent,
    Welcome,
)

REQUESTS_IN_FLIGHT_MAX: Final = 64
"""Unanswered requests of one connection; then its reading pauses."""

FRAME_OVERHEAD_MAX_BYTES: Final = 64 << 10
"""A frame may exceed `DOOR_FRAME_MAX_BYTES` of payload by its own framing."""

_E = TypeVar("_E", ReceiptEvent, BlockEvent, DeliveredEvent, ExecutedEvent, TradeEvent)

_log = structlog.get_logger()


class QueryError(Exception):
    """A query cannot be answered; `code` is what the client sees."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class DoorHandler(Protocol):
    """What the door needs of the node behind it."""

    def welcome(self) -> Welcome:
        """The greeting."""
        ...

    def submit(self, source: int, request: int, envelopes: tuple[bytes, ...]) -> None:
        """Take envelopes; the answer comes through `Door.reply`."""
        ...

    def submit_opaque(
        self, source: int, request: int, namespace: int, size_bytes: int, data: bytes
    ) -> None:
        """Take opaque transactions; the answer comes through `Door.reply`."""
        ...

    async def query(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        """Return the encoded answer. Raises `QueryError`."""
        ...


class DoorStatistics(Struct, frozen=True):
    """Counters since the start, and the connections of now."""

    connections: int
    accepted: int
    refused_connections: int
    malformed: int
    slow_consumers: int


class _Subscription:
    __slots__ = ("account", "channel", "connection", "request", "sequence")

    def __init__(
        self, connection: "_Connection", request: int, channel: Channel, account: bytes | None
    ) -> None:
        self.connection = connection
        self.request = request
        self.channel = channel
        self.account = account
        self.sequence = 0


class _Connection:
    """One client: its outbox and what it subscribed to."""

    def __init__(self, source: int, stream: FramedStream, scope: trio.CancelScope) -> None:
        self.source = source
        self.stream = stream
        self.scope = scope
        self.subscriptions: dict[int, _Subscription] = {}
        self.outbox: deque[bytes] = deque()
        self.outbox_bytes = 0
        self.wake = trio.Event()
        self.in_flight: set[int] = set()
        self.room = trio.Event()
        self.is_slow = False


class Door:
    """Serves clients. See the module docstring."""

    def __init__(
        self,
        handler: DoorHandler,
        *,
        connections_max: int,
        send_queue_max_bytes: int,
        idle_timeout_s: float,
    ) -> None:
        self._handler = handler
        self._connections_max = connections_max
        self._send_queue_max_bytes = send_queue_max_bytes
        self._idle_timeout_s = idle_timeout_s
        self._connections: dict[int, _Connection] = {}
        self._by_channel: dict[Channel, dict[tuple[int, int], _Subscription]] = {
            channel: {} for channel in Channel
        }
        self._by_account: dict[bytes, dict[tuple[int, int], _Subscription]] = {}
        self._next_source = 0
        self._accepted = 0
        self._refused = 0
        self._malformed = 0
        self._slow = 0

    def statistics(self) -> DoorStatistics:
        """A snapshot of the counters."""
        return DoorStatistics(
            len(self._connections), self._accepted, self._refused, self._malformed, self._slow
        )

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Serve connections until cancelled."""
        await trio.serve_listeners(self._serve_connection, listeners)

    # ---- what the node says -----------------------------------------------------------------

    def reply(self, source: int, frame: Submitted | OpaqueSubmitted) -> None:
        """Answer a submission; nothing happens if the client has left."""
        connection = self._connections.get(source)
        if connection is not None:
            self._finish_request(connection, frame.request)
            self._send(connection, frame)

    def has_subscribers(self, channel: Channel) -> bool:
        """Would anybody hear an event on this channel?"""
        return bool(self._by_channel[channel])

    def is_watched(self, account: bytes) -> bool:
        """Would anybody hear of this account's receipts?"""
        return account in self._by_account

    def publish(self, channel: Channel, make: Callable[[int, int], _E]) -> None:
        """Send an event to a channel; `make(subscription, sequence)` builds it."""
        self._publish(self._by_channel[channel].values(), make)

    def publish_receipt(self, account: bytes, make: Callable[[int, int], ReceiptEvent]) -> None:
        """Send an event to whoever watches an account."""
        self._publish(self._by_account.get(account, {}).values(), make)

    def _publish(
        self, subscriptions: Iterable[_Subscription], make: Callable[[int, int], _E]
    ) -> None:
        for subscription in list(subscriptions):
            event = make(subscription.request, subscription.sequence)
            subscription.sequence += 1
            self._send(subscription.connection, event)

    # ---- one connection ---------------------------------------------------------------------

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        if len(self._connections) >= self._connections_max:
            self._refused += 1
            await trio.aclose_forcefully(stream)
            return
        source = self._next_source
        self._next_source += 1
        self._accepted += 1
        framed = FramedStream(
            stream,
            frame_max_bytes=DOOR_FRAME_MAX_BYTES + FRAME_OVERHEAD_MAX_BYTES,
            idle_timeout_s=self._idle_timeout_s,
        )
        connection = _Connection(source, framed, trio.CancelScope())
        self._connections[source] = connection
        log = _log.bind(source=source)
        try:
            with connection.scope:
                await self._converse(connection)
        except* (FramingError, trio.BrokenResourceError, trio.EndOfChannel) as group:
            self._malformed += 1
            log.info("door_connection_ended", reason=str(group.exceptions[0]))
        except* Exception as group:
            # The crash barrier: a fault of ours met by one client's input ends that client alone.
            log.error("door_connection_crashed", exc_info=group)
        finally:
            self._forget(connection)
            await trio.aclose_forcefully(stream)
        if connection.is_slow:
            log.warning("door_slow_consumer")

    async def _converse(self, connection: _Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, connection)
            try:
                await self._read(connection, nursery)
            except trio.EndOfChannel:
                # A client that closes after asking still gets no answer: nobody is there to read.
                nursery.cancel_scope.cancel()

    async def _read(self, connection: _Connection, nursery: trio.Nursery) -> None:
        greeted = False
        while True:
            frame = await connection.stream.receive_frame()
            try:
                request: ClientFrame = decode_lenient(ClientFrame, frame)  # type: ignore[arg-type]  # a union
            except DecodeError as error:
                self._malformed += 1
                self._send(connection, Refused(None, "door.malformed", str(error)[:200]))
                continue
            if isinstance(request, Hello):
                if request.version != DOOR_VERSION:
                    detail = f"this node speaks version {DOOR_VERSION}"
                    self._send(connection, Refused(None, "door.version", detail))
                    continue
                greeted = True
                self._send(connection, self._handler.welcome())
            elif not greeted:
                detail = "say hello first"
                self._send(connection, Refused(request.request, "door.no_hello", detail))
            else:
                await self._serve_request(connection, nursery, request)

    async def _serve_request(
        self,
        connection: _Connection,
        nursery: trio.Nursery,
        request: SubmitEnvelopes | SubmitOpaque | Subscribe | Query,
    ) -> None:
        if isinstance(request, Subscribe):
            self._subscribe(connection, request)
            return
        if request.request in connection.in_flight:
            detail = "a request with this number is still unanswered"
            self._send(connection, Refused(request.request, "door.duplicate_request", detail))
            return
        while len(connection.in_flight) >= REQUESTS_IN_FLIGHT_MAX:
            connection.room = trio.Event()
            await connection.room.wait()
        connection.in_flight.add(request.request)
        match request:
            case Query():
                nursery.start_soon(self._answer, connection, request)
            case SubmitEnvelopes(number, envelopes):
                self._handler.submit(connection.source, number, envelopes)
            case SubmitOpaque(number, namespace, size_bytes, data):
                self._handler.submit_opaque(connection.source, number, namespace, size_bytes, data)

    def _finish_request(self, connection: _Connection, request: int) -> None:
        connection.in_flight.discard(request)
        connection.room.set()

    async def _answer(self, connection: _Connection, query: Query) -> None:
        frame: Answer | Refused
        try:
            body = await self._handler.query(query.name, query.arguments)
            frame = Answer(query.request, Raw(body))
        except QueryError as error:
            frame = Refused(query.request, error.code, error.detail)
        self._finish_request(connection, query.request)
        self._send(connection, frame)

    def _subscribe(self, connection: _Connection, request: Subscribe) -> None:
        refusal: str | None = None
        if len(connection.subscriptions) >= SUBSCRIPTIONS_MAX:
            refusal = f"at most {SUBSCRIPTIONS_MAX} subscriptions a connection"
        elif request.request in connection.subscriptions:
            refusal = "a subscription with this number exists"
        elif (request.channel is Channel.RECEIPTS) != (request.account is not None):
            refusal = "receipts, and only receipts, are by account"
        if refusal is not None:
            self._send(connection, Refused(request.request, "door.subscription", refusal))
            return
        subscription = _Subscription(connection, request.request, request.channel, request.account)
        key = (connection.source, request.request)
        connection.subscriptions[request.request] = subscription
        self._by_channel[request.channel][key] = subscription
        if request.account is not None:
            self._by_account.setdefault(request.account, {})[key] = subscription
        height = self._handler.welcome().committed_height
        self._send(connection, Subscribed(request.request, height))

    def _forget(self, connection: _Connection) -> None:
        del self._connections[connection.source]
        for request, subscription in connection.subscriptions.items():
            key = (connection.source, request)
            del self._by_channel[subscription.channel][key]
            if subscription.account is not None:
                watchers = self._by_account[subscription.account]
                del watchers[key]
                if not watchers:
                    del self._by_account[subscription.account]

    # ---- writing ----------------------------------------------------------------------------

    def _send(self, connection: _Connection, frame: ServerFrame) -> None:
        data = encode(frame)
        connection.outbox.append(data)
        connection.outbox_bytes += len(data)
        if connection.outbox_bytes > self._send_queue_max_bytes:
            if not connection.is_slow:
                connection.is_slow = True
                self._slow += 1
            connection.outbox.clear()
            connection.scope.cancel()
            return
        connection.wake.set()

    async def _write(self, connection: _Connection) -> None:
        while True:
            while not connection.outbox:
                connection.wake = trio.Event()
                await connection.wake.wait()
            frames = list(connection.outbox)
            connection.outbox.clear()
            sent_bytes = connection.outbox_bytes
            await connection.stream.send_frames(frames)
            connection.outbox_bytes -= sent_bytes
