"""Real nodes under bad input: it gets a stable code, the nodes go on, memory stays bounded."""

import json
import os
import random
import resource
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw
import msgpack
import msgspec
import pytest
import trio

from crypto import ed25519
from crypto.codec import decode_lenient, encode
from engine.instructions import (
    Amend,
    Bundle,
    Cancel,
    CancelAll,
    Instruction,
    MarketOrder,
    OracleReport,
    PlaceOrder,
    Side,
)
from engine.limits import INSTRUCTIONS_PER_BUNDLE_MAX, ORDER_SIZE_MAX_LOTS, PRICE_MAX_TICKS
from localnet.network import compute_node_keys
from mempool.envelope import BodyKind, Envelope
from node.client import DoorClient, run_with_door
from node.config import Endpoint
from node.envelopes import EnvelopeFactory, SignedEnvelope, convert_receipts
from node.exit_codes import ExitCode
from node.home import NodeHome
from node.network import Network, load_network
from node.protocol import (
    DOOR_FRAME_MAX_BYTES,
    DOOR_VERSION,
    SUBSCRIPTIONS_MAX,
    Answer,
    Channel,
    Hello,
    Query,
    ReceiptEvent,
    ReceiptLevel,
    Refused,
    ServerFrame,
    Subscribe,
    Welcome,
)
from node.transport.certificate import make_certificate, make_client_context
from node.transport.handshake import BULK_PREAMBLE, CONTROL_PREAMBLE
from node.transport.network import HANDSHAKES_MAX

SEED = 20_240_817
RECEIPTS_TIMEOUT_S = 30
DOOR_CONNECTIONS_MAX = 60
DOOR_IDLE_TIMEOUT_S = 2
CLIENT_TIMEOUT_S = 40
"""Far more than a node needs, because the machine that runs the tests may stand still."""
INTERRUPT_TIMEOUT_S = 10
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
    """Submit, and return for each envelope the event that says how it ended."""
    events = await client.subscribe(Channel.RECEIPTS, account)
    results = await client.submit([envelope.data for envelope in envelopes])
    assert [result.code for result in results] == [None] * len(envelopes)
    ended: dict[bytes, ReceiptEvent] = {}
    with trio.fail_after(RECEIPTS_TIMEOUT_S):
        while len(ended) < len(envelopes):
            event = await events.receive()
            assert isinstance(event, ReceiptEvent)
            if event.level in (ReceiptLevel.EXECUTED, ReceiptLevel.REFUSED):
                ended[event.envelope_id] = event
    return ended


class Target:
    """The node that is attacked, and what it was before."""

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
    wait_until(lambda: target.ask("status")["committed_height"] >= goal, 10, "commits go on")
    assert len(target.ask("status")["peers_connected"]) == 3
    assert target.read_rss_bytes() - target.rss_bytes < RSS_GROWTH_MAX_BYTES


# ---- the order door ------------------------------------------------------------------------


class Raw:
    """A blocking connection that says whatever it likes."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=CLIENT_TIMEOUT_S)
        self._buffer = b""

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


@contextmanager
def raw(address: tuple[str, int]) -> Iterator[Raw]:
    connection = Raw(address)
    with connection.socket:
        yield connection


def test_random_bytes_on_the_door(unharmed: Target) -> None:
    dice = random.Random(SEED)
    for number in range(200):
        connection = Raw(unharmed.door)
        if number % 3 == 0:
            connection.greet()
        connection.socket.sendall(dice.randbytes(dice.randint(1, 3000)))
        if number % 2:
            connection.reset()
        else:
            connection.socket.close()


def test_lengths_beyond_the_limit_end_the_connection_unread(unharmed: Target) -> None:
    for greeted, length in (
        (False, 2**32 - 1),
        (False, 1 << 20),
        (True, 2**32 - 1),
        (True, DOOR_FRAME_MAX_BYTES + (64 << 10) + 1),
    ):
        with raw(unharmed.door) as connection:
            if greeted:
                connection.greet()
            connection.socket.sendall(length.to_bytes(4, "big"))
            connection.assert_cut_off()


def test_frames_cut_in_the_middle(unharmed: Target) -> None:
    before = unharmed.ask("status")["door"]["malformed"]
    for _ in range(50):
        with raw(unharmed.door) as connection:
            connection.greet()
            connection.socket.sendall((1 << 20).to_bytes(4, "big") + bytes(1000))
    assert unharmed.ask("status")["door"]["malformed"] >= before + 50


def nest(depth: int) -> bytes:
    """A query whose argument is that many lists in each other."""
    return encode(Query(1, "status", (0,)))[:-1] + b"\x91" * depth + b"\xc0"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"", "door.malformed"),
        (b"\xc1", "door.malformed"),
        (b"\xdd\xff\xff\xff\xff", "door.malformed"),
        (msgpack.packb({"hello": 1}), "door.malformed"),
        (msgpack.packb(["unheard_of", 1]), "door.malformed"),
        (msgpack.packb(["query", -1, "status", []]), "door.malformed"),
        (msgpack.packb(["query", 1, "x" * 33, []]), "door.malformed"),
        (msgpack.packb(["submit", 1, []]), "door.malformed"),
        (msgpack.packb(["submit", 1, ["text"]]), "door.malformed"),
        (msgpack.packb(["submit", 1, [b""] * 257]), "door.malformed"),
        (msgpack.packb(["submit", 1, [bytes(100_000)]]), "door.malformed"),
        (msgpack.packb(["subscribe", 1, "secrets"]), "door.malformed"),
        (nest(100_000), "door.malformed"),
        (nest(1_010), "door.malformed"),
        (encode(Hello(DOOR_VERSION + 1)), "door.version"),
        (encode(Query(1, "nonsense")), "query.unknown"),
        (encode(Query(1, "block", (-1,))), "query.malformed"),
        (encode(Query(1, "block", (2**63,))), "query.malformed"),
        (encode(Query(1, "book", (1, 10**9))), "query.malformed"),
        (encode(Query(1, "account", (b"short",))), "query.malformed"),
        (encode(Query(1, "block", (2**62,))), "block.unknown"),
        (encode(Query(1, "envelope", (bytes(32),))), "envelope.unknown"),
        (encode(Subscribe(1, Channel.RECEIPTS)), "door.subscription"),
        (encode(Subscribe(1, Channel.BLOCKS, bytes(32))), "door.subscription"),
    ],
)
def test_a_request_that_cannot_be_served_gets_a_code_and_the_connection_lives(
    target: Target, frame: bytes, code: str
) -> None:
    with raw(target.door) as connection:
        connection.greet().say(frame)
        refusal = connection.hear()
        assert isinstance(refusal, Refused)
        assert refusal.code == code
        assert refusal.detail
        connection.say(encode(Query(2, "status")))
        assert isinstance(connection.hear(), Answer)


@pytest.mark.parametrize("depth", range(900, 1_000, 7))
def test_no_depth_of_nesting_ends_more_than_a_request(target: Target, depth: int) -> None:
    with raw(target.door) as connection:
        connection.greet()
        for name in ("status", "book", "block"):
            frame = encode(Query(1, name, (0,)))[:-1] + b"\x91" * depth + b"\xc0"
            connection.say(frame)
            connection.hear()
        connection.say(encode(Query(2, "status")))
        assert isinstance(connection.hear(), Answer)


def test_requests_out_of_turn_get_codes(unharmed: Target) -> None:
    with raw(unharmed.door) as connection:
        connection.say(encode(Query(1, "status")))
        assert connection.hear().code == "door.no_hello"
        connection.greet()
        # The engine answers from another process, so the first is still open.
        connection.say(encode(Query(5, "accounts")), encode(Query(5, "accounts")))
        answers = [connection.hear(), connection.hear()]
        assert {type(answer) for answer in answers} == {Refused, Answer}
        refused = next(answer for answer in answers if isinstance(answer, Refused))
        assert refused.code == "door.duplicate_request"
        for number in range(SUBSCRIPTIONS_MAX):
            connection.say(encode(Subscribe(number, Channel.TRADES)))
            connection.hear()
        connection.say(encode(Subscribe(99, Channel.TRADES)))
        assert connection.hear().code == "door.subscription"


def test_slow_connections_are_cut_off_in_time(unharmed: Target) -> None:
    dribbles = encode(Hello(DOOR_VERSION))
    with ExitStack() as stack:
        silent = [stack.enter_context(raw(unharmed.door)) for _ in range(15)]
        half = [stack.enter_context(raw(unharmed.door)) for _ in range(15)]
        known = [stack.enter_context(raw(unharmed.door)) for _ in range(15)]
        for connection in half:
            connection.socket.sendall(len(dribbles).to_bytes(4, "big") + dribbles[:1])
        for connection in known:
            connection.greet().socket.sendall(b"\x00\x00\x00\x20half a frame")
        for connection in (*silent, *half, *known):
            connection.assert_cut_off()


def test_more_connections_than_places(unharmed: Target, wait_until) -> None:
    with ExitStack() as stack:
        # Silent ones make room, so the door stays open to whoever greets.
        for _ in range(DOOR_CONNECTIONS_MAX + 20):
            stack.enter_context(raw(unharmed.door))
        stack.enter_context(raw(unharmed.door)).greet()
    with ExitStack() as stack:
        refusals = []
        for _ in range(DOOR_CONNECTIONS_MAX + 10):
            connection = stack.enter_context(raw(unharmed.door))
            connection.say(encode(Hello(DOOR_VERSION)))
            answer = connection.hear()
            if isinstance(answer, Refused):
                refusals.append(answer.code)
        assert set(refusals) == {"door.full"}
        assert len(refusals) >= 10
    wait_until(lambda: has_room(unharmed), 5, "the places are free again")


def has_room(target: Target) -> bool:
    with raw(target.door) as connection:
        connection.say(encode(Hello(DOOR_VERSION)))
        return isinstance(connection.hear(), Welcome)


def flood(connection: Raw) -> None:
    """Ask and never listen, until the node hangs up."""
    for number in range(100_000):
        connection.say(encode(Query(number, "status")))


def test_a_client_that_never_reads_is_cut_off(unharmed: Target) -> None:
    before = unharmed.ask("status")["door"]["slow_consumers"]
    with raw(unharmed.door) as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        connection.greet()
        with pytest.raises(ConnectionError):
            flood(connection)
    assert unharmed.ask("status")["door"]["slow_consumers"] == before + 1


# ---- the peer port -------------------------------------------------------------------------


def make_client_hello(context: ssl.SSLContext) -> bytes:
    """The first flight of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def stranger_context(target: Target) -> ssl.SSLContext:
    """What a client needs that trusts this node and is known to nobody."""
    secret = random.Random(SEED).randbytes(32)
    peers = target.network.home("node1").load_config().config.peers
    return make_client_context(
        secret, make_certificate(secret, "node1"), [peers["node0"].certificate]
    )


def test_garbage_and_cut_handshakes_on_the_peer_port(unharmed: Target) -> None:
    dice = random.Random(SEED)
    hello = make_client_hello(stranger_context(unharmed))
    for number in range(100):
        opening = (b"", CONTROL_PREAMBLE, BULK_PREAMBLE, CONTROL_PREAMBLE + hello)[number % 4]
        rest = dice.randbytes(dice.randint(0, 500)) if number % 4 < 3 else b""
        cut = dice.randint(1, len(opening)) if number % 4 == 3 else len(opening)
        connection = Raw(unharmed.peer)
        connection.socket.sendall(opening[:cut] + rest)
        if number % 2:
            connection.reset()
        else:
            connection.socket.close()


def test_a_certificate_that_nobody_registered_is_not_let_in(unharmed: Target) -> None:
    def knock() -> bytes:
        with socket.create_connection(unharmed.peer, timeout=10) as stream:
            stream.sendall(CONTROL_PREAMBLE)
            with stranger_context(unharmed).wrap_socket(stream) as tls:
                # In TLS 1.3 a client hears only after its own last flight that it was refused.
                return tls.recv(1)

    with suppress(ssl.SSLError, ConnectionError):
        assert knock() == b""
    errors = unharmed.ask("status")["network"]["errors"]
    assert errors.get("peer.tls", 0) + errors.get("peer.certificate", 0) > 0
    assert "peer.internal" not in errors


def test_idle_connections_on_the_peer_port_keep_nobody_out(unharmed: Target, wait_until) -> None:
    with ExitStack() as stack:
        for number in range(200):
            connection = stack.enter_context(raw(unharmed.peer))
            if number % 2:
                connection.socket.sendall(CONTROL_PREAMBLE)
        status = unharmed.ask("status")
        assert status["network"]["handshakes"] <= HANDSHAKES_MAX
        # A member that comes back now must get in between them.
        unharmed.localnet.kill("node3")
        unharmed.localnet.restart("node3")
        wait_until(
            lambda: len(unharmed.ask("status")["peers_connected"]) == 3, 30, "node3 is connected"
        )


# ---- envelopes -----------------------------------------------------------------------------

FAR = 100_000
"""An expiry height that no test reaches."""

INDEX_TICKS = 600_000


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

    def submit(self, data: bytes) -> str | None:
        """The door's answer to one envelope."""

        async def work() -> str | None:
            async with DoorClient.connect(*self.door) as client:
                (result,) = await client.submit([data])
                return result.code

        return trio.run(work)

    def report_prices(self) -> None:
        """Give the first market an index, as the members' oracles would."""

        async def work() -> None:
            async with DoorClient.connect(*self.door) as client:
                for node in self.target.network.nodes:
                    secret = compute_node_keys(self.target.network.manifest.seed, node.name).oracle
                    factory = EnvelopeFactory(secret, self.chain_id)
                    now_ms = client.welcome.time_ms
                    report = OracleReport(1, INDEX_TICKS, now_ms, now_ms)
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


BAD_ENVELOPES: list[tuple[str, Callable[[Signer], bytes]]] = [
    ("envelope.malformed", lambda signer: b"garbage"),
    ("envelope.malformed", lambda signer: signer.good(Cancel(client_id=1)).data + b"\x00"),
    ("envelope.malformed", lambda signer: signer.good(Cancel(client_id=1)).data[:-1]),
    ("envelope.wrong_chain", lambda signer: signer.changed(chain_id=bytes(32))),
    ("envelope.namespace_unsupported", lambda signer: signer.changed(namespace=7)),
    ("envelope.kind_unsupported", lambda signer: signer.changed(kind=BodyKind.SEALED)),
    ("envelope.keys_malformed", lambda signer: signer.changed(kind=BodyKind.KEYS)),
    ("envelope.body_mismatch", lambda signer: signer.other_body()),
    ("envelope.signature_invalid", lambda signer: signer.forged()),
    ("envelope.signature_invalid", lambda signer: signer.changed(bytes(32))),
    ("envelope.expired", lambda signer: signer.changed(expiry_height=1)),
    ("envelope.expiry_too_far", lambda signer: signer.changed(expiry_height=2**62)),
    ("nonce.too_old", lambda signer: signer.changed(nonce=1)),
    ("nonce.too_far", lambda signer: signer.changed(nonce=2**62)),
    ("account.unknown", lambda signer: signer.stranger()),
    (
        "key.unauthorised",
        lambda signer: signer.changed(
            bytes(range(32)), signer=ed25519.public_key(bytes(range(32)))
        ),
    ),
]


def test_a_bad_envelope_is_refused_at_the_door_and_changes_nothing(
    unharmed: Target, signer: Signer
) -> None:
    before = unharmed.ask("account", signer.account), unharmed.ask("orders", signer.account)
    codes = [signer.submit(make(signer)) for _, make in BAD_ENVELOPES]
    assert codes == [code for code, _ in BAD_ENVELOPES]
    assert (
        unharmed.ask("account", signer.account),
        unharmed.ask("orders", signer.account),
    ) == before


def test_an_envelope_counts_once(unharmed: Target, signer: Signer) -> None:
    envelope = signer.good(Cancel(client_id=1))
    assert signer.execute(envelope) == [["order.unknown"]]
    assert signer.submit(envelope.data) == "nonce.duplicate"
    assert signer.submit(signer.changed(nonce=envelope.nonce)) == "nonce.duplicate"


def bid(**fields: Any) -> PlaceOrder:
    """An order that would rest far below the market."""
    defaults = {"market": 1, "side": Side.BUY, "price_ticks": INDEX_TICKS - 1_000, "size_lots": 1}
    return PlaceOrder(**defaults | fields)


def bundle(*instructions: Instruction) -> bytes:
    return encode(Bundle(tuple(instructions)))


BAD_INSTRUCTIONS: list[tuple[str, Instruction]] = [
    ("order.unknown_market", bid(market=999)),
    ("order.unknown_market", bid(market=-1)),
    ("order.unknown_market", bid(market=2**63 - 1)),
    ("order.size_not_positive", bid(size_lots=0)),
    ("order.size_not_positive", bid(size_lots=-(2**63))),
    ("order.size_overflow", bid(size_lots=ORDER_SIZE_MAX_LOTS + 1)),
    ("order.size_overflow", bid(size_lots=2**63 - 1)),
    ("order.price_not_positive", bid(price_ticks=0)),
    ("order.price_not_positive", bid(price_ticks=-1)),
    ("order.price_overflow", bid(price_ticks=PRICE_MAX_TICKS + 1)),
    ("order.price_overflow", bid(price_ticks=2**64 - 1)),
    (
        "order.notional_overflow",
        bid(price_ticks=PRICE_MAX_TICKS, size_lots=ORDER_SIZE_MAX_LOTS),
    ),
    ("order.client_id_invalid", bid(client_id=-1)),
    ("order.good_til_invalid", bid(good_til_ms=-1)),
    ("order.price_not_positive", MarketOrder(1, Side.BUY, 0, 1)),
    ("order.unknown", Cancel(order_id=2**63 - 1)),
    ("order.reference_invalid", Cancel()),
    ("order.unknown_market", CancelAll(market=999)),
    ("order.unknown", Amend(1, 0, 500_000, 1)),
    ("oracle.not_a_reporter", OracleReport(1, 600_000, 1, 1)),
]

BAD_BUNDLES: list[tuple[str, bytes]] = [
    ("bundle.malformed", b"\xc1"),
    ("bundle.malformed", msgpack.packb([[[99, 1]]])),
    ("bundle.malformed", msgpack.packb([[[1, 1, 1, 1.5, 1]]])),
    ("bundle.malformed", b"\x91" * 60_000),
    ("bundle.empty", bundle()),
    (
        "bundle.too_many_instructions",
        bundle(*[Cancel(client_id=1)] * (INSTRUCTIONS_PER_BUNDLE_MAX + 1)),
    ),
]


def test_bad_instructions_get_receipts_and_change_nothing(unharmed: Target, signer: Signer) -> None:
    signer.report_prices()
    before = unharmed.ask("account", signer.account), unharmed.ask("orders", signer.account)
    instructions = [instruction for _, instruction in BAD_INSTRUCTIONS]
    first, *others = signer.execute(
        signer.good(*instructions), *(signer.body(body) for _, body in BAD_BUNDLES)
    )
    assert first == [code for code, _ in BAD_INSTRUCTIONS]
    assert others == [[code] for code, _ in BAD_BUNDLES]
    assert (
        unharmed.ask("account", signer.account),
        unharmed.ask("orders", signer.account),
    ) == before
    # The very next good one goes through.
    assert signer.execute(signer.good(bid(client_id=7))) == [["ok"]]
    assert len(unharmed.ask("orders", signer.account)) == len(before[1]) + 1
    assert signer.execute(signer.good(CancelAll())) == [["ok"]]


# ---- the disk ------------------------------------------------------------------------------

LIMITED_NODE = "node3"


def test_a_node_that_can_write_no_more_ends_with_72_and_loses_nothing(
    target: Target, signer: Signer, wait_until
) -> None:
    localnet, network = target.localnet, target.network
    node = next(node for node in network.nodes if node.name == LIMITED_NODE)
    home = network.home(LIMITED_NODE)
    before = Signer(target, node.door_endpoint())
    acknowledged = before.good(Cancel(client_id=1))
    assert before.execute(acknowledged) == [["order.unknown"]]
    # As when the disk is full, every write fails, also those of the log and of stderr.
    pid = localnet.status()[LIMITED_NODE]["pid"]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    wait_until(lambda: not localnet.status()[LIMITED_NODE]["up"], 20, "the node ends")
    assert localnet.status()[LIMITED_NODE]["exit_code"] == ExitCode.STORAGE
    height = localnet.height()
    wait_until(lambda: localnet.height() >= height + 3, 20, "the other three go on")
    meanwhile = signer.good(Cancel(client_id=1))
    assert signer.execute(meanwhile) == [["order.unknown"]]

    localnet.restart(LIMITED_NODE)
    goal = localnet.height()
    wait_until(
        lambda: (localnet.status()[LIMITED_NODE]["executed_height"] or 0) >= goal,
        40,
        "the node has caught up",
    )
    for envelope in (acknowledged, meanwhile):
        view = ask_door(node.door_endpoint(), "envelope", envelope.envelope_id)
        assert view["level"] == "executed"
    assert home.read_halted() is None


@pytest.fixture
def stopped_home(target: Target, signer: Signer, wait_until) -> Iterator[NodeHome]:
    """The home of a killed node with a history; whatever happens to its data is undone."""
    localnet = target.localnet
    home = target.network.home(LIMITED_NODE)

    def has_caught_up() -> bool:
        return (localnet.status()[LIMITED_NODE]["executed_height"] or 0) >= goal

    assert signer.execute(signer.good(Cancel(client_id=1))) == [["order.unknown"]]
    goal = localnet.height()
    wait_until(has_caught_up, 40, "the node has it all")
    localnet.kill(LIMITED_NODE)
    wait_until(lambda: not localnet.status()[LIMITED_NODE]["up"], 10, "the node is dead")
    backup = home.path / "backup"
    shutil.copytree(home.data_dir, backup)
    yield home
    shutil.rmtree(home.data_dir)
    backup.rename(home.data_dir)
    localnet.restart(LIMITED_NODE)
    goal = localnet.height()
    wait_until(has_caught_up, 40, "the node is back")


def overwrite_head(path: Path) -> None:
    # A killed process leaves its newest pages, often the first one too, in the log beside it.
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = bytearray(path.read_bytes())
    data[:64] = bytes(64)
    path.write_bytes(data)


def drop(path: Path) -> None:
    for each in path.parent.glob(path.name + "*"):
        each.unlink()


def cut_segments(path: Path) -> None:
    names = [each for each in path.iterdir() if not each.name.startswith("index.db")]
    assert names, "the node has stored batches"
    for each in names:
        os.truncate(each, 10)


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: list[tuple[str, Callable[[NodeHome], None], ExitCode, str]] = [
    ("safety.db is gone", lambda home: drop(home.safety_path), ExitCode.REFUSED_TO_SIGN,
     "safety.missing"),
    ("safety.db is garbage", lambda home: overwrite_head(home.safety_path), ExitCode.STORAGE,
     "storage.corrupt"),
    ("a bit in the log of safety.db",
     lambda home: flip_bit(home.safety_path.with_name("safety.db-wal")), ExitCode.STORAGE,
     "storage.corrupt"),
    ("chain.db is garbage", lambda home: overwrite_head(home.chain_path), ExitCode.STORAGE,
     "storage.corrupt"),
    ("segments are cut", lambda home: cut_segments(home.segments_dir), ExitCode.STORAGE,
     "storage.corrupt"),
]  # fmt: skip


def test_damaged_data_is_told_apart_and_never_signed_over(
    target: Target, stopped_home: NodeHome
) -> None:
    pristine = stopped_home.path / "backup"
    for what, damage, exit_code, code in DAMAGES:
        damage(stopped_home)
        done = target.localnet.rota(
            "node", "start", "--home", str(stopped_home.path), "--set", "log.format=none", "--json"
        )
        error = json.loads(done.stdout)["error"]
        assert (done.returncode, error["code"]) == (exit_code, code), (what, done.stderr)
        assert error["next"], what
        shutil.rmtree(stopped_home.data_dir)
        shutil.copytree(pristine, stopped_home.data_dir)


def test_safety_records_that_another_process_holds_end_a_start_with_71(
    target: Target, stopped_home: NodeHome
) -> None:
    holder = apsw.Connection(str(stopped_home.safety_path))
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    with holder:
        holder.execute("CREATE TABLE intruder (a)")
        done = target.localnet.rota("node", "start", "--home", str(stopped_home.path), "--json")
    holder.close()
    assert done.returncode == ExitCode.REFUSED_TO_SIGN
    assert json.loads(done.stdout)["error"]["code"] == "safety.locked"


# ---- Ctrl-C --------------------------------------------------------------------------------


def test_ctrl_c_ends_a_localnet_with_all_its_processes(tmp_path: Path) -> None:
    path = tmp_path / "net"
    words = ("localnet", "up", "--dir", str(path), "--port-base", str(15_900))
    with subprocess.Popen(
        [sys.executable, "-m", "node.cli.main", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "ready in" in line:
                break
        assert len(find_processes(path)) > 4
        # A terminal signals the whole group of its foreground.
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=INTERRUPT_TIMEOUT_S)
    assert process.returncode == ExitCode.OK
    assert find_processes(path) == []


def find_processes(path: Path) -> list[str]:
    """Command lines of running processes that name this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                words = (entry / "cmdline").read_bytes()
                if os.fsencode(path) in words:
                    found.append(words.decode())
    return found
