"""The peers of a node: dial, listen, keep connected, send and receive.

Rules for maintainers:

1. Nothing that a peer or a stranger does may raise out of `serve`. Every connection runs behind
   `_guarded`, which logs the error by name, counts it and ends that connection. Cancellation
   passes through it.
2. Nothing waits for a peer: `send` queues or drops. Only a peer's own reader ever blocks.
3. Whatever is not authenticated yet has a deadline and one of a bounded number of places
   (`places`). When they are all taken an old one makes room: refusing the newest would let a dozen
   silent connections a second lock everybody out.
"""

import random
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

import structlog
import trio

from committee.committee import Committee
from consensus.messages import BULK_FRAME_MAX_BYTES, CONTROL_FRAME_MAX_BYTES
from node.addresses import AddressCounts, group_address
from node.framing import FramingError
from node.groups import walk_leaves
from node.logs import is_doubling
from node.transport.certificate import (
    CertificateError,
    make_certificate,
    make_client_context,
    make_server_context,
    validate_certificate,
)
from node.transport.errors import PeerError
from node.transport.handshake import (
    BULK_PREAMBLE,
    CONTROL_PREAMBLE,
    HANDSHAKE_TIMEOUT_S,
    PREAMBLE_SIZE_BYTES,
    Control,
    Handshaker,
    accept_bulk,
    dial_bulk,
    read_bulk_opening,
    receive_exactly,
)
from node.transport.peer import LineStatistics, Peer
from node.transport.places import HandshakePlaces
from node.transport.queues import Inbox, Traffic
from node.transport.sealing import Session

HANDSHAKES_MAX: Final = 128
"""Incoming connections that have not proven who they are."""

HANDSHAKES_FAILED_MAX: Final = 64
"""In `HANDSHAKES_FAILED_WINDOW_S`, from one address; then it is turned away before TLS, of which an
attempt costs the event loop 0.3 ms. A member dials once a second at most."""

HANDSHAKES_FAILED_WINDOW_S: Final = 10.0

REDIAL_MIN_S: Final = 0.05
REDIAL_MAX_S: Final = 1.0
"""Waits between attempts double from the first to the second, each shortened by a random part so
that restarted members do not dial in step."""

CONTROL_INBOX_FRAMES_MAX: Final = 256
CONTROL_INBOX_BYTES_MAX: Final = 4 << 20
BULK_INBOX_FRAMES_MAX: Final = 64
BULK_INBOX_BYTES_MAX: Final = 8 << 20
"""What one peer may have waiting for the node; then it is not read any further."""

_FRAME_MAX_BYTES: Final = {
    Traffic.CONTROL: CONTROL_FRAME_MAX_BYTES,
    Traffic.BULK: BULK_FRAME_MAX_BYTES,
}

_log = structlog.get_logger(__name__)


class PeerAddress(NamedTuple):
    """Where another member listens, and the certificate (DER) by which it is known."""

    host: str
    port: int
    certificate: bytes


class PeerStatistics(NamedTuple):
    """One peer."""

    name: str
    control: LineStatistics
    bulk: LineStatistics


class NetworkStatistics(NamedTuple):
    """The whole network, since the start."""

    peers: dict[int, PeerStatistics]
    """By committee index."""
    handshakes: int
    """Incoming connections not authenticated yet."""
    errors: dict[str, int]
    """Connections that failed, by code."""


class PeerNetwork:
    """Connections to all other members of one committee."""

    def __init__(
        self,
        *,
        me: int,
        committee: Committee,
        chain_id: bytes,
        identity_secret: bytes,
        listen: tuple[str, int],
        peers: Mapping[int, PeerAddress],
        jitter: random.Random | None = None,
    ) -> None:
        """`peers` holds every other member that is to be connected, by committee index.

        Raises `CertificateError` if a certificate is not of that member's registered identity.
        """
        self._me = me
        self._listen = listen
        self._jitter = jitter if jitter is not None else random.Random()
        self.control = Inbox(frames_max=CONTROL_INBOX_FRAMES_MAX, bytes_max=CONTROL_INBOX_BYTES_MAX)
        """Control frames as they arrive."""
        self.bulk = Inbox(frames_max=BULK_INBOX_FRAMES_MAX, bytes_max=BULK_INBOX_BYTES_MAX)
        """Bulk frames as they arrive; a full bulk inbox never holds up control."""
        inboxes = {Traffic.CONTROL: self.control, Traffic.BULK: self.bulk}
        self._peers: dict[int, Peer] = {}
        for index, address in sorted(peers.items()):
            assert index != me, "a node is not its own peer"
            member = committee.members[index]
            try:
                validate_certificate(address.certificate, member.identity_key)
            except CertificateError as error:
                raise CertificateError(f"certificate of {member.name}: {error}") from error
            self._peers[index] = Peer(index, member.name, address.host, address.port, inboxes)
        certificates = {index: address.certificate for index, address in peers.items()}
        own = make_certificate(identity_secret, committee.members[me].name)
        self._handshaker = Handshaker(
            me=me,
            chain_id=chain_id,
            certificates=certificates,
            server_context=make_server_context(identity_secret, own, certificates.values()),
            client_context=make_client_context(identity_secret, own, certificates.values()),
        )
        self._sessions: dict[bytes, tuple[Peer, Session]] = {}
        """Of running control connections that this node answered, by session id."""
        self._handshakes = HandshakePlaces(HANDSHAKES_MAX)
        self._failed_handshakes = AddressCounts(HANDSHAKES_FAILED_WINDOW_S)
        self._errors: Counter[str] = Counter()

    def send(self, to: int, traffic: Traffic, frame: bytes) -> bool:
        """Queue a frame for a member, never waiting; False if it was dropped (and counted).

        The same bytes object may go to many members; it is not copied.
        """
        assert 0 < len(frame) <= _FRAME_MAX_BYTES[traffic], "our own frames keep the limit"
        peer = self._peers.get(to)
        return peer is not None and peer.lines[traffic].send(frame)

    def connected(self) -> set[int]:
        """Members with a control connection."""
        return {
            index for index, peer in self._peers.items() if peer.lines[Traffic.CONTROL].is_connected
        }

    def statistics(self) -> NetworkStatistics:
        """Counters and queue lengths."""
        peers = {
            index: PeerStatistics(
                peer.name,
                peer.lines[Traffic.CONTROL].statistics(),
                peer.lines[Traffic.BULK].statistics(),
            )
            for index, peer in self._peers.items()
        }
        return NetworkStatistics(peers, len(self._handshakes), dict(self._errors))

    async def serve(
        self, *, task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen and dial until cancelled. Reports the address that it listens on.

        Raises `OSError` if it cannot listen there, and nothing for any fault of a peer.
        """
        host, port = self._listen
        listeners = await trio.open_tcp_listeners(port, host=host)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._accept, listeners)
            for peer in self._peers.values():
                if self._me < peer.index:
                    nursery.start_soon(self._dial_forever, peer)
            bound = listeners[0].socket.getsockname()
            task_status.started((bound[0], bound[1]))

    # ---- dialing ---------------------------------------------------------------------------

    async def _dial_forever(self, peer: Peer) -> None:
        await self._redial(peer, Traffic.CONTROL, partial(self._run_dialed_control, peer))

    async def _redial(
        self, peer: Peer, traffic: Traffic, connect: Callable[[], Awaitable[None]]
    ) -> None:
        """Connect again and again, waiting longer each time it does not come to a connection."""
        wait_s = REDIAL_MIN_S
        line = peer.lines[traffic]
        while True:
            before = line.statistics().connections
            await self._guarded(connect, peer.name, traffic)
            if line.statistics().connections > before:
                wait_s = REDIAL_MIN_S
            await trio.sleep(wait_s * (1 - self._jitter.random() / 2))
            wait_s = min(2 * wait_s, REDIAL_MAX_S)

    async def _run_dialed_control(self, peer: Peer) -> None:
        stream: trio.abc.Stream | None = None
        try:
            with trio.fail_after(HANDSHAKE_TIMEOUT_S):
                stream = await trio.open_tcp_stream(peer.host, peer.port)
                control = await self._handshaker.dial_control(stream, peer.index)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    self._redial,
                    peer,
                    Traffic.BULK,
                    partial(self._run_dialed_bulk, peer, control.session),
                )
                await self._run_control(peer, control)
                nursery.cancel_scope.cancel()
        finally:
            if stream is not None:
                await trio.aclose_forcefully(stream)

    async def _run_dialed_bulk(self, peer: Peer, session: Session) -> None:
        stream: trio.abc.Stream | None = None
        try:
            with trio.fail_after(HANDSHAKE_TIMEOUT_S):
                stream = await trio.open_tcp_stream(peer.host, peer.port)
                sealed = await dial_bulk(stream, session)
            await peer.lines[Traffic.BULK].run(sealed)
        finally:
            if stream is not None:
                await trio.aclose_forcefully(stream)

    # ---- answering -------------------------------------------------------------------------

    async def _accept(self, stream: trio.SocketStream) -> None:
        try:
            await self._guarded(partial(self._answer, stream), None, None)
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, stream: trio.SocketStream) -> None:
        address = group_address(stream.socket.getpeername()[0])
        self._validate_ration(address)
        try:
            with self._handshakes.take(address), trio.fail_after(HANDSHAKE_TIMEOUT_S):
                run = await self._authenticate(stream, address)
        except Exception:
            # Whatever went wrong counts against the address; it is raised on to the connection's
            # own barrier.
            self._failed_handshakes.add(address, trio.current_time())
            raise
        await run()

    def _validate_ration(self, address: str) -> None:
        """Raise `PeerError` if too many handshakes from there have failed. An address from which a
        member came is exempt: whoever shares it must not shut the member out."""
        failed = self._failed_handshakes.within(address, trio.current_time())
        if failed >= HANDSHAKES_FAILED_MAX and all(
            peer.came_from != address for peer in self._peers.values()
        ):
            raise PeerError("peer.rationed", f"{failed} handshakes from {address} have failed")

    async def _authenticate(
        self, stream: trio.SocketStream, address: str
    ) -> Callable[[], Awaitable[None]]:
        """Find out who is there; return what runs the connection from then on."""
        preamble = await receive_exactly(stream, PREAMBLE_SIZE_BYTES)
        if preamble == CONTROL_PREAMBLE:
            control = await self._handshaker.accept_control(stream)
            self._peers[control.peer].came_from = address
            return partial(self._run_answered_control, control)
        if preamble != BULK_PREAMBLE:
            raise PeerError("peer.preamble", "not one of ours")
        session_id, attempt = await read_bulk_opening(stream)
        if session_id not in self._sessions:
            raise PeerError("peer.session", "no such session")
        peer, session = self._sessions[session_id]
        sealed = await accept_bulk(stream, session, attempt)
        if session_id not in self._sessions:
            raise PeerError("peer.session", "the session ended meanwhile")
        return partial(peer.lines[Traffic.BULK].run, sealed)

    async def _run_answered_control(self, control: Control) -> None:
        peer = self._peers[control.peer]
        session_id = control.session.session_id
        # The peer dialed anew, so whatever it had before is dead or will be.
        peer.disconnect()
        peer.session_id = session_id
        self._sessions[session_id] = (peer, control.session)
        try:
            await self._run_control(peer, control)
        finally:
            del self._sessions[session_id]
            if peer.session_id == session_id:
                peer.lines[Traffic.BULK].disconnect()

    # ---- both ------------------------------------------------------------------------------

    async def _run_control(self, peer: Peer, control: Control) -> None:
        _log.info("peer_connected", peer=peer.name)
        try:
            await peer.lines[Traffic.CONTROL].run(control.stream)
        finally:
            _log.info("peer_disconnected", peer=peer.name)

    async def _guarded(
        self,
        run: Callable[[], Awaitable[None]],
        peer: str | None,
        traffic: Traffic | None,
    ) -> None:
        """Run one connection; whatever it raises is logged, counted and ends here."""
        try:
            await run()
        except* Exception as group:
            for error in walk_leaves(group):
                code = _classify(error)
                self._errors[code] += 1
                count = self._errors[code]
                # Trio says only that a stream broke; why, its cause knows.
                detail = str(error.__cause__ or error)
                log = _log.bind(peer=peer, traffic=traffic, code=code, count=count, detail=detail)
                if code == "peer.internal":
                    log.error("peer_connection_crashed", exc_info=error)
                elif code in _QUIET_CODES or (peer is None and not is_doubling(count)):
                    log.debug("peer_connection_ended")
                else:
                    log.warning("peer_connection_failed")


_QUIET_CODES: Final = frozenset(
    {"peer.unreachable", "peer.closed", "peer.preamble", "peer.rationed"}
)
"""Everyday events: a member is down, or something else probes the port."""


def _classify(error: BaseException) -> str:
    """A stable code for what ended a connection; `peer.internal` is a bug of ours."""
    if isinstance(error, (PeerError, FramingError)):
        return error.code
    if isinstance(error, trio.TooSlowError):
        return "peer.handshake_timeout"
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) else error
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
        return "peer.tls"
    if isinstance(error, (trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel)):
        return "peer.closed"
    if isinstance(error, OSError):
        return "peer.unreachable"
    return "peer.internal"
