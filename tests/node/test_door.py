"""The order door against clients that misbehave: each is bounded, and ends alone."""

import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw

from crypto.codec import decode_lenient, encode
from mempool.refusal import RefusalCode
from node.door import (
    HELLO_FRAME_MAX_BYTES,
    OUTBOX_FRAME_OVERHEAD_BYTES,
    QUERY_MAX_BYTES,
    Door,
    QueryError,
)
from node.door_connection import watch_for_death
from node.forgeries import (
    FORGERIES_PER_ADDRESS_MAX,
    FORGERIES_PER_CONNECTION_MAX,
    FORGERY_WINDOW_S,
)
from node.framing import FramedStream, FramingError
from node.protocol import (
    DOOR_VERSION,
    Answer,
    Channel,
    ClientFrame,
    Hello,
    Query,
    Refused,
    ServerFrame,
    Submission,
    SubmitEnvelopes,
    SubmitResult,
    Submitted,
    Subscribe,
    Subscribed,
    TradeEvent,
    Welcome,
)

IDLE_TIMEOUT_S = 300.0
GENUINE, FORGED = b"genuine", b"forged"


class Handler:
    """A node that answers queries, and checks envelopes when `check` is called."""

    def __init__(self) -> None:
        self.door: Door
        self.unchecked: list[tuple[int, int, tuple[bytes, ...]]] = []
        self.checks_at_once = True
        self.answering = 0
        self.answer = trio.Event()

    def welcome(self) -> Welcome:
        return Welcome(DOOR_VERSION, "node0", bytes(32), 7, 1)

    def submit(self, source: int, request: int, envelopes: tuple[bytes, ...]) -> None:
        self.unchecked.append((source, request, envelopes))
        if self.checks_at_once:
            self.check()

    def check(self) -> None:
        """Answer what waits."""
        waiting, self.unchecked = self.unchecked, []
        for source, request, envelopes in waiting:
            results = tuple(
                SubmitResult(b"", RefusalCode.SIGNATURE_INVALID if each == FORGED else None)
                for each in envelopes
            )
            self.door.reply(source, Submitted(request, results))

    def submit_opaque(self, *arguments: object) -> None:
        raise AssertionError("nobody submits here")

    async def query(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        if name == "crash":
            raise ZeroDivisionError
        if name == "slow":
            self.answering += 1
            await self.answer.wait()
        if name not in ("status", "slow"):
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

    async def submit(self, request: int, envelope: bytes, count: int = 1) -> Any:
        await self.send(SubmitEnvelopes(request, (envelope,) * count))
        return await self.receive()

    async def is_cut_off(self) -> bool:
        try:
            await self.framed.receive_frame()
        except (trio.EndOfChannel, trio.BrokenResourceError, FramingError):
            return True
        return False


class Place:
    """A running door and the way in."""

    def __init__(self, door: Door, handler: Handler, listener: trio.SocketListener) -> None:
        self.door = door
        self.handler = handler
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
    handler = Handler()
    door = handler.door = Door(handler, **chosen)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.serve, listeners)
        place = Place(door, handler, listeners[0])
        try:
            yield place
        finally:
            await place.close()
            nursery.cancel_scope.cancel()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other options")
async def test_the_kernel_gives_up_on_a_dead_client_in_minutes() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = await trio.testing.open_stream_to_socket_listener(listeners[0])
    async with client, await listeners[0].accept() as stream, listeners[0]:
        watch_for_death(stream)
        assert stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle_s = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        interval_s = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        probes = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        timeout_ms = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert 1_000 * (idle_s + interval_s * probes) == timeout_ms == 120_000


async def test_a_stranger_gets_small_frames_only() -> None:
    async with running_door() as place:
        client = await place.connect()
        await client.stream.send_all((HELLO_FRAME_MAX_BYTES + 1).to_bytes(4, "big"))
        assert await client.is_cut_off()
        known = await place.connect()
        await known.greet()
        await known.framed.send_frame(bytes(10 * HELLO_FRAME_MAX_BYTES))
        assert (await known.receive()).code == "door.malformed"


async def test_who_breaks_the_framing_is_counted_and_who_is_merely_reset_is_not() -> None:
    async with running_door() as place:
        killed, hostile = await place.connect(), await place.connect()
        await killed.greet()
        # A close that resets, as the kernel does for a process that died with bytes unread.
        killed.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await killed.framed.aclose()
        await hostile.stream.send_all((HELLO_FRAME_MAX_BYTES + 1).to_bytes(4, "big"))
        assert await hostile.is_cut_off()
        while place.door.statistics().connections:
            await trio.testing.wait_all_tasks_blocked(0.001)
        assert place.door.statistics().malformed == 1


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


async def test_a_full_door_takes_a_place_from_the_address_with_most_for_one_with_fewer(
    monkeypatch,
) -> None:
    addresses = iter(["flood", "flood", "flood", "other", "guest", "flood", "other", "third"])
    monkeypatch.setattr("node.door.group_address", lambda _: next(addresses))

    async def enter(place: Place) -> Client:
        client = await place.connect()
        await client.greet()
        return client

    async def is_turned_away(place: Place) -> bool:
        return (await (await place.connect()).receive()).code == "door.full"

    async def is_served(client: Client) -> bool:
        await client.send(Query(1, "status"))
        return isinstance(await client.receive(), Answer)

    async with running_door(connections_max=4) as place:
        first, silent, third, other = [await enter(place) for _ in range(4)]
        for client in (third, first):
            assert await is_served(client)
        guest = await enter(place)
        assert await silent.is_cut_off()
        assert await is_turned_away(place), "the crowded address gets no more"
        assert await is_turned_away(place), "nor one that would have as many then"
        newcomer = await enter(place)
        assert await third.is_cut_off()
        for client in (first, other, guest, newcomer):
            assert await is_served(client)
        assert place.door.statistics().connections == 4


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


async def test_frames_count_for_more_than_their_payload() -> None:
    async with running_door(send_queue_max_bytes=1_000 * OUTBOX_FRAME_OVERHEAD_BYTES) as place:
        await subscribe_to_trades(place)
        for _ in range(1_000):
            publish(place, 1)
        assert place.door.statistics().slow_consumers == 1


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


async def test_who_is_turned_away_hears_why_although_it_has_spoken_already() -> None:
    async with running_door(connections_max=1) as place:
        await (await place.connect()).greet()
        for _ in range(20):
            late = await place.connect()
            await late.send(Hello(DOOR_VERSION))
            assert (await late.receive()).code == "door.full"
            await late.framed.aclose()


async def test_only_so_many_clients_are_told_at_once_that_there_is_no_place(monkeypatch) -> None:
    monkeypatch.setattr("node.door.TURNED_AWAY_MAX", 2)
    async with running_door(connections_max=1) as place:
        await (await place.connect()).greet()
        late = [await place.connect() for _ in range(4)]
        await trio.testing.wait_all_tasks_blocked(0.01)
        for client in late[:2]:
            assert (await client.receive()).code == "door.full"
        for client in late[2:]:
            assert await client.is_cut_off()


async def test_a_forger_is_answered_told_why_and_cut_off_and_nobody_else_is() -> None:
    async with running_door() as place:
        forger, honest = await place.connect(), await place.connect()
        await forger.greet()
        await honest.greet()
        await honest.submit(1, GENUINE)
        for number in range(FORGERIES_PER_CONNECTION_MAX):
            await forger.submit(number, FORGED)
        last = await forger.submit(99, FORGED)
        assert last.results[0].code == RefusalCode.SIGNATURE_INVALID
        refusal = await forger.receive()
        assert (refusal.request, refusal.code) == (None, "door.forgeries")
        with trio.fail_after(5):
            assert await forger.is_cut_off()
        assert place.door.statistics().forgers == 1
        assert (await honest.submit(2, GENUINE, 200)).results[-1].code is None
        newcomer = await place.connect()
        await newcomer.greet()
        assert (await newcomer.submit(1, GENUINE)).results[0].code is None


async def test_an_address_that_forges_on_many_connections_gets_no_more_credit() -> None:
    now_s = [1000.0]
    async with running_door(clock=lambda: now_s[0]) as place:
        known, early = await place.connect(), await place.connect()
        await known.greet()
        await early.greet()
        await known.submit(1, GENUINE)
        forger = await place.connect()
        await forger.greet()
        await forger.submit(1, FORGED, FORGERIES_PER_ADDRESS_MAX)
        assert (await forger.receive()).code == "door.forgeries"
        assert await forger.is_cut_off()
        # Who has shown a valid signature is not held to account for others; who has not, is.
        assert (await known.submit(2, GENUINE)).results[0].code is None
        late = await place.connect()
        await late.greet()
        for client in (early, late):
            refusal = await client.submit(1, GENUINE)
            assert (refusal.request, refusal.code) == (1, "door.forgeries")
            await client.send(Query(2, "status"))
            assert isinstance(await client.receive(), Answer)
        # One lie spends the standing.
        await known.submit(3, FORGED)
        assert (await known.receive()).code == "door.forgeries"
        assert await known.is_cut_off()
        now_s[0] += FORGERY_WINDOW_S
        assert (await late.submit(3, GENUINE)).results[0].code is None


async def test_leaving_before_the_answer_does_not_save_an_address_its_forgeries() -> None:
    async with running_door() as place:
        place.handler.checks_at_once = False
        hasty, other = await place.connect(), await place.connect()
        await hasty.greet()
        await other.greet()
        await hasty.send(SubmitEnvelopes(1, (FORGED,) * FORGERIES_PER_ADDRESS_MAX))
        await trio.testing.wait_all_tasks_blocked(0.01)
        await hasty.framed.aclose()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert place.door.statistics().connections == 1
        place.handler.check()
        assert (await other.submit(1, GENUINE)).code == "door.forgeries"


async def test_a_client_without_a_valid_signature_gets_one_submission_checked_at_a_time() -> None:
    async with running_door() as place:
        place.handler.checks_at_once = False
        client = await place.connect()
        await client.greet()
        for number in range(4):
            await client.send(SubmitEnvelopes(number, (GENUINE,)))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(place.handler.unchecked) == 1
        place.handler.check()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(place.handler.unchecked) == 3


async def test_queries_of_all_clients_take_turns_for_a_bounded_number_of_places(
    monkeypatch,
) -> None:
    monkeypatch.setattr("node.door.QUERIES_IN_FLIGHT_MAX", 3)
    async with running_door() as place:
        greedy, other, gone = [await place.connect() for _ in range(3)]
        for client in (greedy, other, gone):
            await client.greet()
        for number in range(5):
            await greedy.send(Query(number, "slow"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        await gone.send(Query(1, "slow"))
        await other.send(Query(1, "status"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert place.handler.answering == 3
        # Who leaves takes no place with it.
        await gone.framed.aclose()
        place.handler.answer.set()
        with trio.fail_after(5):
            assert isinstance(await other.receive(), Answer)
            for _ in range(5):
                assert isinstance(await greedy.receive(), Answer)


async def test_of_large_unfinished_frames_the_first_makes_room(monkeypatch) -> None:
    monkeypatch.setattr("node.door.ARRIVING_MAX_BYTES", 1 << 20)
    async with running_door() as place:
        unfinished, claimed, small, large = [await place.connect() for _ in range(4)]
        for client in (unfinished, claimed, small, large):
            await client.greet()
        size_bytes = 600 << 10
        await unfinished.stream.send_all(size_bytes.to_bytes(4, "big") + bytes(size_bytes - 1))
        for client in (claimed, large):
            await client.stream.send_all(size_bytes.to_bytes(4, "big"))
        await small.stream.send_all((100).to_bytes(4, "big"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert place.door.statistics().connections == 4, "a claim takes no room"
        await large.stream.send_all(bytes(size_bytes - 1))
        assert await unfinished.is_cut_off()
        await large.stream.send_all(bytes(1))
        assert (await large.receive()).code == "door.malformed"
        await small.stream.send_all(bytes(100))
        assert (await small.receive()).code == "door.malformed"
        await claimed.stream.send_all(bytes(size_bytes))
        assert (await claimed.receive()).code == "door.malformed"


async def test_a_query_is_small() -> None:
    async with running_door() as place:
        client = await place.connect()
        await client.greet()
        await client.send(Query(1, "status", (bytes(QUERY_MAX_BYTES),)))
        refusal = await client.receive()
        assert (refusal.request, refusal.code) == (None, "door.malformed")
        await client.send(Query(2, "status", (bytes(QUERY_MAX_BYTES // 2),)))
        assert isinstance(await client.receive(), Answer)


async def test_no_large_frame_is_decoded_as_anything_but_a_submission(monkeypatch) -> None:
    types = []

    def decode(type_, data):
        types.append(type_)
        return decode_lenient(type_, data)

    monkeypatch.setattr("node.door.decode_lenient", decode)
    async with running_door() as place:
        client = await place.connect()
        await client.greet()
        types.clear()
        await client.send(Query(1, "book", ({number: {} for number in range(QUERY_MAX_BYTES)},)))
        assert (await client.receive()).code == "door.malformed"
        await client.send(SubmitEnvelopes(2, (bytes(QUERY_MAX_BYTES),)))
        assert isinstance(await client.receive(), Submitted)
        assert types == [Submission, Submission]
        await client.send(Query(3, "status"))
        assert isinstance(await client.receive(), Answer)
        assert types[2:] == [ClientFrame]


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
