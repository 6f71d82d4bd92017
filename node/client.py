"""The client of a node's order door: submit, subscribe and query over one TCP connection.

`DoorClient` speaks `node.protocol` under trio. Any number of tasks may use one client at once:
requests are pipelined in the order in which they were made, and each answer finds its request by
number. Everything is bounded (requests in flight, events not yet read, frame sizes), everything
that waits has a deadline, and nothing that a node sends can do more than end the connection with
an error that names the fault.

When the connection ends, every waiting call and every later one raises the same `DoorError`; the
owner connects again, to the same or to another node. Submitting the same envelope bytes again is
always safe: an envelope counts once, by its id.

`run_with_door` is the facade for callers without an event loop.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self, TypeVar

import msgspec
import trio

from crypto.codec import encode
from node.client_stream import DoorError, DoorStream, deadline
from node.protocol import (
    DOOR_FRAME_MAX_BYTES,
    DOOR_VERSION,
    ENVELOPES_MAX_PER_REQUEST,
    REQUESTS_IN_FLIGHT_MAX,
    SUBSCRIPTIONS_MAX,
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
    SubmitEnvelopes,
    SubmitOpaque,
    SubmitResult,
    Submitted,
    Subscribe,
    Subscribed,
    TradeEvent,
    Welcome,
)

REQUESTS_ABANDONED_MAX: Final = 1024
"""Requests whose caller gave up and whose answer may still come; one more ends the connection."""

OUTBOX_FRAMES_MAX: Final = 8
"""Requests handed to the sending task and not yet to the socket; one more waits."""

EVENTS_BUFFERED_MAX: Final = 16_384
"""Events of one subscription that nobody has read; one more ends the connection."""

REQUEST_TIMEOUT_S: Final = 10.0
"""Default deadline of connecting and of each request."""

GREETING_TIMEOUT_S: Final = 2.0
"""For a node to say who it is, at most: a frozen one is passed over for another that soon."""

T = TypeVar("T")
A = TypeVar("A", Submitted, OpaqueSubmitted, Subscribed, Answer)

DoorEvent = (
    ReceiptEvent
    | BlockEvent
    | DeliveredEvent
    | ExecutedEvent
    | TradeEvent
    | AccountEvents
    | AccountEventsMissed
)


class _Pending:
    """One request waiting for its answer."""

    __slots__ = ("answer", "done")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.answer: Submitted | OpaqueSubmitted | Subscribed | Answer | Refused | None = None


class Subscription:
    """The events of one subscription, in order and without gaps: `async for event in ...`.

    The iteration never ends by itself: when the connection is over it raises `DoorError`.
    """

    def __init__(self, client: "DoorClient", request: int) -> None:
        self._client = client
        self._request = request
        self._send, self._receive = trio.open_memory_channel[DoorEvent](EVENTS_BUFFERED_MAX)
        self._next_sequence = 0
        self.committed_height = 0
        """The node's committed height when the subscription began."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DoorEvent:
        return await self.receive()

    async def receive(self) -> DoorEvent:
        """Return the next event; raises `DoorError` once the connection is over."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise self._client._closed_error() from None

    def _deliver(self, event: DoorEvent) -> None:
        if event.sequence != self._next_sequence:
            raise DoorError("door.gap", f"event {event.sequence} is not {self._next_sequence}")
        self._next_sequence += 1
        try:
            self._send.send_nowait(event)
        except trio.WouldBlock:
            raise DoorError(
                "door.slow_reader", f"{EVENTS_BUFFERED_MAX} events wait to be read"
            ) from None


class DoorClient:
    """One connection to a node's order door. Create it with `async with DoorClient.connect(...)`.

    `welcome` holds what the node said of itself: its name, the chain id, its clock.
    """

    def __init__(self, stream: trio.abc.Stream, timeout_s: float) -> None:
        self._stream = DoorStream(stream)
        self._timeout_s = timeout_s
        self._send, self._outbox = trio.open_memory_channel[bytes](OUTBOX_FRAMES_MAX)
        self._slots = trio.Semaphore(REQUESTS_IN_FLIGHT_MAX)
        self._pending: dict[int, _Pending] = {}
        self._abandoned: set[int] = set()
        self._subscriptions: dict[int, Subscription] = {}
        self._next_request = 1
        self._error: DoorError | None = None
        self.welcome: Welcome

    # ---- life ------------------------------------------------------------------------------

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, host: str, port: int, *, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> AsyncIterator["DoorClient"]:
        """Connect, greet, and keep the connection for the length of the `async with` block.

        `timeout_s` is the deadline of connecting and of every request; a greeting that comes later
        than `GREETING_TIMEOUT_S` is too late in any case. Raises `DoorError`.
        """
        with deadline(timeout_s, f"connecting to {host}:{port}"):
            try:
                stream = await trio.open_tcp_stream(host, port)
            except OSError as error:
                raise DoorError("door.unreachable", f"{host}:{port}: {error}") from error
        async with cls.over(stream, timeout_s=timeout_s) as client:
            yield client

    @classmethod
    @asynccontextmanager
    async def over(
        cls, stream: trio.abc.Stream, *, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> AsyncIterator["DoorClient"]:
        """Like `connect`, over a stream that is already open and is closed at the end."""
        client = cls(stream, timeout_s)
        # The tasks below record their failures in the client and never raise, so what leaves this
        # block is the body's own exception, never a group around it.
        failure: BaseException | None = None
        async with stream:
            with deadline(min(timeout_s, GREETING_TIMEOUT_S), "greeting the node"):
                await client._greet()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client._run_reader)
                nursery.start_soon(client._run_writer)
                try:
                    yield client
                except trio.Cancelled:
                    raise
                except BaseException as error:
                    # Raised again below, outside of the nursery, which would wrap it into a group.
                    failure = error
                client._fail(DoorError("door.closed", "this client has closed its connection"))
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _greet(self) -> None:
        await self._stream.send(encode(Hello(DOOR_VERSION)))
        frame = await self._stream.receive()
        if isinstance(frame, Refused):
            raise DoorError(frame.code, frame.detail)
        if not isinstance(frame, Welcome):
            raise DoorError("door.unexpected", f"{type(frame).__name__} instead of a welcome")
        if frame.version != DOOR_VERSION:
            raise DoorError("door.unexpected", f"the node speaks version {frame.version}")
        self.welcome = frame

    def _fail(self, error: DoorError) -> None:
        """The connection is over: wake everybody who waits. The first reason stays."""
        if self._error is not None:
            return
        self._error = error
        self._send.close()
        for pending in self._pending.values():
            pending.done.set()
        for subscription in self._subscriptions.values():
            subscription._send.close()

    def _closed_error(self) -> DoorError:
        """A fresh exception each time: a raised one carries the traceback of its raiser."""
        assert self._error is not None
        return DoorError(self._error.code, self._error.message)

    # ---- requests --------------------------------------------------------------------------

    async def submit(self, envelopes: Sequence[bytes]) -> tuple[SubmitResult, ...]:
        """Hand in encoded envelopes; one result each, in order, `code` None meaning received.

        All must fit into one frame; `split_for_door` cuts longer lists.
        """
        if not 1 <= len(envelopes) <= ENVELOPES_MAX_PER_REQUEST:
            raise DoorError("door.too_large", f"{len(envelopes)} envelopes in one request")
        answer = await self._request(
            Submitted, lambda request: SubmitEnvelopes(request, tuple(envelopes))
        )
        if len(answer.results) != len(envelopes):
            raise self._abort("door.unexpected", "the node answered for other envelopes")
        return answer.results

    async def submit_opaque(
        self, namespace: int, transaction_size_bytes: int, data: bytes
    ) -> OpaqueSubmitted:
        """Hand in fixed-size transactions of another namespace, back to back; all or none."""
        return await self._request(
            OpaqueSubmitted,
            lambda request: SubmitOpaque(request, namespace, transaction_size_bytes, data),
        )

    async def subscribe(self, channel: Channel, account: bytes | None = None) -> Subscription:
        """Begin a subscription; `ACCOUNT_CHANNELS` need an `account`."""
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            raise DoorError("door.too_large", f"more than {SUBSCRIPTIONS_MAX} subscriptions")
        number = 0

        def build(request: int) -> Subscribe:
            # Registered before it is sent: events may follow the answer in the same packet.
            nonlocal number
            number = request
            self._subscriptions[request] = Subscription(self, request)
            return Subscribe(request, channel, account)

        try:
            answer = await self._request(Subscribed, build)
        except BaseException:
            # Cancellation too must free the place; an abandoned one keeps it, for its answer and
            # its events may still come.
            if number in self._subscriptions and number not in self._abandoned:
                del self._subscriptions[number]
            raise
        subscription = self._subscriptions[number]
        subscription.committed_height = answer.committed_height
        return subscription

    async def query(self, name: str, *arguments: object) -> Any:
        """Ask for a view (`node.protocol.Query` lists them); returns plain maps, lists, values."""
        answer = await self._request(Answer, lambda request: Query(request, name, arguments))
        try:
            return msgspec.msgpack.decode(answer.body)
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise self._abort("door.malformed", f"answer to {name}: {error}") from error

    async def _request(self, answer_type: type[A], build: Callable[[int], ClientFrame]) -> A:
        """Send one request, wait for its answer. Cancelling abandons the answer, not the bytes."""
        with deadline(self._timeout_s, "waiting for an answer"):
            async with self._slots:
                return await self._exchange(answer_type, build)

    async def _exchange(self, answer_type: type[A], build: Callable[[int], ClientFrame]) -> A:
        if self._error is not None:
            raise self._closed_error()
        number = self._next_request
        self._next_request += 1
        frame = encode(build(number))
        if len(frame) > DOOR_FRAME_MAX_BYTES:
            raise DoorError("door.too_large", f"a request of {len(frame)} bytes")
        pending = self._pending[number] = _Pending()
        sent = False
        try:
            await self._send.send(frame)
            sent = True
            await pending.done.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._closed_error() from None
        finally:
            del self._pending[number]
            if sent and pending.answer is None and self._error is None:
                self._abandon(number)
        answer = pending.answer
        if answer is None:
            raise self._closed_error()
        if isinstance(answer, Refused):
            raise DoorError(answer.code, answer.detail)
        if not isinstance(answer, answer_type):
            raise self._abort("door.unexpected", f"{type(answer).__name__} is another's answer")
        return answer

    def _abandon(self, number: int) -> None:
        self._abandoned.add(number)
        if len(self._abandoned) > REQUESTS_ABANDONED_MAX:
            self._fail(DoorError("door.timeout", "the node leaves too many requests unanswered"))

    def _abort(self, code: str, message: str) -> DoorError:
        error = DoorError(code, message)
        self._fail(error)
        return self._closed_error()

    # ---- the two tasks ---------------------------------------------------------------------

    async def _run_writer(self) -> None:
        try:
            async for frame in self._outbox:
                await self._stream.send(frame)
        except DoorError as error:
            self._fail(error)

    async def _run_reader(self) -> None:
        try:
            while True:
                self._dispatch(await self._stream.receive())
        except DoorError as error:
            self._fail(error)

    def _dispatch(self, frame: ServerFrame) -> None:
        if isinstance(frame, DoorEvent):
            subscription = self._subscriptions.get(frame.subscription)
            if subscription is None:
                raise DoorError("door.unexpected", "an event of no subscription")
            subscription._deliver(frame)
        elif isinstance(frame, Welcome):
            raise DoorError("door.unexpected", "a second welcome")
        elif frame.request is None:
            assert isinstance(frame, Refused)
            raise DoorError(frame.code, frame.detail)
        elif (pending := self._pending.get(frame.request)) is not None:
            if pending.answer is not None:
                raise DoorError("door.unexpected", "two answers to one request")
            pending.answer = frame
            pending.done.set()
        elif frame.request in self._abandoned:
            self._abandoned.remove(frame.request)
        else:
            raise DoorError("door.unexpected", "an answer to no request")


# ---- without an event loop -------------------------------------------------------------------


def run_with_door(
    host: str,
    port: int,
    work: Callable[[DoorClient], Awaitable[T]],
    *,
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> T:
    """Connect, run `work` with the client, close, return its result. Raises `DoorError`."""

    async def main() -> T:
        async with DoorClient.connect(host, port, timeout_s=timeout_s) as client:
            return await work(client)

    return trio.run(main)
