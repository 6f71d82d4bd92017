import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from crypto.ed25519 import ED25519
from node.transport.certificate import (
    CERTIFICATE_SIZE_MAX_BYTES,
    CertificateError,
    make_certificate,
    validate_certificate,
)
from node.transport.errors import PeerError
from node.transport.queues import Inbound, Inbox, SendQueue
from node.transport.sealing import DirectionKey, Session

SECRET = b"\x01" * 32
KEY = ED25519.public_key(SECRET)


def test_a_certificate_is_a_function_of_its_secret_and_name():
    assert make_certificate(SECRET, "node0") == make_certificate(SECRET, "node0")
    assert make_certificate(SECRET, "node0") != make_certificate(SECRET, "node1")
    validate_certificate(make_certificate(SECRET, "node0"), KEY)


def test_a_certificate_that_is_not_of_the_key_is_refused():
    good = make_certificate(SECRET, "node0")
    flipped = bytearray(good)
    flipped[-1] ^= 1
    for bad in (
        b"",
        good[:-1],
        bytes(flipped),
        make_certificate(b"\x02" * 32, "node0"),
        bytes(CERTIFICATE_SIZE_MAX_BYTES + 1),
    ):
        with pytest.raises(CertificateError):
            validate_certificate(bad, KEY)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_certificate_are_refused_with_one_error(data):
    with pytest.raises(CertificateError):
        validate_certificate(data, KEY)


def make_session():
    return Session(bytes(32), b"\x01" * 32, b"\x02" * 32)


def test_frames_open_in_the_order_in_which_they_were_sealed():
    sender = make_session().make_key(1, from_dialer=True)
    receiver = make_session().make_key(1, from_dialer=True)
    for frame in (b"", b"a", bytes(100_000), b""):
        assert receiver.open(sender.seal(frame)) == frame


@pytest.mark.parametrize("position", [0, 5, -1])
def test_a_changed_frame_does_not_open(position):
    session = make_session()
    sealed = bytearray(session.make_key(1, from_dialer=True).seal(b"some frame"))
    sealed[position] ^= 1
    with pytest.raises(PeerError) as caught:
        session.make_key(1, from_dialer=True).open(bytes(sealed))
    assert caught.value.code == "peer.seal"


def test_a_repeated_dropped_or_moved_frame_does_not_open():
    session = make_session()
    sender = session.make_key(1, from_dialer=True)
    first, second = sender.seal(b"first"), sender.seal(b"second")
    receiver = session.make_key(1, from_dialer=True)
    with pytest.raises(PeerError):
        receiver.open(second)
    receiver.open(first)
    with pytest.raises(PeerError):
        receiver.open(first)
    for other in (
        session.make_key(1, from_dialer=False),
        session.make_key(2, from_dialer=True),
        Session(bytes(32), b"\x01" * 32, b"\x03" * 32).make_key(1, from_dialer=True),
        Session(b"\x01" * 32, b"\x01" * 32, b"\x02" * 32).make_key(1, from_dialer=True),
    ):
        with pytest.raises(PeerError):
            other.open(first)


def test_both_sides_replace_the_key_at_the_same_frame():
    sender = DirectionKey(bytes(32), rekey_bytes=100)
    receiver = DirectionKey(bytes(32), rekey_bytes=100)
    for size_bytes in (10, 90, 0, 0, 0, 0, 0, 0, 0, 300, 1):
        assert receiver.open(sender.seal(bytes(size_bytes))) == bytes(size_bytes)


def test_too_short_a_sealed_frame_is_refused():
    with pytest.raises(PeerError):
        DirectionKey(bytes(32)).open(b"short")


async def test_a_full_control_queue_drops_the_oldest():
    queue = SendQueue(frames_max=3, bytes_max=100, drops_oldest=True)
    for frame in (b"a", b"b", b"c", b"d"):
        assert queue.put(frame)
    assert (queue.dropped, len(queue), queue.size_bytes) == (1, 3, 3)
    assert queue.put(bytes(99))
    assert await queue.take(1000, 1) == [b"d", bytes(99)]
    assert queue.dropped == 3


async def test_a_full_bulk_queue_drops_the_newest():
    queue = SendQueue(frames_max=3, bytes_max=10, drops_oldest=False)
    assert queue.put(bytes(6))
    assert not queue.put(bytes(5))
    assert queue.put(bytes(4))
    assert not queue.put(b"x")
    assert queue.dropped == 2
    assert await queue.take(1000, 1) == [bytes(6), bytes(4)]
    assert queue.size_bytes == 0


async def test_what_is_taken_at_once_is_bounded_but_never_nothing(autojump_clock):
    queue = SendQueue(frames_max=10, bytes_max=100, drops_oldest=True)
    for frame in (bytes(50), bytes(20), bytes(20)):
        queue.put(frame)
    assert await queue.take(40, 1) == [bytes(50)]
    assert await queue.take(40, 1) == [bytes(20), bytes(20)]
    assert await queue.take(40, 1) == []
    assert trio.current_time() == pytest.approx(1, abs=0.01)


async def test_an_inbox_gives_every_peer_its_turn():
    inbox = Inbox(frames_max=10, bytes_max=1000)
    for number in range(3):
        await inbox.put(0, b"%d" % number)
    await inbox.put(1, b"x")
    await inbox.put(2, b"y")
    assert await inbox.receive_many(4) == [
        Inbound(0, b"0"),
        Inbound(1, b"x"),
        Inbound(2, b"y"),
        Inbound(0, b"1"),
    ]
    assert await inbox.receive_many(4) == [Inbound(0, b"2")]


async def test_a_peer_that_fills_its_share_waits_alone(autojump_clock):
    inbox = Inbox(frames_max=2, bytes_max=1000)
    done = []

    async def put(count):
        for number in range(count):
            await inbox.put(0, b"%d" % number)
        done.append(0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, 5)
        nursery.start_soon(put, 1)
        await wait_all_tasks_blocked()
        with trio.fail_after(1):
            await inbox.put(1, b"mine")
        got = await inbox.receive_many()
        assert len(got) == 3
        while len(got) < 7:
            got += await inbox.receive_many(1)
    assert done == [0, 0]
    assert Inbound(1, b"mine") in got[:2]


async def test_a_share_is_bounded_in_bytes_and_one_frame_always_fits():
    inbox = Inbox(frames_max=100, bytes_max=10)
    await inbox.put(0, bytes(50))
    with trio.move_on_after(0) as scope:
        await inbox.put(0, b"x")
    assert scope.cancelled_caught
    assert await inbox.receive_many() == [Inbound(0, bytes(50))]
