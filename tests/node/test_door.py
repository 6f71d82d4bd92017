"""The order door against clients that misbehave: each is bounded, and ends alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing
from msgspec import Raw

from crypto.codec import decode_lenient, encode
from node.door import HELLO_FRAME_MAX_BYTES, Door, QueryError
from node.framing import FramedStream, FramingError
from node.protocol import (
    DOOR_VERSION,
    Answer,
    Channel,
    Hello,
    Query,
    Refused,
    ServerFrame,
    Subscribe,
    Subscribed,
    TradeEvent,
    Welcome,
)

IDLE_TIMEOUT_S = 300.0


class Handler:
    """A node that answers queries and takes nothing."""

    def welcome(self) -> Welcome:
        return Welcome(DOOR_VERSION, "node0", bytes(32), 7, 1)

    def submit(self, source: int, request: int, envelopes: tuple[bytes, ...]) -> None:
        raise AssertionError("nobody submits here")

    def submit_opaque(self, *arguments: object) -> None:
        raise AssertionError("nobody submits here")

    async def query(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        if name == "crash":
            raise ZeroDivisionError
        if name != "status":
            raise QueryError("query.unknown", name)
        return encode(1)


class Client:
    """One raw connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.framed = FramedStream(stream, frame_max_bytes=1 << 24)

    async def send(self, frame: object) -> None:
        await self.framed.send_frame(encode(frame))

    async def receive(self) -> Any:
        return decode_lenient(ServerFrame, await self.framed.receive_frame())

    async def greet(self) -> None:
        await self.send(Hello(DOOR_VERSION))
        assert isinstance(await self.receive(), Welcome)

    async def is_cut_off(self) -> bool:
        try:
            await self.framed.receive_frame()
        except (trio.EndOfChannel, trio.BrokenResourceError, FramingError):
            return True
        return False


class Place:
    """A running door and the way in."""

    def __init__(self, door: Door, listener: trio.SocketListener) -> None:
        self.door = door
        self._listener = listener
        self._clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(await trio.testing.open_stream_to_socket_listener(self._listener))
        self._clients.append(client)
        return client

    async def close(self) -> None:
        with trio.CancelScope(shield=True):
            for client in self._clients:
                await client.framed.aclose()


@asynccontextmanager
async def running_door(**limits: Any) -> AsyncIterator[Place]:
    chosen = {
        "connections_max": 4,
        "send_queue_max_bytes": 1 << 20,
        "idle_timeout_s": IDLE_TIMEOUT_S,
    } | limits
    door = Door(Handler(), **chosen)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.serve, listeners)
        place = Place(door, listeners[0])
        try:
            yield place
        finally:
            await place.close()
            nursery.cancel_scope.cancel()


async def test_a_stranger_gets_small_frames_only() -> None:
    async with running_door() as place:
        client = await place.connect()
        await client.stream.send_all((HELLO_FRAME_MAX_BYTES + 1).to_bytes(4, "big"))
        assert await client.is_cut_off()
        known = await place.connect()
        await known.greet()
        await known.framed.send_frame(bytes(10 * HELLO_FRAME_MAX_BYTES))
        assert (await known.receive()).code == "door.malformed"


async def test_a_stranger_that_says_nothing_is_cut_off_in_time(monkeypatch) -> None:
    monkeypatch.setattr("node.door.HELLO_TIMEOUT_S", 0.2)
    async with running_door() as place:
        silent, known = await place.connect(), await place.connect()
        await known.greet()
        with trio.fail_after(5):
            assert await silent.is_cut_off()
        assert place.door.statistics().connections == 1


async def test_a_client_that_goes_silent_is_cut_off_unless_it_subscribes() -> None:
    async with running_door(idle_timeout_s=0.2) as place:
        silent, subscriber = await place.connect(), await place.connect()
        await silent.greet()
        await subscriber.greet()
        await subscriber.send(Subscribe(1, Channel.BLOCKS))
        assert isinstance(await subscriber.receive(), Subscribed)
        with trio.fail_after(5):
            # The subscriber has been silent for longer than the client that this waits for.
            assert await silent.is_cut_off()
            assert await (await place.connect()).is_cut_off()
        await subscriber.send(Query(2, "status"))
        assert isinstance(await subscriber.receive(), Answer)


async def test_silent_strangers_make_room_and_greeted_clients_do_not() -> None:
    async with running_door(connections_max=2) as place:
        first = await place.connect()
        await first.greet()
        silent = await place.connect()
        await trio.testing.wait_all_tasks_blocked(0.01)
        second = await place.connect()
        await second.greet()
        assert await silent.is_cut_off()
        third = await place.connect()
        refusal = await third.receive()
        assert isinstance(refusal, Refused)
        assert refusal.code == "door.full"
        assert await third.is_cut_off()
        for client in (first, second):
            await client.send(Query(1, "status"))
            assert isinstance(await client.receive(), Answer)
        assert place.door.statistics().refused_connections == 2


async def subscribe_to_trades(place: Place) -> Client:
    client = await place.connect()
    await client.greet()
    await client.send(Subscribe(1, Channel.TRADES))
    assert isinstance(await client.receive(), Subscribed)
    return client


def publish(place: Place, size_bytes: int) -> None:
    raw = Raw(encode(bytes(size_bytes)))
    place.door.publish(
        Channel.TRADES, lambda subscription, sequence: TradeEvent(subscription, sequence, 1, raw)
    )


async def test_a_client_that_does_not_read_is_cut_off_at_its_bound() -> None:
    async with running_door() as place:
        await subscribe_to_trades(place)
        for _ in range(3):
            publish(place, 1 << 19)
        statistics = place.door.statistics()
        assert (statistics.slow_consumers, statistics.connections) == (1, 0)
        assert not place.door.has_subscribers(Channel.TRADES)


async def test_of_all_clients_the_slowest_pays_for_the_common_bound() -> None:
    async with running_door(send_queues_max_bytes=1 << 20) as place:
        slow, other = await subscribe_to_trades(place), await subscribe_to_trades(place)
        await slow.send(Subscribe(2, Channel.TRADES))
        assert isinstance(await slow.receive(), Subscribed)
        publish(place, 400 << 10)
        statistics = place.door.statistics()
        assert (statistics.slow_consumers, statistics.connections) == (1, 1)
        assert isinstance(await other.receive(), TradeEvent)


async def test_what_is_sent_frees_the_bounds_again() -> None:
    async with running_door(send_queues_max_bytes=1 << 20) as place:
        client = await subscribe_to_trades(place)
        for _ in range(8):
            publish(place, 300 << 10)
            assert isinstance(await client.receive(), TradeEvent)
        assert place.door.statistics().slow_consumers == 0


async def test_a_bug_met_by_one_client_ends_that_client_alone() -> None:
    async with running_door() as place:
        unlucky, other = await place.connect(), await place.connect()
        await unlucky.greet()
        await other.greet()
        await unlucky.send(Query(1, "crash"))
        assert await unlucky.is_cut_off()
        await other.send(Query(1, "nonsense"))
        assert (await other.receive()).code == "query.unknown"


async def test_a_number_in_use_and_a_request_before_the_greeting_have_codes() -> None:
    async with running_door() as place:
        client = await place.connect()
        await client.send(Query(1, "status"))
        assert (await client.receive()).code == "door.no_hello"
        await client.send(Hello(DOOR_VERSION + 1))
        assert (await client.receive()).code == "door.version"
        await client.greet()
        await client.send(Subscribe(1, Channel.RECEIPTS))
        assert (await client.receive()).code == "door.subscription"
