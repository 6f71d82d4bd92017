"""The door client against a door that the test holds in its hand."""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from crypto import ed25519
from crypto.codec import decode, encode
from engine.instructions import Bundle, CancelAll
from engine.receipts import ReasonCode, Receipt, Status
from mempool.envelope import compute_body_digest, decode_envelope
from node import client as client_module
from node.client import DoorClient, run_with_door
from node.client_stream import SERVER_FRAME_MAX_BYTES, DoorError
from node.envelopes import EnvelopeFactory, convert_receipts, split_for_door
from node.protocol import (
    DOOR_FRAME_MAX_BYTES,
    DOOR_VERSION,
    ENVELOPES_MAX_PER_REQUEST,
    Answer,
    Channel,
    ClientFrame,
    ExecutedEvent,
    Hello,
    OpaqueSubmitted,
    Query,
    ReceiptEvent,
    ReceiptLevel,
    Refused,
    SubmitEnvelopes,
    SubmitOpaque,
    SubmitResult,
    Submitted,
    Subscribe,
    Subscribed,
    Welcome,
)
from node.streams import describe_receipts

CHAIN_ID = bytes(range(32))
SECRET = bytes([7]) * 32
RECEIPT = Receipt(bytes(32), 0, Status.RESTING, ReasonCode.OK, 7, 0, 5)
WELCOME = Welcome(DOOR_VERSION, "node0", CHAIN_ID, 5, 1_000)


class FakeDoor:
    """The node's end of the connection, frame by frame."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    async def receive(self) -> ClientFrame:
        size = int.from_bytes(await self._exactly(4), "big")
        return msgspec.msgpack.decode(await self._exactly(size), type=ClientFrame)

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = await self.stream.receive_some(65_536)
            assert data
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def send(self, *frames: object) -> None:
        bodies = [encode(frame) for frame in frames]
        await self.send_bytes(b"".join(len(body).to_bytes(4, "big") + body for body in bodies))

    async def send_bytes(self, data: bytes) -> None:
        await self.stream.send_all(data)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[DoorClient, FakeDoor]]:
    ours, theirs = memory_stream_pair()
    door = FakeDoor(theirs)
    await door.send(WELCOME)
    async with DoorClient.over(ours, timeout_s=60) as client:
        assert await door.receive() == Hello(DOOR_VERSION)
        yield client, door


async def test_welcome_tells_the_chain_and_the_clock():
    async with connected() as (client, _):
        assert client.welcome == WELCOME
        assert client._error is None


async def test_a_node_that_takes_the_connection_and_says_nothing_is_given_up_soon(
    autojump_clock: trio.testing.MockClock,
):
    ours, _theirs = memory_stream_pair()
    with pytest.raises(DoorError) as caught:
        async with DoorClient.over(ours, timeout_s=60):
            pass
    assert caught.value.code == "door.timeout"
    assert trio.current_time() == client_module.GREETING_TIMEOUT_S


async def test_pipelined_requests_find_their_answers_in_any_order():
    async with connected() as (client, door):
        answers: dict[str, object] = {}

        async def ask(name: str) -> None:
            answers[name] = await client.query(name, 7)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "book")
            nursery.start_soon(ask, "status")
            queries = [await door.receive(), await door.receive()]
            for query in reversed(queries):
                assert isinstance(query, Query)
                assert query.arguments == (7,)
                body = msgspec.Raw(msgspec.msgpack.encode({"name": query.name}))
                await door.send(Answer(query.request, body))
        assert answers == {"book": {"name": "book"}, "status": {"name": "status"}}


async def test_submit_returns_one_result_for_each_envelope():
    async with connected() as (client, door), trio.open_nursery() as nursery:
        results = (SubmitResult(bytes(32), None), SubmitResult(b"", "envelope.malformed"))

        async def serve() -> None:
            request = await door.receive()
            assert isinstance(request, SubmitEnvelopes)
            assert request.envelopes == (b"one", b"two")
            await door.send(Submitted(request.request, results))

        nursery.start_soon(serve)
        assert await client.submit([b"one", b"two"]) == results


async def test_results_for_other_envelopes_end_the_connection():
    async with connected() as (client, door), trio.open_nursery() as nursery:

        async def serve() -> None:
            request = await door.receive()
            await door.send(Submitted(request.request, ()))

        nursery.start_soon(serve)
        with pytest.raises(DoorError, match="other envelopes"):
            await client.submit([b"one"])
        assert client._error is not None


async def test_opaque_transactions_are_answered_with_a_count():
    async with connected() as (client, door), trio.open_nursery() as nursery:

        async def serve() -> None:
            request = await door.receive()
            assert isinstance(request, SubmitOpaque)
            assert (request.namespace, request.transaction_size_bytes) == (1, 4)
            await door.send(OpaqueSubmitted(request.request, 2, None))

        nursery.start_soon(serve)
        answer = await client.submit_opaque(1, 4, b"12345678")
        assert (answer.count, answer.code) == (2, None)


async def test_a_refusal_raises_with_the_code_of_the_node_and_the_connection_goes_on():
    async with connected() as (client, door), trio.open_nursery() as nursery:

        async def serve() -> None:
            request = await door.receive()
            await door.send(Refused(request.request, "query.unknown", "no such view"))
            request = await door.receive()
            await door.send(Answer(request.request, msgspec.Raw(b"\x01")))

        nursery.start_soon(serve)
        with pytest.raises(DoorError) as caught:
            await client.query("nonsense")
        assert caught.value.code == "query.unknown"
        assert await client.query("status") == 1


async def test_events_arrive_in_order_even_in_the_packet_of_the_answer():
    async with connected() as (client, door), trio.open_nursery() as nursery:

        async def serve() -> None:
            request = await door.receive()
            assert isinstance(request, Subscribe)
            number = request.request
            events = [ExecutedEvent(number, n, n, bytes(32), 0, 0) for n in range(3)]
            await door.send(Subscribed(number, 9), *events)

        nursery.start_soon(serve)
        subscription = await client.subscribe(Channel.BLOCKS)
        assert subscription.committed_height == 9
        received = [await subscription.receive() for _ in range(3)]
        assert [event.sequence for event in received] == [0, 1, 2]


async def test_a_gap_in_the_events_is_an_error():
    async with connected() as (client, door), trio.open_nursery() as nursery:

        async def serve() -> None:
            number = (await door.receive()).request
            events = [ExecutedEvent(number, n, n, bytes(32), 0, 0) for n in (0, 2)]
            await door.send(Subscribed(number, 9), *events)

        nursery.start_soon(serve)
        subscription = await client.subscribe(Channel.BLOCKS)
        assert (await subscription.receive()).sequence == 0
        with pytest.raises(DoorError) as caught:
            await subscription.receive()
        assert caught.value.code == "door.gap"


async def test_events_that_nobody_reads_end_the_connection_at_the_bound(monkeypatch):
    monkeypatch.setattr(client_module, "EVENTS_BUFFERED_MAX", 3)
    async with connected() as (client, door), trio.open_nursery() as nursery:

        async def serve() -> None:
            number = (await door.receive()).request
            events = [ExecutedEvent(number, n, n, bytes(32), 0, 0) for n in range(4)]
            await door.send(Subscribed(number, 9), *events)

        nursery.start_soon(serve)
        subscription = await client.subscribe(Channel.BLOCKS)
        await wait_all_tasks_blocked()
        for _ in range(3):
            await subscription.receive()
        with pytest.raises(DoorError) as caught:
            await subscription.receive()
        assert caught.value.code == "door.slow_reader"


async def test_a_disconnect_wakes_every_waiting_call_with_the_same_code():
    async with connected() as (client, door):
        codes: list[str] = []

        async def ask() -> None:
            with pytest.raises(DoorError) as caught:
                await client.query("status")
            codes.append(caught.value.code)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
            await door.receive()
            await door.stream.aclose()
        assert set(codes) == {"door.closed"}
        assert len(codes) == 3
        with pytest.raises(DoorError, match=r"door\.closed"):
            await client.query("status")


async def test_no_answer_in_time_is_a_timeout_and_a_late_answer_is_dropped(autojump_clock):
    async with connected() as (client, door):
        with pytest.raises(DoorError) as caught:
            await client.query("status")
        assert caught.value.code == "door.timeout"
        late = await door.receive()
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                request = await door.receive()
                await door.send(
                    Answer(late.request, msgspec.Raw(b"\x01")),
                    Answer(request.request, msgspec.Raw(b"\x02")),
                )

            nursery.start_soon(serve)
            assert await client.query("status") == 2


async def test_too_many_abandoned_requests_end_the_connection(autojump_clock, monkeypatch):
    monkeypatch.setattr(client_module, "REQUESTS_ABANDONED_MAX", 2)
    async with connected() as (client, _):
        for _ in range(3):
            with pytest.raises(DoorError, match=r"door\.timeout"):
                await client.query("status")
        assert client._error is not None


async def test_requests_beyond_the_bound_in_flight_wait(monkeypatch):
    monkeypatch.setattr(client_module, "REQUESTS_IN_FLIGHT_MAX", 2)
    async with connected() as (client, door), trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(client.query, "status")
        first = [await door.receive(), await door.receive()]
        with trio.move_on_after(0) as scope:
            await door.receive()
        assert scope.cancelled_caught
        for request in first:
            await door.send(Answer(request.request, msgspec.Raw(b"\x01")))
        third = await door.receive()
        await door.send(Answer(third.request, msgspec.Raw(b"\x01")))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x00\x00\x00\x00", "door.malformed"),
        (b"\xff\xff\xff\xff", "door.malformed"),
        ((SERVER_FRAME_MAX_BYTES + 1).to_bytes(4, "big"), "door.malformed"),
        (b"\x00\x00\x00\x01\xc1", "door.malformed"),
        (b"\x00\x00\x00\x06\x95\xa4nope", "door.malformed"),
    ],
)
async def test_malformed_bytes_from_the_node_end_the_connection(data, code):
    async with connected() as (client, door), trio.open_nursery() as nursery:
        nursery.start_soon(door.send_bytes, data)
        with pytest.raises(DoorError) as caught:
            await client.query("status")
        assert caught.value.code == code


@pytest.mark.parametrize(
    "body",
    [b"\xa1\xff", b"\xc7\x0c\xff" + struct.pack(">Iq", 999_999_999, 253_402_300_799)],
    ids=["no UTF-8", "year 10000"],
)
async def test_a_malformed_answer_ends_the_connection(body):
    async with connected() as (client, door), trio.open_nursery() as nursery:

        async def serve() -> None:
            request = await door.receive()
            await door.send(Answer(request.request, msgspec.Raw(body)))

        nursery.start_soon(serve)
        with pytest.raises(DoorError, match=r"door\.malformed"):
            await client.query("status")


async def test_an_answer_of_the_largest_size_is_taken():
    small = 1 << 16
    around_bytes = len(encode(Answer(1, msgspec.Raw(encode(bytes(small)))))) - small
    body = bytes(SERVER_FRAME_MAX_BYTES - around_bytes)
    async with connected() as (client, door), trio.open_nursery() as nursery:

        async def serve() -> None:
            request = await door.receive()
            await door.send(Answer(request.request, msgspec.Raw(encode(body))))

        nursery.start_soon(serve)
        assert await client.query("status") == body


@pytest.mark.parametrize(
    "frame",
    [
        WELCOME,
        Answer(99, msgspec.Raw(b"\x01")),
        ExecutedEvent(99, 0, 0, bytes(32), 0, 0),
        Subscribed(1, 0),
    ],
)
async def test_frames_out_of_place_end_the_connection(frame):
    async with connected() as (client, door), trio.open_nursery() as nursery:

        async def serve() -> None:
            await door.receive()
            await door.send(frame)

        nursery.start_soon(serve)
        with pytest.raises(DoorError) as caught:
            await client.query("status")
        assert caught.value.code == "door.unexpected"
        assert client._error is not None


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=64))
def test_no_bytes_of_a_node_raise_anything_but_a_door_error(data):
    async def main() -> None:
        async with connected() as (client, door), trio.open_nursery() as nursery:

            async def serve() -> None:
                await door.receive()
                await door.send_bytes(len(data).to_bytes(4, "big") + data)
                await door.stream.aclose()

            nursery.start_soon(serve)
            with pytest.raises(DoorError):
                await client.query("status")

    trio.run(main)


@pytest.mark.parametrize(
    ("greeting", "code"),
    [
        (Refused(None, "door.version", "only 7"), "door.version"),
        (Subscribed(1, 1), "door.unexpected"),
        (Welcome(DOOR_VERSION + 1, "node0", CHAIN_ID, 5, 1_000), "door.unexpected"),
    ],
)
async def test_a_bad_greeting_fails_the_connect(greeting, code):
    ours, theirs = memory_stream_pair()
    await FakeDoor(theirs).send(greeting)
    with pytest.raises(DoorError) as caught:
        async with DoorClient.over(ours):
            pass
    assert caught.value.code == code


async def test_a_silent_node_fails_the_connect_in_time(autojump_clock):
    ours, _theirs = memory_stream_pair()
    with pytest.raises(DoorError, match=r"door\.timeout"):
        async with DoorClient.over(ours, timeout_s=3):
            pass


async def test_an_exception_of_the_caller_leaves_the_connection_as_it_is():
    with pytest.raises(ZeroDivisionError):
        async with connected():
            raise ZeroDivisionError


async def test_cancelling_the_caller_ends_the_connection_quietly():
    with trio.CancelScope() as scope:
        async with connected() as (client, _):
            scope.cancel()
            await client.query("status")
    assert scope.cancelled_caught


def test_nobody_at_the_address_is_unreachable():
    with pytest.raises(DoorError) as caught:
        run_with_door("127.0.0.1", 1, lambda client: client.query("status"))
    assert caught.value.code == "door.unreachable"


async def test_requests_that_fit_no_frame_are_refused_here():
    async with connected() as (client, _):
        for envelopes in ([], [b"x"] * (ENVELOPES_MAX_PER_REQUEST + 1), [bytes(60_000)] * 20):
            with pytest.raises(DoorError) as caught:
                await client.submit(envelopes)
            assert caught.value.code == "door.too_large"
        assert client._error is None


def test_signed_envelopes_decode_verify_and_carry_their_bundle():
    factory = EnvelopeFactory(SECRET, CHAIN_ID, clock_ms=lambda: 1_000)
    signed = factory.sign([CancelAll(3)], expiry_height=77)
    envelope = decode_envelope(signed.data)
    header = envelope.header
    assert header.envelope_id() == signed.envelope_id
    assert (header.chain_id, header.expiry_height) == (CHAIN_ID, 77)
    assert header.sender == header.signer == factory.account
    assert header.body_digest == compute_body_digest(envelope.body)
    assert ed25519.verify(header.signer, header.signing_bytes(), envelope.signature)
    assert decode(Bundle, envelope.body) == Bundle((CancelAll(3),))


def test_nonces_rise_even_while_the_clock_stands_or_goes_back():
    times = iter([1_000, 1_000, 400, 2_000])
    factory = EnvelopeFactory(SECRET, CHAIN_ID, clock_ms=lambda: next(times))
    nonces = [factory.sign([CancelAll()], 9).nonce for _ in range(4)]
    assert nonces == [1_000, 1_001, 1_002, 2_000]


def test_a_session_key_signs_for_its_account():
    account = ed25519.public_key(bytes([9]) * 32)
    factory = EnvelopeFactory(SECRET, CHAIN_ID, account=account)
    header = decode_envelope(factory.sign([CancelAll()], 9).data).header
    assert (header.sender, header.signer) == (account, ed25519.public_key(SECRET))


@given(st.lists(st.integers(1, 66_000), max_size=600))
def test_split_lists_keep_order_and_fit_into_a_frame(sizes):
    envelopes = [bytes(size) for size in sizes]
    parts = list(split_for_door(envelopes))
    assert [envelope for part in parts for envelope in part] == envelopes
    for part in parts:
        assert 1 <= len(part) <= ENVELOPES_MAX_PER_REQUEST
        assert len(encode(SubmitEnvelopes(2**62, tuple(part)))) <= DOOR_FRAME_MAX_BYTES


def test_receipts_that_are_none_are_a_door_error():
    with pytest.raises(DoorError, match=r"door\.malformed"):
        convert_receipts([1])
    strange = msgspec.msgpack.decode(describe_receipts([RECEIPT]))
    strange[0]["status"] = "strange"
    with pytest.raises(DoorError, match=r"door\.malformed"):
        convert_receipts(strange)


async def test_receipts_arrive_as_the_engine_gave_them():
    async with connected() as (client, door), trio.open_nursery() as nursery:

        async def serve() -> None:
            number = (await door.receive()).request
            raw = msgspec.Raw(describe_receipts([RECEIPT]))
            executed = (bytes(32), ReceiptLevel.EXECUTED, 3, None, raw)
            ordered = (bytes(32), ReceiptLevel.ORDERED, 3, None, None)
            await door.send(
                Subscribed(number, 9),
                ReceiptEvent(number, 0, *ordered),
                ReceiptEvent(number, 1, *executed),
            )

        nursery.start_soon(serve)
        events = await client.subscribe(Channel.RECEIPTS, bytes(32))
        first, second = await events.receive(), await events.receive()
        assert first.results is None
        assert convert_receipts(second.results) == (RECEIPT,)
