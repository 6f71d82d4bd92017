"""One localnet for the tests of a file: a node to attack, and who attacks it."""

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from crypto import ed25519
from crypto.codec import decode_lenient, encode
from engine.instructions import (
    Cancel,
    Instruction,
    OracleReport,
)
from localnet.network import compute_node_keys
from mempool.envelope import Envelope
from node.client import DoorClient, run_with_door
from node.config import Endpoint
from node.envelopes import EnvelopeFactory, SignedEnvelope, convert_receipts
from node.network import Network, load_network
from node.protocol import (
    DOOR_VERSION,
    Channel,
    Hello,
    ReceiptEvent,
    ReceiptLevel,
    ServerFrame,
    Welcome,
)

RECEIPTS_TIMEOUT_S = 60
RECEIPTS_VIEWS_MAX = 60
"""Leaders are drawn at random. With one of four dead, in 60 views there are two living ones in a
row, whose blocks commit, but for once in 100 million million. A view may last as long as its
machine is slow, and an idle committee has five a second: an envelope is given up when both are
over."""
STANDSTILL_MAX_S = 300
"""Nor is a committee waited for that does not even change its view."""
POLL_S = 1
DOOR_CONNECTIONS_MAX = 60
DOOR_IDLE_TIMEOUT_S = 4
CLIENT_TIMEOUT_S = 120
"""Far more than a node needs, because the machine that runs the tests may stand still."""
RSS_GROWTH_MAX_BYTES = 64 << 20
"""What all attacks of this file together may add to the attacked node."""

SETTINGS = {
    "ROTA__LIMITS__DOOR_CONNECTIONS_MAX": str(DOOR_CONNECTIONS_MAX),
    "ROTA__LIMITS__DOOR_IDLE_TIMEOUT_MS": str(DOOR_IDLE_TIMEOUT_S * 1000),
    "ROTA__LIMITS__DOOR_SEND_QUEUE_BYTES": str(1 << 16),
}


def ask_door(door: Endpoint, name: str, *arguments: object) -> Any:
    """One view of one node."""
    return run_with_door(door.host, door.port, lambda client: client.query(name, *arguments))


async def submit_and_wait(
    client: DoorClient, account: bytes, envelopes: Sequence[SignedEnvelope]
) -> dict[bytes, ReceiptEvent]:
    """Submit, and return for each envelope the event that says how it ended. Whatever else becomes
    of the account's envelopes, such as those of a test that gave up, is passed over."""
    events = await client.subscribe(Channel.RECEIPTS, account)
    results = await client.submit([envelope.data for envelope in envelopes])
    assert [result.code for result in results] == [None] * len(envelopes)
    awaited = {envelope.envelope_id for envelope in envelopes}
    ended: dict[bytes, ReceiptEvent] = {}

    async def collect() -> None:
        while len(ended) < len(awaited):
            event = await events.receive()
            assert isinstance(event, ReceiptEvent)
            is_end = event.level in (ReceiptLevel.EXECUTED, ReceiptLevel.REFUSED)
            if is_end and event.envelope_id in awaited:
                ended[event.envelope_id] = event

    began_s, first_view = trio.current_time(), await find_view(client)
    while len(ended) < len(awaited):
        with trio.move_on_after(POLL_S):
            await collect()
            break
        views = await find_view(client) - first_view
        elapsed_s = trio.current_time() - began_s
        what = f"{len(ended)} of {len(awaited)} ended in {views} views and {elapsed_s:.0f} s"
        assert elapsed_s < RECEIPTS_TIMEOUT_S or views < RECEIPTS_VIEWS_MAX, what
        assert elapsed_s < STANDSTILL_MAX_S, what
    return ended


async def find_view(client: DoorClient) -> int:
    """The view that a node is in."""
    view: int = (await client.query("status"))["consensus"]["view"]
    return view


class Target:
    """The node that is attacked, and what it was before."""

    connections_max = DOOR_CONNECTIONS_MAX

    def __init__(self, localnet: Any, network: Network) -> None:
        self.localnet = localnet
        self.network = network
        node = network.nodes[0]
        self.door = node.door_endpoint()
        self.peer = node.peer_endpoint()
        self.pid = self.ask("status")["pid"]
        self.rss_bytes = self.read_rss_bytes()

    def ask(self, name: str, *arguments: object) -> Any:
        return ask_door(self.door, name, *arguments)

    def read_rss_bytes(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
        raise AssertionError("every process has a size")


@pytest.fixture(scope="module")
def target(Localnet, tmp_path_factory) -> Iterator[Target]:  # noqa: N803  # a class
    localnet = Localnet(
        tmp_path_factory.mktemp("bad") / "net", 15_000 + os.getpid() * 97 % 900, SETTINGS
    )
    try:
        localnet.up("-n", "4", "--no-traders")
        yield Target(localnet, load_network(localnet.path))
    finally:
        localnet.rota("localnet", "down", "--dir", str(localnet.path))


@pytest.fixture
def unharmed(target: Target, wait_until) -> Iterator[Target]:
    """Hand out the target; afterwards it must be the same process, commit, and be no fatter."""
    yield target
    status = target.ask("status")
    assert status["pid"] == target.pid
    goal = status["committed_height"] + 3
    wait_until(lambda: target.ask("status")["committed_height"] >= goal, "commits go on")
    wait_until(lambda: len(target.ask("status")["peers_connected"]) == 3, "no peer was shut out")
    assert target.read_rss_bytes() - target.rss_bytes < RSS_GROWTH_MAX_BYTES


class Raw:
    """A blocking connection that says whatever it likes."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=CLIENT_TIMEOUT_S)
        self._buffer = b""

    def __enter__(self) -> "Raw":
        self.socket.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(struct.pack(">I", len(frame)) + frame for frame in frames))

    def hear(self) -> Any:
        while len(self._buffer) < 4 or len(self._buffer) < 4 + self._size():
            data = self.socket.recv(1 << 16)
            assert data, "the node hung up"
            self._buffer += data
        end = 4 + self._size()
        frame, self._buffer = self._buffer[4:end], self._buffer[end:]
        return decode_lenient(ServerFrame, frame)  # type: ignore[arg-type]  # a union

    def _size(self) -> int:
        return int.from_bytes(self._buffer[:4], "big")

    def greet(self) -> "Raw":
        self.say(encode(Hello(DOOR_VERSION)))
        assert isinstance(self.hear(), Welcome)
        return self

    def assert_cut_off(self) -> None:
        """The node has hung up, or does so before our own timeout."""
        with suppress(ConnectionError):
            while self.socket.recv(1 << 16):
                pass

    def reset(self) -> None:
        """End without a farewell, as a machine that crashed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@pytest.fixture
def connect() -> type[Raw]:
    """Open a raw connection to an address."""
    return Raw


FAR = 100_000
"""An expiry height that no test reaches."""


class Signer:
    """Envelopes of alice, good and bad."""

    def __init__(self, target: Target, door: Endpoint | None = None) -> None:
        self.target = target
        self.door = door or target.door
        self.secret = target.network.account_secret("alice")
        self.account = target.network.account("alice").account
        self.chain_id = target.network.chain_id
        self.factory = EnvelopeFactory(self.secret, self.chain_id)

    def good(self, *instructions: Instruction) -> SignedEnvelope:
        return self.factory.sign(instructions, FAR)

    def body(self, body: bytes) -> SignedEnvelope:
        return self.factory.sign_body(body, FAR)

    def changed(self, secret: bytes | None = None, **fields: object) -> bytes:
        """A good envelope with other header fields, signed all the same."""
        good = decode_lenient(Envelope, self.good(Cancel(client_id=1)).data)
        header = msgspec.structs.replace(good.header, **fields)
        signature = ed25519.sign(secret or self.secret, header.signing_bytes())
        return encode(Envelope(header, signature, good.body))

    def forged(self) -> bytes:
        good = decode_lenient(Envelope, self.good(Cancel(client_id=1)).data)
        return encode(msgspec.structs.replace(good, signature=bytes(64)))

    def other_body(self) -> bytes:
        good = decode_lenient(Envelope, self.good(Cancel(client_id=1)).data)
        return encode(msgspec.structs.replace(good, body=good.body + b"\x00"))

    def stranger(self) -> bytes:
        secret = bytes(range(32))
        return EnvelopeFactory(secret, self.chain_id).sign([Cancel(client_id=1)], FAR).data

    def ask(self, name: str, *arguments: object) -> Any:
        return ask_door(self.door, name, *arguments)

    def submit(self, data: bytes) -> str | None:
        """The door's answer to one envelope."""

        async def work() -> str | None:
            async with DoorClient.connect(*self.door) as client:
                (result,) = await client.submit([data])
                return result.code

        return trio.run(work)

    def report_prices(self, index_ticks: int) -> None:
        """Give the first market an index, as the members' oracles would."""

        async def work() -> None:
            async with DoorClient.connect(*self.door) as client:
                for node in self.target.network.nodes:
                    secret = compute_node_keys(self.target.network.manifest.seed, node.name).oracle
                    factory = EnvelopeFactory(secret, self.chain_id)
                    now_ms = client.welcome.time_ms
                    report = OracleReport(1, index_ticks, now_ms, now_ms)
                    envelope = factory.sign([report], FAR)
                    events = await submit_and_wait(client, factory.account, [envelope])
                    event = events[envelope.envelope_id]
                    assert event.level is ReceiptLevel.EXECUTED, event.code

        trio.run(work)

    def execute(self, *envelopes: SignedEnvelope) -> list[list[str]]:
        """The engine's codes of each envelope."""

        async def work() -> list[list[str]]:
            async with DoorClient.connect(*self.door) as client:
                events = await submit_and_wait(client, self.account, envelopes)
            codes = []
            for envelope in envelopes:
                event = events[envelope.envelope_id]
                assert event.level is ReceiptLevel.EXECUTED, event.code
                codes.append([each.code.value for each in convert_receipts(event.results)])
            return codes

        return trio.run(work)


@pytest.fixture(scope="module")
def signer(target: Target) -> Signer:
    return Signer(target)


@pytest.fixture
def make_signer() -> type[Signer]:
    """For envelopes that enter at another door than that of the node that is attacked."""
    return Signer
