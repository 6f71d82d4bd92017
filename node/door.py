"""The order door: where clients connect (`node.protocol` is what is spoken).

One task reads a connection, one writes it. Whatever a client sends can end only its own connection:
the crash barrier is `_serve_connection`. A client is bounded in everything it can make the node
hold: frame size, requests in flight (reading stops until answers go out, which is the
back-pressure), subscriptions, and unsent bytes, beyond which it is cut off as `door.slow_consumer`.
All clients together are bounded in unsent bytes too: whoever has most of them is cut off first; and
in large frames that are arriving, where the one that began first makes room.

Whoever has not greeted yet gets small frames only and little time, and makes room when all places
are taken, the oldest first: silent connections shut nobody out for long. When all have greeted, the
address (`node.addresses`) that holds most places gives one up to an address that holds fewer, that
of the client that has been silent for longest: nobody takes the whole door from one address.

What clients forge is rationed (`node.forgeries`).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

import structlog
import trio
from msgspec import Raw, Struct

from crypto.codec import DecodeError, decode_lenient, encode
from node.addresses import group_address
from node.door_connection import Connection, part, watch_for_death
from node.forgeries import Forgeries
from node.framing import FramedStream, FrameRoom, FramingError, encode_length
from node.logs import is_doubling
from node.protocol import (
    DOOR_FRAME_MAX_BYTES,
    DOOR_VERSION,
    AccountEvents,
    AccountEventsMissed,
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
    Submission,
    SubmitEnvelopes,
    SubmitOpaque,
    Submitted,
    Subscribe,
    Subscribed,
    TradeEvent,
    Welcome,
)
from node.subscriptions import Subscription, Subscriptions

QUERIES_IN_FLIGHT_MAX: Final = 1024
"""Unanswered queries of all clients together; then whoever asks another is read no further until
its turn has come."""

QUERY_MAX_BYTES: Final = 1 << 10
"""One query. What it asks for fits easily, and it is kept until it is answered. Longer frames are
read as submissions only: a query's arguments may be anything, and a megabyte of nested maps would
take a third of a second to decode, while a submission's bytes are not looked into."""

HELLO_FRAME_MAX_BYTES: Final = 1 << 10
"""A frame of a client that has not greeted yet, and of the answers to it."""

HELLO_TIMEOUT_S: Final = 10.0
"""For a greeting to begin; one is sent at once, so only strangers and dead clients take longer."""

FRAME_TIMEOUT_S: Final = 10.0
"""From a frame's first byte to its last."""

TURN_AWAY_TIMEOUT_S: Final = 1.0
"""For the last word to a client that finds no place, or loses it."""

TURNED_AWAY_MAX: Final = 64
"""Clients that are told at once that there is no place; more are closed without a word, so that a
flood of them takes no files from the node."""

OUTBOX_FRAME_OVERHEAD_BYTES: Final = 64
"""What an unsent frame occupies beside its payload: the object, its place in the queue, its length
field. Without it a million tiny frames would pass as next to nothing."""

SEND_QUEUES_MAX_BYTES: Final = 256 << 20
"""Unsent bytes of all clients together."""

ARRIVING_MAX_BYTES: Final = 128 << 20
"""Received bytes of the large frames of all clients together, while these arrive."""

FRAME_OVERHEAD_MAX_BYTES: Final = 64 << 10
"""A frame may exceed `DOOR_FRAME_MAX_BYTES` of payload by its own framing."""

_E = TypeVar(
    "_E",
    ReceiptEvent,
    BlockEvent,
    DeliveredEvent,
    ExecutedEvent,
    TradeEvent,
    AccountEvents,
    AccountEventsMissed,
)

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
    """Frames that were none, and connections that ended because framing or its times were broken;
    one that was merely reset is not among them."""
    slow_consumers: int
    forgers: int
    """Connections that were closed for forged envelopes."""


class Door:
    """Serves clients. See the module docstring."""

    def __init__(
        self,
        handler: DoorHandler,
        *,
        connections_max: int,
        send_queue_max_bytes: int,
        idle_timeout_s: float,
        send_queues_max_bytes: int = SEND_QUEUES_MAX_BYTES,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        """Limits on clients: how many, unsent bytes of one and of all, and for how long one that
        subscribes to nothing may be silent. `clock` (seconds) is what forgeries are counted by."""
        self._handler = handler
        self._connections_max = connections_max
        self._send_queue_max_bytes = send_queue_max_bytes
        self._idle_timeout_s = idle_timeout_s
        self._send_queues_max_bytes = send_queues_max_bytes
        self._connections: dict[int, Connection] = {}
        self._strangers: dict[int, Connection] = {}
        """Those of them that have not greeted yet, oldest first."""
        self._places_of: Counter[str] = Counter()
        """How many of them each address has."""
        self._heard = 0
        """Frames from clients."""
        self._forgeries = Forgeries(clock)
        self._unsent_bytes = 0
        """In all outboxes."""
        self._subscriptions = Subscriptions()
        self._arriving = FrameRoom(ARRIVING_MAX_BYTES)
        self._query_places = trio.Semaphore(QUERIES_IN_FLIGHT_MAX)
        self._next_source = 0
        self._accepted = 0
        self._refused = 0
        self._malformed = 0
        self._slow = 0
        self._forgers = 0
        self._turning_away = 0

    def statistics(self) -> DoorStatistics:
        """A snapshot of the counters."""
        return DoorStatistics(
            len(self._connections),
            self._accepted,
            self._refused,
            self._malformed,
            self._slow,
            self._forgers,
        )

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Serve connections until cancelled."""
        await trio.serve_listeners(self._serve_connection, listeners)

    # ---- what the node says -----------------------------------------------------------------

    def reply(self, source: int, frame: Submitted | OpaqueSubmitted) -> None:
        """Answer a submission. A client that has left hears nothing, but its forgeries count."""
        is_forger = isinstance(frame, Submitted) and self._forgeries.finish(source, frame)
        connection = self._connections.get(source)
        if connection is None:
            return
        self._finish_request(connection, frame.request)
        if is_forger:
            detail = "too many envelopes whose signatures do not verify"
            self._dismiss(connection, (frame, Refused(None, "door.forgeries", detail)))
        else:
            self._send(connection, frame)

    def has_subscribers(self, channel: Channel) -> bool:
        """Would anybody hear an event on this channel?"""
        return self._subscriptions.is_heard(channel)

    def is_watched(self, channel: Channel, account: bytes) -> bool:
        """Would anybody hear an event on this channel of an account?"""
        return self._subscriptions.is_watched(channel, account)

    def publish(self, channel: Channel, make: Callable[[int, int], _E]) -> None:
        """Send an event to a channel; `make(subscription, sequence)` builds it."""
        self._publish(self._subscriptions.of_channel(channel), make)

    def publish_to(self, channel: Channel, account: bytes, make: Callable[[int, int], _E]) -> None:
        """Send an event to whoever hears a channel of an account."""
        self._publish(self._subscriptions.of_account(channel, account), make)

    def _publish(
        self, subscriptions: Iterable[Subscription], make: Callable[[int, int], _E]
    ) -> None:
        for subscription in subscriptions:
            # An event for one client may have cut off another that was still to hear it.
            connection = self._connections.get(subscription.source)
            if connection is None:
                continue
            event = make(subscription.request, subscription.sequence)
            subscription.sequence += 1
            self._send(connection, event)

    # ---- one connection ---------------------------------------------------------------------

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        try:
            address = group_address(stream.socket.getpeername()[0])
        except OSError:
            # It has gone again before its turn came.
            await trio.aclose_forcefully(stream)
            return
        if len(self._connections) >= self._connections_max:
            self._refused += 1
            leaving = self._find_leaving(address)
            if leaving is None:
                await self._turn_away(stream)
                return
            # It leaves the door's books at once and the process as soon as its task runs.
            self._forget(leaving)
            leaving.scope.cancel()
        source = self._next_source
        self._next_source += 1
        self._accepted += 1
        log = _log.bind(source=source)
        framed = FramedStream(
            stream,
            frame_max_bytes=HELLO_FRAME_MAX_BYTES,
            frame_timeout_s=min(FRAME_TIMEOUT_S, self._idle_timeout_s),
            idle_timeout_s=min(HELLO_TIMEOUT_S, self._idle_timeout_s),
            room=self._arriving,
        )
        connection = Connection(source, address, framed)
        self._connections[source] = self._strangers[source] = connection
        self._places_of[address] += 1
        try:
            with connection.scope:
                watch_for_death(stream)
                await self._converse(connection)
        except* FramingError as group:
            self._malformed += 1
            log.debug("door_connection_ended", reason=str(group.exceptions[0]))
        except* (OSError, trio.BrokenResourceError) as group:
            # It was reset, which clients that are killed do without meaning any harm.
            log.debug("door_connection_broke", reason=str(group.exceptions[0]))
        except* Exception as group:
            # The crash barrier: a fault of ours met by one client's input ends that client alone.
            log.error("door_connection_crashed", exc_info=group)
        finally:
            self._forget(connection)
            await framed.aclose()

    def _find_leaving(self, newcomer: str) -> Connection | None:
        """Who makes room for a client from this address when all places are taken, if anybody."""
        if self._strangers:
            return next(iter(self._strangers.values()))
        crowded = max(self._places_of, key=self._places_of.__getitem__)
        if self._places_of[crowded] <= self._places_of[newcomer] + 1:
            # The newcomer's would only hold as many then, and lose one to the next.
            return None
        connections = self._connections.values()
        return min(
            (each for each in connections if each.standing.address == crowded),
            key=lambda each: each.heard,
        )

    async def _converse(self, connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, connection)
            try:
                with connection.reading:
                    await self._read(connection, nursery)
            except trio.EndOfChannel:
                # A client that closes after asking still gets no answer: nobody is there to read.
                nursery.cancel_scope.cancel()
        if connection.is_dismissed:
            await part(connection.stream.stream)

    async def _read(self, connection: Connection, nursery: trio.Nursery) -> None:
        while True:
            frame = await connection.stream.receive_frame()
            self._heard += 1
            connection.heard = self._heard
            try:
                request = decode_request(frame)
            except DecodeError as error:
                self._malformed += 1
                self._send(connection, Refused(None, "door.malformed", str(error)[:200]))
                continue
            if isinstance(request, Hello):
                if request.version != DOOR_VERSION:
                    detail = f"this node speaks version {DOOR_VERSION}"
                    self._send(connection, Refused(None, "door.version", detail))
                    continue
                self._let_in(connection)
                self._send(connection, self._handler.welcome())
            elif not connection.is_greeted:
                detail = "say hello first"
                self._send(connection, Refused(request.request, "door.no_hello", detail))
            else:
                await self._serve_request(connection, nursery, request)

    def _let_in(self, connection: Connection) -> None:
        connection.is_greeted = True
        connection.stream.frame_max_bytes = DOOR_FRAME_MAX_BYTES + FRAME_OVERHEAD_MAX_BYTES
        if not self._subscriptions.has_any(connection.source):
            connection.stream.idle_timeout_s = self._idle_timeout_s
        self._strangers.pop(connection.source, None)

    async def _serve_request(
        self,
        connection: Connection,
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
        while connection.must_wait(request):
            connection.room = trio.Event()
            await connection.room.wait()
        if isinstance(request, SubmitEnvelopes):
            if self._forgeries.is_suspect(connection.standing):
                detail = "others at your address forge signatures, and you have shown no valid one"
                self._send(connection, Refused(request.request, "door.forgeries", detail))
                return
            self._forgeries.begin(connection.source, connection.standing)
        elif isinstance(request, Query):
            await self._query_places.acquire()
        connection.in_flight.add(request.request)
        match request:
            case Query():
                nursery.start_soon(self._answer, connection, request)
            case SubmitEnvelopes(number, envelopes):
                self._handler.submit(connection.source, number, envelopes)
            case SubmitOpaque(number, namespace, size_bytes, data):
                self._handler.submit_opaque(connection.source, number, namespace, size_bytes, data)

    def _finish_request(self, connection: Connection, request: int) -> None:
        connection.in_flight.discard(request)
        connection.room.set()

    async def _answer(self, connection: Connection, query: Query) -> None:
        frame: Answer | Refused
        try:
            body = await self._handler.query(query.name, query.arguments)
            frame = Answer(query.request, Raw(body))
        except QueryError as error:
            frame = Refused(query.request, error.code, error.detail)
        finally:
            self._query_places.release()
        self._finish_request(connection, query.request)
        self._send(connection, frame)

    def _subscribe(self, connection: Connection, request: Subscribe) -> None:
        refusal = self._subscriptions.add(connection.source, request)
        if refusal is not None:
            self._send(connection, Refused(request.request, "door.subscription", refusal))
            return
        connection.stream.idle_timeout_s = math.inf
        height = self._handler.welcome().committed_height
        self._send(connection, Subscribed(request.request, height))

    def _forget(self, connection: Connection) -> None:
        """Take a connection off the books; what is said to it from now on is dropped."""
        if self._connections.pop(connection.source, None) is None:
            return
        self._strangers.pop(connection.source, None)
        address = connection.standing.address
        self._places_of[address] -= 1
        if not self._places_of[address]:
            del self._places_of[address]
        self._count_unsent(connection, -connection.outbox_bytes)
        connection.outbox.clear()
        self._subscriptions.drop(connection.source)

    # ---- writing ----------------------------------------------------------------------------

    def _send(self, connection: Connection, frame: ServerFrame) -> None:
        if connection.source not in self._connections:
            return
        data = encode(frame)
        connection.outbox.append(data)
        self._count_unsent(connection, len(data) + OUTBOX_FRAME_OVERHEAD_BYTES)
        connection.wake.set()
        if connection.outbox_bytes > self._send_queue_max_bytes:
            self._cut_off(connection)
        elif self._unsent_bytes > self._send_queues_max_bytes:
            self._cut_off(max(self._connections.values(), key=lambda each: each.outbox_bytes))

    def _cut_off(self, connection: Connection) -> None:
        self._slow += 1
        _log_doublings("door_slow_consumer", self._slow, connection)
        self._forget(connection)
        connection.scope.cancel()

    def _dismiss(self, connection: Connection, last: Iterable[ServerFrame]) -> None:
        """Take a forger off the books; nothing but these frames is still said to it."""
        self._forgers += 1
        _log_doublings("door_forger", self._forgers, connection)
        self._forget(connection)
        connection.outbox.extend(encode(frame) for frame in last)
        connection.is_dismissed = True
        connection.wake.set()
        connection.reading.cancel()
        connection.scope.deadline = trio.current_time() + TURN_AWAY_TIMEOUT_S

    def _count_unsent(self, connection: Connection, change_bytes: int) -> None:
        connection.outbox_bytes += change_bytes
        self._unsent_bytes += change_bytes

    async def _turn_away(self, stream: trio.SocketStream) -> None:
        """Say that there is no place."""
        if self._turning_away < TURNED_AWAY_MAX:
            self._turning_away += 1
            detail = "all places of this door are taken; try another node"
            frame = encode(Refused(None, "door.full", detail))
            try:
                with trio.move_on_after(TURN_AWAY_TIMEOUT_S), suppress(trio.BrokenResourceError):
                    await stream.send_all(encode_length(len(frame)) + frame)
                    await part(stream)
            finally:
                self._turning_away -= 1
        await trio.aclose_forcefully(stream)

    async def _write(self, connection: Connection) -> None:
        while True:
            while not connection.outbox:
                if connection.is_dismissed:
                    return
                connection.wake = trio.Event()
                await connection.wake.wait()
            frames = list(connection.outbox)
            connection.outbox.clear()
            sent_bytes = connection.outbox_bytes
            await connection.stream.send_frames(frames)
            if connection.source in self._connections:
                self._count_unsent(connection, -sent_bytes)


def decode_request(frame: bytes) -> ClientFrame:
    """What a client asks. Raises `DecodeError`."""
    if len(frame) <= QUERY_MAX_BYTES:
        request: ClientFrame = decode_lenient(ClientFrame, frame)  # type: ignore[arg-type]  # a union
        return request
    try:
        submission: Submission = decode_lenient(Submission, frame)  # type: ignore[arg-type]  # a union
    except DecodeError as error:
        raise DecodeError(f"only submissions exceed {QUERY_MAX_BYTES} bytes: {error}") from error
    return submission


def _log_doublings(event: str, count: int, connection: Connection) -> None:
    if is_doubling(count):
        _log.warning(
            event, source=connection.source, address=connection.standing.address, count=count
        )
