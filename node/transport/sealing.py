"""Sealing: bulk frames under AES-256-GCM, with keys agreed inside the control connection.

One call seals a whole frame (512 KB in 0.06 ms), where TLS would cut it into 32 records. Each
direction of each attempt to connect has its own key, the nonce is a counter that both sides keep,
and nothing is sent of it: whatever is repeated, dropped, moved or changed does not open.
"""

from collections.abc import Sequence
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from crypto.digest import Domain
from node.framing import FramedStream
from node.transport.errors import PeerError

RANDOM_SIZE_BYTES: Final = 32
"""What each side contributes to a session."""

SESSION_ID_SIZE_BYTES: Final = 16
TAG_SIZE_BYTES: Final = 16
KEY_SIZE_BYTES: Final = 32

REKEY_BYTES: Final = 1 << 36
"""A key seals this much and is then replaced by one derived from it: 2^32 blocks, far inside what
RFC 8446, section 5.5, allows (2^34.5 blocks)."""

_NONCE_SIZE_BYTES: Final = 12


def _derive(secret: bytes, salt: bytes, label: bytes, size_bytes: int) -> bytes:
    info = Domain.PEER_SESSION.value.encode() + b"/" + label
    return HKDF(SHA256(), size_bytes, salt, info).derive(secret)


class Session:
    """What two members agreed on inside one control connection."""

    def __init__(self, chain_id: bytes, dialer_random: bytes, listener_random: bytes) -> None:
        assert len(dialer_random) == len(listener_random) == RANDOM_SIZE_BYTES
        self._chain_id = chain_id
        self._secret = dialer_random + listener_random
        self.session_id = _derive(self._secret, chain_id, b"id", SESSION_ID_SIZE_BYTES)
        """Names the session in the clear; proves nothing."""
        self.last_attempt = 0
        """The newest attempt that was used (by the dialer) or proven (to the listener)."""

    def make_key(self, attempt: int, *, from_dialer: bool) -> "DirectionKey":
        """The key of one direction of the bulk connection with this number, from 1 on."""
        direction = b"dialer" if from_dialer else b"listener"
        label = b"bulk/" + attempt.to_bytes(8, "big") + b"/" + direction
        return DirectionKey(_derive(self._secret, self._chain_id, label, KEY_SIZE_BYTES))


class DirectionKey:
    """Seals or opens the frames of one direction, in order."""

    def __init__(self, key: bytes, *, rekey_bytes: int = REKEY_BYTES) -> None:
        self._rekey_bytes = rekey_bytes
        self._use(key)

    def seal(self, frame: bytes) -> bytes:
        """Seal the next frame; `TAG_SIZE_BYTES` longer."""
        sealed = self._cipher.encrypt(self._nonce(), frame, None)
        self._advance(len(frame))
        return sealed

    def open(self, sealed: bytes) -> bytes:
        """Open the next frame. Raises `PeerError` (`peer.seal`)."""
        try:
            frame = self._cipher.decrypt(self._nonce(), sealed, None)
        except InvalidTag as error:
            raise PeerError("peer.seal", f"frame {self._count} does not open") from error
        self._advance(len(frame))
        return frame

    def _use(self, key: bytes) -> None:
        self._key = key
        self._cipher = AESGCM(key)
        self._count = 0
        self._bytes = 0

    def _nonce(self) -> bytes:
        return self._count.to_bytes(_NONCE_SIZE_BYTES, "big")

    def _advance(self, size_bytes: int) -> None:
        self._count += 1
        # A frame counts for its tag too, so empty ones do not go on for ever.
        self._bytes += size_bytes + TAG_SIZE_BYTES
        if self._bytes >= self._rekey_bytes:
            self._use(_derive(self._key, b"", b"next", KEY_SIZE_BYTES))


class SealedStream:
    """A framed stream whose frames are sealed; used like `FramedStream`."""

    def __init__(
        self, framed: FramedStream, sending: DirectionKey, receiving: DirectionKey
    ) -> None:
        self._framed = framed
        self._sending = sending
        self._receiving = receiving

    @classmethod
    def of_session(
        cls, framed: FramedStream, session: Session, attempt: int, *, is_dialer: bool
    ) -> Self:
        """The bulk connection of a session with this number."""
        return cls(
            framed,
            session.make_key(attempt, from_dialer=is_dialer),
            session.make_key(attempt, from_dialer=not is_dialer),
        )

    async def receive_frame(self) -> bytes:
        """The next frame, opened. Raises as `FramedStream.receive_frame`, and `PeerError`."""
        return self._receiving.open(await self._framed.receive_frame())

    async def send_frames(self, frames: Sequence[bytes]) -> None:
        """Seal and send, as `FramedStream.send_frames`."""
        await self._framed.send_frames([self._sending.seal(frame) for frame in frames])

    async def aclose(self) -> None:
        """Close at once."""
        await self._framed.aclose()
