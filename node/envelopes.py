"""What a client submits and gets back: signed envelopes, and the engine's receipts."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from crypto import ed25519
from crypto.codec import encode
from engine.instructions import Bundle, Instruction
from engine.limits import INSTRUCTIONS_PER_BUNDLE_MAX
from engine.receipts import Receipt, Status
from mempool.envelope import (
    NAMESPACE_ENGINE,
    BodyKind,
    Envelope,
    EnvelopeHeader,
    compute_body_digest,
)
from node.client_stream import DoorError
from node.protocol import DOOR_FRAME_MAX_BYTES, ENVELOPES_MAX_PER_REQUEST

FRAME_OVERHEAD_BYTES: Final = 8 << 10
"""Bound on what a submit request adds to its envelopes: tag, number and one length each."""


class SignedEnvelope(NamedTuple):
    """An envelope ready for the door; the same bytes may be submitted any number of times."""

    envelope_id: bytes
    data: bytes
    nonce: int


class EnvelopeFactory:
    """Turns bundles of instructions into signed envelopes of one account.

    Nonces are milliseconds of the clock, but always above the factory's last one, so that no two
    of its envelopes share a nonce. Two factories for one signing key at the same time can collide;
    then the node refuses the later envelope.
    """

    def __init__(
        self,
        secret: bytes,
        chain_id: bytes,
        *,
        account: bytes | None = None,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`secret` is the signing key's seed. `account` differs from its public key only where it
        is a session key of that account. Raises `crypto.scheme.SchemeError`."""
        self._secret = secret
        self._chain_id = chain_id
        self._clock_ms = clock_ms
        self._last_nonce = 0
        self.signer = ed25519.public_key(secret)
        self.account = self.signer if account is None else account

    def sign(self, instructions: Sequence[Instruction], expiry_height: int) -> SignedEnvelope:
        """Sign one bundle. It is refused from `expiry_height` on, so that a bundle which did not
        get through cannot turn up later."""
        assert 1 <= len(instructions) <= INSTRUCTIONS_PER_BUNDLE_MAX
        return self.sign_body(encode(Bundle(tuple(instructions))), expiry_height)

    def sign_body(
        self,
        body: bytes,
        expiry_height: int,
        *,
        namespace: int = NAMESPACE_ENGINE,
        kind: BodyKind = BodyKind.PLAIN,
    ) -> SignedEnvelope:
        """Sign an encoded body of any kind and namespace."""
        self._last_nonce = max(self._last_nonce + 1, self._clock_ms())
        header = EnvelopeHeader(
            chain_id=self._chain_id,
            namespace=namespace,
            kind=kind,
            sender=self.account,
            signer=self.signer,
            nonce=self._last_nonce,
            expiry_height=expiry_height,
            body_digest=compute_body_digest(body),
            body_size_bytes=len(body),
        )
        signature = ed25519.sign(self._secret, header.signing_bytes())
        data = encode(Envelope(header, signature, body))
        return SignedEnvelope(header.envelope_id(), data, header.nonce)


def split_for_door(envelopes: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Cut a list of encoded envelopes, in order, into lists that `DoorClient.submit` takes."""
    part: list[bytes] = []
    size_bytes = 0
    for envelope in envelopes:
        if part and (
            len(part) == ENVELOPES_MAX_PER_REQUEST
            or size_bytes + len(envelope) > DOOR_FRAME_MAX_BYTES - FRAME_OVERHEAD_BYTES
        ):
            yield part
            part, size_bytes = [], 0
        part.append(envelope)
        size_bytes += len(envelope)
    if part:
        yield part


_ReceiptMap: Final[type[msgspec.Struct]] = msgspec.defstruct(
    "_ReceiptMap",
    [
        (field.name, str if field.name == "status" else field.type)
        for field in msgspec.structs.fields(Receipt)
    ],
    frozen=True,
)
"""A receipt as nodes tell it (`node.plain`): by field names, the status by its name."""


def convert_receipts(results: object) -> tuple[Receipt, ...]:
    """The engine's receipts in an `executed` event or an `envelope` view, one an instruction.

    Raises `DoorError`.
    """
    try:
        receipts = []
        for each in msgspec.convert(results, list[_ReceiptMap]):  # type: ignore[valid-type]  # made above
            fields = msgspec.structs.asdict(each)
            receipts.append(Receipt(**fields | {"status": Status[fields["status"].upper()]}))
        return tuple(receipts)
    except (msgspec.ValidationError, KeyError) as error:
        raise DoorError("door.malformed", f"receipts: {error}") from error
