"""What strangers and careless clients may say at the order door."""

import random
import socket
from contextlib import ExitStack

import msgpack
import pytest

from crypto.codec import encode
from node.protocol import (
    DOOR_FRAME_MAX_BYTES,
    DOOR_VERSION,
    SUBSCRIPTIONS_MAX,
    Answer,
    Channel,
    Hello,
    Query,
    Refused,
    Subscribe,
    Welcome,
)

SEED = 20_240_817


def test_random_bytes_on_the_door(unharmed, connect) -> None:
    dice = random.Random(SEED)
    for number in range(200):
        connection = connect(unharmed.door)
        if number % 3 == 0:
            connection.greet()
        connection.socket.sendall(dice.randbytes(dice.randint(1, 3000)))
        if number % 2:
            connection.reset()
        else:
            connection.socket.close()


def test_lengths_beyond_the_limit_end_the_connection_unread(unharmed, connect) -> None:
    for greeted, length in (
        (False, 2**32 - 1),
        (False, 1 << 20),
        (True, 2**32 - 1),
        (True, DOOR_FRAME_MAX_BYTES + (64 << 10) + 1),
    ):
        with connect(unharmed.door) as connection:
            if greeted:
                connection.greet()
            connection.socket.sendall(length.to_bytes(4, "big"))
            connection.assert_cut_off()


def test_frames_cut_in_the_middle(unharmed, connect) -> None:
    before = unharmed.ask("status")["door"]["malformed"]
    for _ in range(50):
        with connect(unharmed.door) as connection:
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
    target, frame: bytes, code: str, connect
) -> None:
    with connect(target.door) as connection:
        connection.greet().say(frame)
        refusal = connection.hear()
        assert isinstance(refusal, Refused)
        assert refusal.code == code
        assert refusal.detail
        connection.say(encode(Query(2, "status")))
        assert isinstance(connection.hear(), Answer)


@pytest.mark.parametrize("depth", range(900, 1_000, 7))
def test_no_depth_of_nesting_ends_more_than_a_request(target, depth: int, connect) -> None:
    with connect(target.door) as connection:
        connection.greet()
        for name in ("status", "book", "block"):
            frame = encode(Query(1, name, (0,)))[:-1] + b"\x91" * depth + b"\xc0"
            connection.say(frame)
            connection.hear()
        connection.say(encode(Query(2, "status")))
        assert isinstance(connection.hear(), Answer)


def test_requests_out_of_turn_get_codes(unharmed, connect) -> None:
    with connect(unharmed.door) as connection:
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


def test_slow_connections_are_cut_off_in_time(unharmed, connect) -> None:
    dribbles = encode(Hello(DOOR_VERSION))
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(unharmed.door)) for _ in range(15)]
        half = [stack.enter_context(connect(unharmed.door)) for _ in range(15)]
        known = [stack.enter_context(connect(unharmed.door)) for _ in range(15)]
        for connection in half:
            connection.socket.sendall(len(dribbles).to_bytes(4, "big") + dribbles[:1])
        for connection in known:
            connection.greet().socket.sendall(b"\x00\x00\x00\x20half a frame")
        for connection in (*silent, *half, *known):
            connection.assert_cut_off()


def test_more_connections_than_places(unharmed, wait_until, connect) -> None:
    with ExitStack() as stack:
        # Silent ones make room, so the door stays open to whoever greets.
        for _ in range(unharmed.connections_max + 20):
            stack.enter_context(connect(unharmed.door))
        stack.enter_context(connect(unharmed.door)).greet()
    with ExitStack() as stack:
        refusals = []
        for _ in range(unharmed.connections_max + 10):
            connection = stack.enter_context(connect(unharmed.door))
            connection.say(encode(Hello(DOOR_VERSION)))
            answer = connection.hear()
            if isinstance(answer, Refused):
                refusals.append(answer.code)
            else:
                # Whoever subscribes is not silent, however slow the machine opens the others.
                connection.say(encode(Subscribe(1, Channel.TRADES)))
        assert set(refusals) == {"door.full"}
        assert len(refusals) >= 10
    wait_until(lambda: has_room(unharmed, connect), "the places are free again")


def has_room(target, connect) -> bool:
    with connect(target.door) as connection:
        connection.say(encode(Hello(DOOR_VERSION)))
        return isinstance(connection.hear(), Welcome)


def flood(connection) -> None:
    """Ask and never listen, until the node hangs up."""
    for number in range(100_000):
        connection.say(encode(Query(number, "status")))


def test_a_client_that_never_reads_is_cut_off(unharmed, connect) -> None:
    before = unharmed.ask("status")["door"]["slow_consumers"]
    with connect(unharmed.door) as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        connection.greet()
        with pytest.raises(ConnectionError):
            flood(connection)
    assert unharmed.ask("status")["door"]["slow_consumers"] == before + 1
