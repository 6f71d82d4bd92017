"""How a connection begins: what kind it is, who is there, and what session it belongs to.

Everything here is done before the other side is trusted, within `HANDSHAKE_TIMEOUT_S` and a few
hundred bytes of memory. Both kinds of connection begin with 8 clear bytes, so that one port serves
both and a stray client is turned away by its first bytes.
"""

import secrets
import ssl
from collections.abc import Mapping
from typing import Annotated, Final, NamedTuple

import trio
from msgspec import Meta, Struct

from committee.committee import MemberIndex
from consensus.messages import BULK_FRAME_MAX_BYTES, CONTROL_FRAME_MAX_BYTES
from crypto.codec import DecodeError, decode, encode
from crypto.types import Digest
from node.framing import FramedStream
from node.transport.errors import PeerError
from node.transport.sealing import (
    RANDOM_SIZE_BYTES,
    SESSION_ID_SIZE_BYTES,
    TAG_SIZE_BYTES,
    SealedStream,
    Session,
)

PROTOCOL_VERSION: Final = 1
CONTROL_PREAMBLE: Final = b"rota/1/c"
BULK_PREAMBLE: Final = b"rota/1/b"
PREAMBLE_SIZE_BYTES: Final = 8

HANDSHAKE_TIMEOUT_S: Final = 5.0
"""From the first byte to a known peer; a handshake takes a few milliseconds of work."""

KEEPALIVE_S: Final = 2.0
"""A connection with nothing to say says so this often."""

IDLE_TIMEOUT_S: Final = 15.0
"""A connection without even keepalives for this long is dead."""

FRAME_TIMEOUT_S: Final = 20.0
"""From a frame's first byte to its last."""

WRITE_TIMEOUT_S: Final = 20.0
"""For the peer to take one write. A peer whose node does not keep up is cut off and dialed anew,
which clears what was waiting for it."""

HELLO_MAX_BYTES: Final = 256
"""A greeting; nothing larger is taken before it is checked."""

_ATTEMPT_SIZE_BYTES: Final = 8
_ATTEMPT_MAX: Final = 2**63 - 1

SEALED_FRAME_MAX_BYTES: Final = BULK_FRAME_MAX_BYTES + TAG_SIZE_BYTES

Random = Annotated[bytes, Meta(min_length=RANDOM_SIZE_BYTES, max_length=RANDOM_SIZE_BYTES)]


class Hello(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The first frame of each side inside TLS."""

    version: Annotated[int, Meta(ge=0, le=2**16)]
    chain_id: Digest
    sender: MemberIndex
    random: Random


class Control(NamedTuple):
    """An established control connection."""

    peer: int
    stream: FramedStream
    session: Session


async def receive_exactly(stream: trio.abc.ReceiveStream, size_bytes: int) -> bytes:
    """Read that many bytes. Raises `PeerError` (`peer.preamble`) if the stream ends before."""
    data = b""
    while len(data) < size_bytes:
        received = await stream.receive_some(size_bytes - len(data))
        if not received:
            raise PeerError("peer.preamble", f"ended after {len(data)} bytes")
        data += received
    return data


class Handshaker:
    """One member's side of every handshake."""

    def __init__(
        self,
        *,
        me: int,
        chain_id: bytes,
        certificates: Mapping[int, bytes],
        server_context: ssl.SSLContext,
        client_context: ssl.SSLContext,
    ) -> None:
        """`certificates` (DER) are the other members', by committee index."""
        self._me = me
        self._chain_id = chain_id
        self._certificates = certificates
        self._by_certificate = {value: index for index, value in certificates.items()}
        self._server_context = server_context
        self._client_context = client_context

    async def dial_control(self, stream: trio.abc.Stream, peer: int) -> Control:
        """Open the control connection to `peer`. Raises `PeerError` and what TLS raises."""
        await stream.send_all(CONTROL_PREAMBLE)
        tls = trio.SSLStream(stream, self._client_context)
        await tls.do_handshake()
        if _peer_certificate(tls) != self._certificates[peer]:
            raise PeerError("peer.certificate", f"another member answers for member {peer}")
        return await self._greet(tls, peer, is_dialer=True)

    async def accept_control(self, stream: trio.abc.Stream) -> Control:
        """Answer a control connection, its preamble read. Raises as `dial_control`."""
        tls = trio.SSLStream(stream, self._server_context, server_side=True)
        await tls.do_handshake()
        peer = self._by_certificate.get(_peer_certificate(tls))
        if peer is None:
            raise PeerError("peer.certificate", "not listed for any member")
        if peer >= self._me:
            raise PeerError("peer.direction", f"member {peer} must be dialed")
        return await self._greet(tls, peer, is_dialer=False)

    async def _greet(
        self, tls: "trio.SSLStream[trio.abc.Stream]", peer: int, *, is_dialer: bool
    ) -> Control:
        framed = _small_frames(tls, HELLO_MAX_BYTES)
        mine = secrets.token_bytes(RANDOM_SIZE_BYTES)
        await framed.send_frame(encode(Hello(PROTOCOL_VERSION, self._chain_id, self._me, mine)))
        theirs = self._check_hello(await framed.receive_frame(), peer)
        framed.frame_max_bytes = CONTROL_FRAME_MAX_BYTES
        randoms = (mine, theirs) if is_dialer else (theirs, mine)
        return Control(peer, framed, Session(self._chain_id, *randoms))

    def _check_hello(self, frame: bytes, peer: int) -> bytes:
        try:
            hello = decode(Hello, frame)
        except DecodeError as error:
            raise PeerError("peer.hello", str(error)) from error
        if hello.version != PROTOCOL_VERSION:
            raise PeerError("peer.version", f"member {peer} speaks version {hello.version}")
        if hello.chain_id != self._chain_id:
            raise PeerError("peer.chain", f"member {peer} is on chain {hello.chain_id.hex()}")
        if hello.sender != peer:
            raise PeerError("peer.hello", f"member {peer} calls itself {hello.sender}")
        return hello.random


async def dial_bulk(stream: trio.abc.Stream, session: Session) -> SealedStream:
    """Open the next bulk connection of a session. Raises `PeerError`."""
    session.last_attempt += 1
    attempt = session.last_attempt
    opening = BULK_PREAMBLE + session.session_id + attempt.to_bytes(_ATTEMPT_SIZE_BYTES, "big")
    await stream.send_all(opening)
    framed = _small_frames(stream, TAG_SIZE_BYTES)
    sealed = SealedStream.of_session(framed, session, attempt, is_dialer=True)
    await sealed.send_frames((b"",))
    await sealed.receive_frame()
    framed.frame_max_bytes = SEALED_FRAME_MAX_BYTES
    return sealed


async def read_bulk_opening(stream: trio.abc.Stream) -> tuple[bytes, int]:
    """Read (session id, attempt) after the preamble. Raises `PeerError`."""
    data = await receive_exactly(stream, SESSION_ID_SIZE_BYTES + _ATTEMPT_SIZE_BYTES)
    attempt = int.from_bytes(data[SESSION_ID_SIZE_BYTES:], "big")
    if not 1 <= attempt <= _ATTEMPT_MAX:
        raise PeerError("peer.session", f"attempt {attempt}")
    return data[:SESSION_ID_SIZE_BYTES], attempt


async def accept_bulk(stream: trio.abc.Stream, session: Session, attempt: int) -> SealedStream:
    """Answer a bulk connection. Raises `PeerError`; then nothing about the session has changed."""
    framed = _small_frames(stream, TAG_SIZE_BYTES)
    sealed = SealedStream.of_session(framed, session, attempt, is_dialer=False)
    await sealed.receive_frame()
    # Checked only now that the dialer has proven to know the keys: whoever records a connection
    # and plays it again, or guesses numbers, moves nothing.
    if attempt <= session.last_attempt:
        raise PeerError("peer.session", f"attempt {attempt} was used before")
    session.last_attempt = attempt
    framed.frame_max_bytes = SEALED_FRAME_MAX_BYTES
    await sealed.send_frames((b"",))
    return sealed


def _small_frames(stream: trio.abc.Stream, frame_max_bytes: int) -> FramedStream:
    """Frames as small as a handshake's; the caller widens them once the peer is known."""
    return FramedStream(
        stream,
        frame_max_bytes=frame_max_bytes,
        frame_timeout_s=FRAME_TIMEOUT_S,
        idle_timeout_s=IDLE_TIMEOUT_S,
        write_timeout_s=WRITE_TIMEOUT_S,
    )


def _peer_certificate(tls: "trio.SSLStream[trio.abc.Stream]") -> bytes:
    certificate = tls.getpeercert(binary_form=True)
    assert isinstance(certificate, bytes), "both contexts demand a certificate"
    return certificate
