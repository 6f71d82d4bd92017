"""Load for benchmarks, as a process of its own: `python -m localnet.bench.load KIND --dir DIR`.

It prepares (signs) first, prints `ready`, waits for a line on stdin, then sends as fast as the
nodes deliver: what is under way is bounded by their own events, so that the queues of the nodes
stay short and nothing is refused. At the end of stdin it stops and prints one JSON line.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio
from msgspec import Struct

from engine.instructions import Cancel, CancelAll, Instruction, MarketOrder, PlaceOrder, Side
from localnet.bench.observer import Counts, apply_event
from localnet.price_path import compute_base_ticks
from localnet.splitmix import SplitMix
from localnet.takers import compute_protective_ticks
from node.client import DoorClient
from node.envelopes import EnvelopeFactory, SignedEnvelope
from node.network import Network, NetworkNode, load_network
from node.protocol import Channel

NAMESPACE: Final = 1
TRANSACTION_SIZE_BYTES: Final = 512

FRAME_TRANSACTIONS: Final = 512
"""Opaque transactions of one request: 256 KiB."""

FRAMES_MADE: Final = 16
"""Different frames; each is stamped with a number before it is sent again."""

OPAQUE_IN_FLIGHT: Final = 64 << 10
"""Opaque transactions under way, all nodes together: 32 MiB."""

BUNDLE_INSTRUCTIONS: Final = 20

INSTRUCTIONS_IN_FLIGHT: Final = 16_000
"""Instructions under way, all nodes together."""

ENVELOPES_PER_REQUEST: Final = 16

CANCEL_ALL_EVERY_BUNDLES: Final = 8
"""Keeps an account's open orders far below their bound."""

EXPIRY_AHEAD_HEIGHTS: Final = 1 << 19


class LoadReport(Struct, frozen=True):
    """What the process says at its end."""

    sent: int
    """Transactions or instructions taken by the nodes."""
    refused: int
    codes: dict[str, int]
    exhausted: bool
    """All that was prepared has been sent: the load ended before the measurement."""
    cpu_s: float


class _Load:
    """What all connections share: how much was sent, how much may be under way."""

    def __init__(self, in_flight_max: int, measure: Callable[[Counts], int]) -> None:
        """`measure` says how much of it a node has announced as finished."""
        self._in_flight_max = in_flight_max
        self._measure = measure
        self.sent = 0
        self.refused = 0
        self.codes: dict[str, int] = {}
        self.exhausted = False

    def refuse(self, code: str, count: int) -> None:
        """A node took none of this."""
        self.sent -= count
        self.refused += count
        self.codes[code] = self.codes.get(code, 0) + 1

    def has_room(self, counts: Counts) -> bool:
        """May more be sent, judged by what one node has announced?"""
        return self.sent - self._measure(counts) < self._in_flight_max


class _Gate:
    """One node's connection: its events, and a way to wait for the next one."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.moved = trio.Event()

    def apply(self, event: object) -> None:
        apply_event(self.counts, event)
        self.moved.set()
        self.moved = trio.Event()


async def send_opaque(client: DoorClient, gate: _Gate, load: _Load, stamp: Iterator[int]) -> None:
    """Submit opaque frames to one node until cancelled."""
    size_bytes = FRAME_TRANSACTIONS * TRANSACTION_SIZE_BYTES
    frames = [bytearray(os.urandom(size_bytes)) for _ in range(FRAMES_MADE)]
    while True:
        while not load.has_room(gate.counts):
            await gate.moved.wait()
        number = next(stamp)
        frame = frames[number % FRAMES_MADE]
        frame[:8] = number.to_bytes(8, "big")
        load.sent += FRAME_TRANSACTIONS
        answer = await client.submit_opaque(NAMESPACE, TRANSACTION_SIZE_BYTES, bytes(frame))
        if answer.code is not None:
            load.refuse(answer.code, FRAME_TRANSACTIONS)
            await gate.moved.wait()


def make_bundle(
    random: SplitMix, network_markets: Sequence[tuple[int, int]], number: int
) -> list[Instruction]:
    """One account's bundle: 12 quotes, 7 cancels of quotes of two bundles before, 1 taker.

    `network_markets` is (market, reference price in ticks). Client ids follow from the number of
    the bundle, so cancels need no answers. Now and then a cancel of everything takes the place of
    the first cancel.
    """
    bundle: list[Instruction] = []
    for index in range(7):
        client_id = (number - 2) * 16 + index + 1
        bundle.append(Cancel(client_id=client_id) if number >= 2 else CancelAll())
    if number % CANCEL_ALL_EVERY_BUNDLES == 0:
        bundle[0] = CancelAll()
    for index in range(12):
        market, reference = network_markets[random.below(len(network_markets))]
        side = Side.BUY if random.below(2) else Side.SELL
        away = reference * (100 + random.below(2_000)) // 1_000_000 + 1
        bundle.append(
            PlaceOrder(
                market,
                side,
                reference - side * away,
                1 + random.below(10),
                client_id=number * 16 + index + 1,
            )
        )
    market, reference = network_markets[random.below(len(network_markets))]
    side = Side.BUY if random.below(2) else Side.SELL
    limit = compute_protective_ticks(side, reference)
    bundle.append(MarketOrder(market, side, limit, 1 + random.below(10)))
    return bundle


def sign_bundles(network: Network, count: int, height: int) -> list[SignedEnvelope]:
    """Sign `count` bundles, the accounts in turn."""
    factories = [
        EnvelopeFactory(network.account_secret(account.name), network.chain_id)
        for account in network.accounts
        if account.is_trader
    ]
    markets = [
        (params.market, compute_base_ticks(params.symbol, params.tick_size_microquote))
        for params in network.genesis().engine.markets
    ]
    random = SplitMix(1)
    return [
        factories[number % len(factories)].sign(
            make_bundle(random, markets, number // len(factories)), height + EXPIRY_AHEAD_HEIGHTS
        )
        for number in range(count)
    ]


async def send_envelopes(
    client: DoorClient, gate: _Gate, load: _Load, parts: Iterator[list[bytes]]
) -> None:
    """Submit prepared envelopes to one node until there are no more."""
    for part in parts:
        while not load.has_room(gate.counts):
            await gate.moved.wait()
        load.sent += len(part) * BUNDLE_INSTRUCTIONS
        for result in await client.submit(part):
            if result.code is not None:
                load.refuse(result.code, BUNDLE_INSTRUCTIONS)
    load.exhausted = True


async def run_load(kind: str, network: Network, count: int) -> LoadReport:
    """Prepare, wait for the start, send until the end of stdin."""
    stdin = trio.lowlevel.FdStream(os.dup(0))
    if kind == "opaque":
        load = _Load(OPAQUE_IN_FLIGHT, lambda counts: counts.opaque)
        stamp = iter(range(2**62))
    else:
        load = _Load(INSTRUCTIONS_IN_FLIGHT, lambda counts: counts.instructions)
        signed = sign_bundles(network, count, 0)
        parts = iter(
            [
                [envelope.data for envelope in signed[start : start + ENVELOPES_PER_REQUEST]]
                for start in range(0, len(signed), ENVELOPES_PER_REQUEST)
            ]
        )

    async def feed(node: NetworkNode) -> None:
        endpoint = node.door_endpoint()
        gate = _Gate()
        async with DoorClient.connect(endpoint.host, endpoint.port, timeout_s=30.0) as client:
            events = await client.subscribe(Channel.BLOCKS)
            async with trio.open_nursery() as nursery:
                if kind == "opaque":
                    nursery.start_soon(send_opaque, client, gate, load, stamp)
                else:
                    nursery.start_soon(send_envelopes, client, gate, load, parts)
                async for event in events:
                    gate.apply(event)

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await stdin.receive_some(1)
    async with trio.open_nursery() as nursery:
        for node in network.nodes:
            nursery.start_soon(feed, node)
        while await stdin.receive_some(64):
            pass
        nursery.cancel_scope.cancel()
    return LoadReport(
        sent=load.sent,
        refused=load.refused,
        codes=dict(sorted(load.codes.items())),
        exhausted=load.exhausted,
        cpu_s=round(time.process_time(), 2),
    )


def main() -> None:
    """Run the load."""
    parser = argparse.ArgumentParser(prog="localnet.bench.load")
    parser.add_argument("kind", choices=["opaque", "bundles"])
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--count", type=int, default=0, help="bundles to sign in advance")
    options = parser.parse_args()
    report = trio.run(run_load, options.kind, load_network(options.dir), options.count)
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")


if __name__ == "__main__":
    main()
