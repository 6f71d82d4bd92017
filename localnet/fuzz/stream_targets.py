"""Decoders that read from a connection: frames, greetings, sealed frames. Nothing is waited for:
the streams are in memory and the clock jumps."""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Final

import trio
from trio.testing import MockClock, memory_stream_pair

from crypto.codec import encode
from crypto.mock import derive_test_secret
from localnet.fuzz.contract import Target, require
from localnet.fuzz.corpus import Corpus
from localnet.fuzz.trees import BYTES
from node.framing import FramedStream, FrameRoom, FramingError, encode_length
from node.transport.certificate import (
    make_certificate,
    make_client_context,
    make_server_context,
)
from node.transport.errors import PeerError
from node.transport.handshake import (
    HELLO_MAX_BYTES,
    PROTOCOL_VERSION,
    Handshaker,
    Hello,
    accept_bulk,
    read_bulk_opening,
)
from node.transport.sealing import RANDOM_SIZE_BYTES, SealedStream, Session

FRAME_MAX_BYTES: Final = 1 << 16
FRAMES_MAX: Final = 1_000
"""So many are read of one input."""
CHAIN_ID: Final = bytes(32)
SECRETS: Final = tuple(derive_test_secret(f"fuzzed member {index}") for index in range(2))
RANDOMS: Final = (bytes(RANDOM_SIZE_BYTES), b"\x01" * RANDOM_SIZE_BYTES)

_ENDED: Final = (trio.EndOfChannel, trio.BrokenResourceError)
"""What a stream raises that ends: every user of one expects it."""


def harvest_streams(corpus: Corpus) -> None:
    """Connections as they begin and go on."""
    random = bytes(range(RANDOM_SIZE_BYTES))
    corpus.add("hello", encode(Hello(PROTOCOL_VERSION, CHAIN_ID, 0, random)))
    messages = corpus.select(("message.*", "door_request.*"))
    for start in range(0, len(messages), 4):
        frames = (b"", *messages[start : start + 4])
        corpus.add("frames", b"".join(encode_length(len(each)) + each for each in frames))
    for count in (1, 3):
        corpus.add("sealed", _run(_record_bulk, messages[:count]))


def _run(function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    return trio.run(function, *arguments, clock=MockClock(autojump_threshold=0))


async def _write(stream: trio.abc.HalfCloseableStream, data: bytes) -> None:
    await stream.send_all(data)
    await stream.send_eof()


# ---- frames ----------------------------------------------------------------------------------


async def _read_frames(data: bytes) -> None:
    ours, theirs = memory_stream_pair()
    framed = FramedStream(
        ours, frame_max_bytes=FRAME_MAX_BYTES, idle_timeout_s=5.0, room=FrameRoom(FRAME_MAX_BYTES)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_write, theirs, data)
        for frame_number in range(FRAMES_MAX):
            try:
                frame = await framed.receive_frame()
            except trio.EndOfChannel:
                return
            require(len(frame) <= FRAME_MAX_BYTES, f"frame {frame_number} is above the limit")


def read_frames(data: bytes) -> None:
    """Frame after frame, until the stream ends or breaks a rule."""
    _unwrap(_read_frames, data)


def _unwrap(function: Callable[..., Awaitable[Any]], data: bytes) -> None:
    """Raise what one task raised as itself."""
    try:
        _run(function, data)
    except BaseExceptionGroup as group:
        # Nothing is swallowed: what is inside the groups of nurseries goes on, as the target's
        # contract names errors and not groups of them.
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


# ---- greetings -------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _handshaker() -> Handshaker:
    certificates = _certificates()
    return Handshaker(
        me=1,
        chain_id=CHAIN_ID,
        certificates={0: certificates[0]},
        server_context=make_server_context(SECRETS[1], certificates[1], certificates),
        client_context=make_client_context(SECRETS[1], certificates[1], certificates),
    )


@lru_cache(maxsize=1)
def _certificates() -> tuple[bytes, ...]:
    return tuple(make_certificate(secret, f"node{n}") for n, secret in enumerate(SECRETS))


async def _greet(data: bytes) -> None:
    """A member that proves who it is, and then says anything."""
    ours, theirs = memory_stream_pair()
    certificates = _certificates()
    context = make_client_context(SECRETS[0], certificates[0], certificates)

    async def dial() -> None:
        tls = trio.SSLStream(theirs, context)
        await tls.do_handshake()
        await tls.send_all(encode_length(len(data)) + data)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        control = await _handshaker().accept_control(ours)
        require(control.peer == 0, "it is taken for another member")
        require(len(data) <= HELLO_MAX_BYTES, "a greeting above the limit")
        nursery.cancel_scope.cancel()


def read_hello(data: bytes) -> None:
    """The first frame inside TLS."""
    _unwrap(_greet, data)


# ---- sealed frames ---------------------------------------------------------------------------


async def _record_bulk(frames: tuple[bytes, ...]) -> bytes:
    """All that an honest dialer says on a bulk connection."""
    ours, theirs = memory_stream_pair()
    session = Session(CHAIN_ID, *RANDOMS)
    framed = FramedStream(theirs, frame_max_bytes=FRAME_MAX_BYTES)
    sealed = SealedStream.of_session(framed, session, 1, is_dialer=True)
    await theirs.send_all(session.session_id + (1).to_bytes(8, "big"))
    await sealed.send_frames((b"", *frames))
    await theirs.aclose()
    said = b""
    while part := await ours.receive_some():
        said += part
    return said


async def _accept_bulk(data: bytes) -> None:
    ours, theirs = memory_stream_pair()
    session = Session(CHAIN_ID, *RANDOMS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_write, theirs, data)
        session_id, attempt = await read_bulk_opening(ours)
        if session_id != session.session_id:
            raise PeerError("peer.session", "no such session")
        sealed = await accept_bulk(ours, session, attempt)
        for _ in range(FRAMES_MAX):
            try:
                await sealed.receive_frame()
            except trio.EndOfChannel:
                return


def read_sealed(data: bytes) -> None:
    """A bulk connection from its session's name on."""
    _unwrap(_accept_bulk, data)


STREAM_TARGETS: Final = (
    Target(
        "frames",
        ("frames",),
        read_frames,
        (FramingError, *_ENDED),
        BYTES,
        weight=60,
    ),
    Target(
        "hello",
        ("hello",),
        read_hello,
        (PeerError, FramingError, *_ENDED),
        types=("Hello",),
        weight=200,
    ),
    Target(
        "sealed",
        ("sealed",),
        read_sealed,
        (PeerError, FramingError, *_ENDED),
        BYTES,
        weight=60,
    ),
)
