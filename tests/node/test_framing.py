import math

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from node.framing import (
    COALESCE_MAX_BYTES,
    READ_MIN_BYTES,
    FramedStream,
    FrameRoom,
    FramingError,
    encode_length,
)


def framed_pair(frame_max_bytes=1 << 20, **options):
    ours, theirs = memory_stream_pair()
    return (
        FramedStream(ours, frame_max_bytes=frame_max_bytes, **options),
        FramedStream(theirs, frame_max_bytes=frame_max_bytes, **options),
    )


@settings(max_examples=40, deadline=None)
@given(frames=st.lists(st.binary(max_size=200), max_size=20), cut=st.integers(1, 50))
def test_frames_arrive_whole_and_in_order_however_the_stream_is_cut(frames, cut):
    async def scenario():
        ours, theirs = memory_stream_pair()
        data = b"".join(encode_length(len(frame)) + frame for frame in frames)
        receiver = FramedStream(theirs, frame_max_bytes=200)

        async def send():
            for start in range(0, len(data), cut):
                await ours.send_all(data[start : start + cut])
                await trio.testing.wait_all_tasks_blocked()
            await ours.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert [await receiver.receive_frame() for _ in frames] == frames
            with pytest.raises(trio.EndOfChannel):
                await receiver.receive_frame()

    trio.run(scenario)


async def test_large_and_small_frames_mix(autojump_clock):
    sender, receiver = framed_pair()
    frames = [b"", b"a", bytes(COALESCE_MAX_BYTES), b"b" * (1 << 20), b"c" * 1000, b""]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.send_frames, frames)
        assert [await receiver.receive_frame() for _ in frames] == frames


async def test_small_frames_are_sent_in_one_write():
    writes = []

    class Recorder(trio.abc.Stream):
        async def send_all(self, data):
            writes.append(bytes(data))

        async def receive_some(self, max_bytes=None):
            raise AssertionError

        async def wait_send_all_might_not_block(self):
            raise AssertionError

        async def aclose(self):
            await trio.lowlevel.checkpoint()

    await FramedStream(Recorder(), frame_max_bytes=10).send_frames([b"one", b"two", b""])
    assert writes == [b"\x00\x00\x00\x03one\x00\x00\x00\x03two\x00\x00\x00\x00"]


async def test_a_length_above_the_limit_is_refused_before_its_bytes_arrive():
    ours, theirs = memory_stream_pair()
    receiver = FramedStream(theirs, frame_max_bytes=100)
    await ours.send_all(encode_length(101))
    with pytest.raises(FramingError) as caught:
        await receiver.receive_frame()
    assert caught.value.code == "frame.too_large"


async def test_a_frame_of_exactly_the_limit_passes():
    sender, receiver = framed_pair(frame_max_bytes=100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.send_frame, bytes(100))
        assert await receiver.receive_frame() == bytes(100)


async def test_a_stream_that_ends_inside_a_frame_is_truncated():
    for partial in (b"\x00", encode_length(5) + b"1234"):
        ours, theirs = memory_stream_pair()
        receiver = FramedStream(theirs, frame_max_bytes=100)
        await ours.send_all(partial)
        await ours.send_eof()
        with pytest.raises(FramingError) as caught:
            await receiver.receive_frame()
        assert caught.value.code == "frame.truncated"


async def test_a_frame_that_dribbles_in_is_cut_off_at_its_deadline(autojump_clock):
    ours, theirs = memory_stream_pair()
    receiver = FramedStream(theirs, frame_max_bytes=100, frame_timeout_s=10)

    async def dribble():
        await ours.send_all(encode_length(100))
        while True:
            await trio.sleep(1)
            await ours.send_all(b"x")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dribble)
        with pytest.raises(FramingError) as caught:
            await receiver.receive_frame()
        nursery.cancel_scope.cancel()
    assert caught.value.code == "frame.too_slow"
    assert trio.current_time() == pytest.approx(10, abs=0.1)


async def test_silence_is_cut_off_only_after_the_idle_time(autojump_clock):
    _ours, theirs = memory_stream_pair()
    receiver = FramedStream(theirs, frame_max_bytes=100, frame_timeout_s=1, idle_timeout_s=60)
    with pytest.raises(FramingError) as caught:
        await receiver.receive_frame()
    assert caught.value.code == "frame.idle"
    assert trio.current_time() == pytest.approx(60, abs=0.1)


async def test_a_reader_that_takes_nothing_is_cut_off(autojump_clock):
    ours, theirs = memory_stream_pair()

    async def never_accept():
        await trio.sleep_forever()

    ours.send_stream.send_all_hook = never_accept
    sender = FramedStream(ours, frame_max_bytes=100, write_timeout_s=5)
    with pytest.raises(FramingError) as caught:
        await sender.send_frame(b"x")
    assert caught.value.code == "frame.too_slow"
    assert math.isclose(trio.current_time() % 5, 0, abs_tol=0.1)
    await theirs.aclose()


async def test_buffered_frames_do_not_keep_other_tasks_from_running():
    sender, receiver = framed_pair()
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.send_frames, [b"x"] * 50)
        nursery.start_soon(other)
        for _ in range(50):
            await receiver.receive_frame()
        nursery.cancel_scope.cancel()
    assert turns >= 40


async def test_room_is_free_again_however_a_large_frame_ends(autojump_clock):
    room = FrameRoom(1 << 20)
    size_bytes = READ_MIN_BYTES + 1
    for ending in ("complete", "closed", "late"):
        sender, receiver = memory_stream_pair()
        framed = FramedStream(receiver, frame_max_bytes=1 << 20, room=room)
        await sender.send_all(encode_length(size_bytes) + bytes(size_bytes - 1))
        async with trio.open_nursery() as nursery:

            async def receive(framed=framed, ending=ending):
                if ending == "complete":
                    assert await framed.receive_frame() == bytes(size_bytes)
                else:
                    with pytest.raises(FramingError):
                        await framed.receive_frame()

            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            assert room.size_bytes == size_bytes + 3
            if ending == "complete":
                await sender.send_all(bytes(1))
            elif ending == "closed":
                await sender.send_eof()
        assert room.size_bytes == 0


async def test_frames_that_began_first_make_room_and_one_alone_always_has_it():
    room = FrameRoom(100)
    left = []

    async def arrive(name, size_bytes):
        try:
            with room.hold() as grow:
                grow(size_bytes)
                await trio.sleep_forever()
        except FramingError as error:
            left.append((name, error.code))

    async with trio.open_nursery() as nursery:
        for name, size_bytes in (("a", 40), ("b", 40), ("c", 30), ("d", 1000), ("e", 100)):
            nursery.start_soon(arrive, name, size_bytes)
            await trio.testing.wait_all_tasks_blocked()
        # Those that make room together wake in any order.
        assert sorted(left) == [(name, "frame.crowded_out") for name in "abcd"]
        assert room.size_bytes == 100
        nursery.cancel_scope.cancel()
    assert room.size_bytes == 0


async def test_only_what_was_received_of_a_large_frame_takes_room():
    room = FrameRoom(2 * READ_MIN_BYTES)
    half = bytes(READ_MIN_BYTES)
    frames = []

    async def receive(stream):
        framed = FramedStream(stream, frame_max_bytes=1 << 20, room=room)
        frames.append(await framed.receive_frame())

    async with trio.open_nursery() as nursery:
        honest, receiver = memory_stream_pair()
        nursery.start_soon(receive, receiver)
        await honest.send_all(encode_length(2 * len(half) - 100) + half)
        for _ in range(20):
            claimant, claimed = memory_stream_pair()
            nursery.start_soon(receive, claimed)
            await claimant.send_all(encode_length(1 << 20))
        await trio.testing.wait_all_tasks_blocked()
        assert room.size_bytes == 4 + len(half) + 20 * 4
        await honest.send_all(half[100:])
        await trio.testing.wait_all_tasks_blocked()
        assert frames == [bytes(2 * len(half) - 100)]
        nursery.cancel_scope.cancel()
