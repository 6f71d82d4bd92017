"""The proxy on loopback: what arrives, in which order, how late, and what a reset does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from localnet.faults import flow
from localnet.faults.model import decode_fault
from localnet.faults.proxy import CONNECTIONS_PER_LINK_MAX, Proxy
from localnet.faults.table import ActiveFault
from node.config import Endpoint

HOST = "127.0.0.1"
TIMEOUT_S = 10.0
UNREACHED_S = 0.15
"""Long enough for loopback by far: what has not come by then is held."""


class World:
    """Two nodes: `a` dials `b` through the proxy; `b` is a server in this test."""

    def __init__(
        self, proxy: Proxy, ports: dict[str, int], accepted: trio.MemoryReceiveChannel
    ) -> None:
        self.proxy = proxy
        self.port = ports["a>b"]
        self.port_to_nobody = ports["b>a"]
        self.accepted = accepted
        self.opened: list[trio.SocketStream] = []
        self.faults: list[ActiveFault] = []

    def add(self, kind: str, **parameters: object) -> None:
        fault = decode_fault({"kind": kind, **parameters}, ("a", "b"))
        self.faults.append(ActiveFault(len(self.faults) + 1, fault, 0, None))
        self.proxy.apply(self.faults, 0)

    def heal(self) -> None:
        self.faults.clear()
        self.proxy.apply((), 0)

    async def dial(self) -> tuple[trio.SocketStream, trio.SocketStream]:
        """Both ends of a new connection."""
        client = await trio.open_tcp_stream(HOST, self.port)
        server = await self.accepted.receive()
        self.opened += [client, server]
        return client, server


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    put, accepted = trio.open_memory_channel[trio.SocketStream](100)

    async def accept(stream: trio.SocketStream) -> None:
        await put.send(stream)
        await trio.sleep_forever()

    with trio.fail_after(TIMEOUT_S):
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host=HOST)
            nursery.start_soon(trio.serve_listeners, accept, listeners)
            port = listeners[0].socket.getsockname()[1]
            proxy = Proxy({"a": Endpoint(HOST, 1), "b": Endpoint(HOST, port)})
            ports = await nursery.start(proxy.serve)
            world = World(proxy, ports, accepted)
            try:
                yield world
            finally:
                nursery.cancel_scope.cancel()
                for stream in world.opened:
                    stream.socket.close()


async def receive(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = await stream.receive_some(size - len(data))
        assert chunk, "the stream ended"
        data += chunk
    return data


async def is_silent(stream: trio.SocketStream) -> bool:
    with trio.move_on_after(UNREACHED_S):
        await stream.receive_some(1)
        return False
    return True


async def test_without_faults_bytes_pass_both_ways_and_so_does_the_end():
    async with open_world() as world:
        client, server = await world.dial()
        await client.send_all(b"ping" * 5_000)
        assert await receive(server, 20_000) == b"ping" * 5_000
        await server.send_all(b"pong")
        assert await receive(client, 4) == b"pong"
        await client.send_eof()
        assert await server.receive_some() == b""
        await server.send_all(b"still")
        assert await receive(client, 5) == b"still"


async def test_a_delay_makes_bytes_late_but_loses_and_reorders_none():
    async with open_world() as world:
        client, server = await world.dial()
        world.add("delay", links=["a>b"], delay_ms=120, jitter_ms=60)
        began = trio.current_time()
        sent = b"".join(bytes([number]) * 10 for number in range(50))
        for number in range(50):
            await client.send_all(bytes([number]) * 10)
            await trio.lowlevel.checkpoint()
        assert await receive(server, len(sent)) == sent
        assert trio.current_time() - began >= 0.06
        began = trio.current_time()
        await server.send_all(b"x")
        await receive(client, 1)
        world.heal()
        await client.send_all(b"y")
        await receive(server, 1)
        assert trio.current_time() - began < 5


async def test_what_waits_for_a_long_delay_goes_on_when_it_heals():
    async with open_world() as world:
        client, server = await world.dial()
        world.add("delay", links=["a>b"], delay_ms=60_000)
        await client.send_all(b"late")
        assert await is_silent(server)
        world.heal()
        assert await receive(server, 4) == b"late"


async def test_a_one_way_partition_holds_one_direction_until_it_heals():
    async with open_world() as world:
        client, server = await world.dial()
        world.add("partition", links=["a>b"])
        await client.send_all(b"held")
        await server.send_all(b"free")
        assert await receive(client, 4) == b"free"
        assert await is_silent(server)
        world.heal()
        assert await receive(server, 4) == b"held"


async def test_a_partition_holds_ends_and_new_connections_too():
    async with open_world() as world:
        client, server = await world.dial()
        world.add("partition", links=["a<>b"])
        await client.aclose()
        assert await is_silent(server)
        other, other_server = await world.dial()
        await other.send_all(b"new")
        assert await is_silent(other_server)
        world.heal()
        assert await receive(other_server, 3) == b"new"
        assert await server.receive_some() == b""


async def test_bandwidth_bounds_the_bytes_of_a_time():
    async with open_world() as world:
        client, server = await world.dial()
        world.add("bandwidth", links=["a>b"], bytes_per_s=100_000)
        began = trio.current_time()
        await client.send_all(bytes(50_000))
        await receive(server, 50_000)
        # The last piece is not waited for.
        assert trio.current_time() - began >= 0.4


async def test_a_reset_breaks_both_ends_and_comes_again():
    async with open_world() as world:
        client, server = await world.dial()
        await client.send_all(b"x")
        await receive(server, 1)
        world.add("reset", links=["b>a"], interval_ms=1_000)
        for stream in (client, server):
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some(1)
        client, server = await world.dial()
        world.proxy.apply(world.faults, 500)
        await client.send_all(b"y")
        assert await receive(server, 1) == b"y"
        world.proxy.apply(world.faults, 1_000)
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some(1)


async def test_where_nobody_listens_the_dialer_is_turned_away():
    async with open_world() as world:
        client = await trio.open_tcp_stream(HOST, world.port_to_nobody)
        world.opened.append(client)
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some(1)


async def test_a_full_pipe_stops_reading_its_sender(monkeypatch):
    monkeypatch.setattr(flow, "WAITING_MAX_BYTES", 1_000)
    async with open_world() as world:
        client, server = await world.dial()
        world.add("partition", links=["a>b"])
        sent = 0
        with trio.move_on_after(0.5):
            while sent < 64 << 20:
                await client.send_all(bytes(1 << 20))
                sent += 1 << 20
        assert sent < 32 << 20
        world.heal()
        assert await receive(server, sent) == bytes(sent)


async def test_the_oldest_connection_makes_room_for_a_new_one_on_a_full_link():
    async with open_world() as world:
        first, _ = await world.dial()
        for _ in range(CONNECTIONS_PER_LINK_MAX):
            await world.dial()
        with pytest.raises(trio.BrokenResourceError):
            await first.receive_some(1)


async def test_what_a_fault_hits_is_counted_from_its_beginning_to_its_end():
    async with open_world() as world:
        client, server = await world.dial()
        world.add("delay", links=["a>b"], delay_ms=1)
        entry = world.faults[0]
        world.proxy.begin(entry.id, entry.fault)
        await client.send_all(b"late")
        assert await receive(server, 4) == b"late"
        assert world.proxy.end(entry.id, entry.fault) == {"hits": 1}
        world.proxy.begin(entry.id, entry.fault)
        assert world.proxy.end(entry.id, entry.fault) == {"hits": 0}


async def test_a_reset_counts_what_it_ended_and_what_came_again():
    async with open_world() as world:
        await world.dial()
        fault = decode_fault({"kind": "reset", "links": ["b>a"]}, ("a", "b"))
        world.proxy.begin(1, fault)
        world.proxy.apply([ActiveFault(1, fault, 0, None)], 0)
        client, server = await world.dial()
        await client.send_all(b"x")
        await receive(server, 1)
        assert world.proxy.end(1, fault) == {"hits": 1, "opened": 1}
