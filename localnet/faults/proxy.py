"""The proxy between the nodes of a localnet: `python -m localnet.faults.proxy --dir DIR`.

It listens on one port for each directed link and says in `run/links.json` which; what a node dials
as `node1` arrives at node1's own port. A connection carries both directions: bytes from the dialer
obey the link dialer>listener, bytes back the opposite link. It looks at no byte that it carries.

The proxy reads the table of faults (`localnet.faults.table`) and heeds delays, bandwidths,
partitions and resets. It ends with its supervisor.
"""

import argparse
import random
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import trio

from localnet.faults.flow import Flow, LinkRule, Quality
from localnet.faults.model import (
    Bandwidth,
    Delay,
    Link,
    Partition,
    ProxyFault,
    Reset,
    kind_of,
    parse_link,
)
from localnet.faults.table import (
    POLL_S,
    ActiveFault,
    Differences,
    Journal,
    TableReader,
    journal_path,
    table_path,
    wall_ms,
)
from localnet.network import HOST
from localnet.plans import PROXY
from node.config import Endpoint, parse_endpoint
from node.groups import walk_leaves
from node.home import write_atomically
from node.network import Network, load_network

CONNECTIONS_PER_LINK_MAX: Final = 32
"""While a link is cut its dialer tries again and again; beyond this many the oldest is reset."""
CONNECT_TIMEOUT_S: Final = 5.0

_ABORT: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends a reset."""


class _Connection:
    """Two sockets, and what ends them."""

    def __init__(self, client: trio.SocketStream) -> None:
        self.streams = [client]
        self.scope = trio.CancelScope()

    def reset(self) -> None:
        """Both ends see a connection reset."""
        for stream in self.streams:
            with suppress(OSError):
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self.scope.cancel()


class Proxy:
    """All links between the nodes of one localnet."""

    def __init__(self, targets: Mapping[str, Endpoint], seed: int = 0) -> None:
        """`targets` says where each node listens."""
        self._targets = dict(targets)
        self._random = random.Random(seed)
        links = [Link(a, b) for a in targets for b in targets if a != b]
        self._rules = {link: LinkRule() for link in links}
        self._connections: dict[Link, dict[_Connection, None]] = {link: {} for link in links}
        """By dialer and listener; the oldest come first."""
        self._next_reset_ms: dict[int, int] = {}
        self._resets: Counter[int] = Counter()
        """Connections that a fault has reset, by its number."""
        self._opened = 0
        """Connections made since the start."""
        self._before: dict[int, tuple[int, int]] = {}
        """What stood in the counts when a fault began, by its number: pieces held, opened."""

    async def serve(
        self, *, task_status: trio.TaskStatus[dict[str, int]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen until cancelled; reports the port of each link."""
        ports = {}
        async with trio.open_nursery() as nursery:
            for link in self._rules:
                listeners = await trio.open_tcp_listeners(0, host=HOST)
                ports[str(link)] = listeners[0].socket.getsockname()[1]

                async def handle(client: trio.SocketStream, link: Link = link) -> None:
                    await self._carry(link, client)

                nursery.start_soon(trio.serve_listeners, handle, listeners)
            task_status.started(ports)

    def apply(self, faults: Iterable[ActiveFault], now_ms: int) -> None:
        """Heed these faults, and no others, from now on."""
        qualities = dict.fromkeys(self._rules, Quality())
        resets = {}
        for entry in faults:
            fault = entry.fault
            if isinstance(fault, Reset):
                resets[entry.id] = fault
            elif isinstance(fault, ProxyFault):
                for link in map(parse_link, fault.links):
                    qualities[link] = _worsen(qualities[link], fault)
        for link, quality in qualities.items():
            self._rules[link].set(quality)
        next_reset_ms = {}
        for number, reset in resets.items():
            due_ms = self._next_reset_ms.get(number, now_ms)
            if now_ms >= due_ms:
                self._resets[number] += self.reset(map(parse_link, reset.links))
                due_ms = now_ms + reset.interval_ms
            next_reset_ms[number] = due_ms
        self._next_reset_ms = next_reset_ms

    def begin(self, number: int, fault: ProxyFault) -> None:
        """Count what this fault hits from now on."""
        self._before[number] = (self._count_held(fault), self._opened)

    def end(self, number: int, fault: ProxyFault) -> dict[str, int]:
        """What it has hit, for the journal. Where several are on a link, each counts all there."""
        held, opened = self._before.pop(number)
        if isinstance(fault, Reset):
            return {"hits": self._resets.pop(number, 0), "opened": self._opened - opened}
        return {"hits": self._count_held(fault) - held}

    def _count_held(self, fault: ProxyFault) -> int:
        return sum(self._rules[parse_link(each)].held for each in fault.links)

    def reset(self, links: Iterable[Link]) -> int:
        """Reset all connections that carry one of these links; returns how many."""
        pairs = {Link(*ends) for link in links for ends in (link, reversed(link))}
        connections = [each for pair in sorted(pairs) for each in self._connections[pair]]
        for connection in connections:
            connection.reset()
        return len(connections)

    async def _carry(self, link: Link, client: trio.SocketStream) -> None:
        """Carry one connection to its end, whatever ends it."""
        there, back = self._rules[link], self._rules[Link(link.receiver, link.sender)]
        connection = _Connection(client)
        known = self._connections[link]
        known[connection] = None
        if len(known) > CONNECTIONS_PER_LINK_MAX:
            next(iter(known)).reset()
        try:
            with connection.scope, trio.move_on_after(CONNECT_TIMEOUT_S) as connecting:
                server = await _connect(self._targets[link.receiver])
                connection.streams.append(server)
                self._opened += 1
                connecting.deadline = float("inf")
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(Flow(there, self._random).run, client, server)
                    nursery.start_soon(Flow(back, self._random).run, server, client)
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            # One end is gone, or nobody listens there: the other end must hear of it.
            connection.reset()
        finally:
            del known[connection]
            for stream in connection.streams:
                stream.socket.close()


async def _connect(target: Endpoint) -> trio.SocketStream:
    return await trio.open_tcp_stream(target.host, target.port)


def _worsen(quality: Quality, fault: ProxyFault) -> Quality:
    """Add one fault to what a link does."""
    match fault:
        case Delay(delay_ms=delay_ms, jitter_ms=jitter_ms):
            return quality._replace(
                delay_s=quality.delay_s + delay_ms / 1_000,
                jitter_s=quality.jitter_s + jitter_ms / 1_000,
            )
        case Bandwidth(bytes_per_s=limit):
            return quality._replace(bytes_per_s=min(limit, quality.bytes_per_s or limit))
        case Partition():
            return quality._replace(is_cut=True)
        case Reset():
            return quality


# ---- the process ---------------------------------------------------------------------------


def links_path(run_dir: Path) -> Path:
    """Where the proxy of a localnet says which port is which link's."""
    return run_dir / "links.json"


def read_links(run_dir: Path) -> dict[Link, int]:
    """The ports of a running proxy. Raises `OSError` or `msgspec.MsgspecError`."""
    ports = msgspec.json.decode(links_path(run_dir).read_bytes(), type=dict[str, int])
    return {parse_link(text): port for text, port in ports.items()}


async def run_proxy(network: Network, others: Mapping[str, Endpoint]) -> None:
    """Serve the links of a localnet, and of others besides, until SIGTERM."""
    proxy = Proxy({node.name: node.peer_endpoint() for node in network.nodes} | dict(others))
    journal = Journal(journal_path(network.path), PROXY)
    differences = Differences()

    def note(reader: TableReader) -> None:
        mine = {each.id: each for each in reader.active if isinstance(each.fault, ProxyFault)}
        for event, entry in differences.take(mine):
            assert isinstance(entry.fault, ProxyFault)
            if event == "began":
                proxy.begin(entry.id, entry.fault)
            counts = proxy.end(entry.id, entry.fault) if event == "ended" else {}
            journal.note(event, id=entry.id, kind=kind_of(entry.fault), **counts)

    reader = TableReader(table_path(network.run_dir), note)
    async with trio.open_nursery() as nursery:
        ports = await nursery.start(proxy.serve)
        write_atomically(links_path(network.run_dir), msgspec.json.encode(ports))
        nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
        while True:
            active = reader.active
            reader.refresh()
            if reader.active or active:
                proxy.apply(reader.active, wall_ms())
            await trio.sleep(POLL_S)


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


def main() -> int:
    """Run the proxy of one localnet."""
    parser = argparse.ArgumentParser(prog="localnet.faults.proxy", description="Proxy of links.")
    parser.add_argument("--dir", type=Path, required=True, help="the localnet's folder")
    parser.add_argument("--target", action="append", default=[], help="NAME=HOST:PORT besides")
    options = parser.parse_args()
    exit_code = 0
    pairs = (each.split("=", 1) for each in options.target)
    others = {name: parse_endpoint(text) for name, text in pairs}
    try:
        trio.run(run_proxy, load_network(options.dir), others)
    except* OSError as group:
        sys.stderr.write(f"error: {next(walk_leaves(group))}\n")
        exit_code = 1
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
