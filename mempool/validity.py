"""What makes one envelope valid from its own bytes alone, the same for ever and on every node.

Admission refuses an invalid envelope; a batch that carries one is invalid as a whole, and its
author broke the rules by proposing it. Nothing here reads state or time: a rule that does belongs
to the header ledger.

A new kind of body is supported by adding it to `SUPPORTED_KINDS` and giving `_summarize_body` a
branch for whatever of it the header ledger must see.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto.codec import DecodeError
from crypto.types import Digest
from mempool.envelope import (
    ENVELOPE_SIZE_MAX_BYTES,
    NAMESPACE_ENGINE,
    BodyKind,
    Envelope,
    EnvelopeHeader,
    compute_body_digest,
    decode_envelope,
)
from mempool.keys import KEY_CHANGES_MAX, KeyChange, decode_key_changes
from mempool.refusal import RefusalCode

SUPPORTED_KINDS: Final = frozenset({BodyKind.PLAIN, BodyKind.KEYS})
"""Bodies that this chain can execute. A sealed body needs a decryption key; there is none yet."""


class EnvelopeSummary(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """All that the ordering path keeps of an envelope; its body stays in the batch store."""

    envelope_id: Digest
    header: EnvelopeHeader
    key_changes: Annotated[tuple[KeyChange, ...], Meta(max_length=KEY_CHANGES_MAX)] = ()
    """The decoded body of a `KEYS` envelope, empty for every other kind."""


class EnvelopeInvalidError(Exception):
    """The envelope can never be valid on this chain; `code` says why."""

    def __init__(self, code: RefusalCode) -> None:
        super().__init__(code.value)
        self.code = code


def validate_envelope(chain_id: bytes, data: bytes) -> tuple[Envelope, EnvelopeSummary]:
    """Decode an envelope and check everything but its signature.

    Raises `EnvelopeInvalidError`. The signature is left out because it costs a hundred times the
    rest: callers check it in bulk, away from the event loop, or last.
    """
    if len(data) > ENVELOPE_SIZE_MAX_BYTES:
        raise EnvelopeInvalidError(RefusalCode.ENVELOPE_TOO_LARGE)
    try:
        envelope = decode_envelope(data)
    except DecodeError as error:
        raise EnvelopeInvalidError(RefusalCode.ENVELOPE_MALFORMED) from error
    header = envelope.header
    if header.chain_id != chain_id:
        raise EnvelopeInvalidError(RefusalCode.WRONG_CHAIN)
    if header.namespace != NAMESPACE_ENGINE:
        raise EnvelopeInvalidError(RefusalCode.NAMESPACE_UNSUPPORTED)
    if header.kind not in SUPPORTED_KINDS:
        raise EnvelopeInvalidError(RefusalCode.KIND_UNSUPPORTED)
    is_size_right = len(envelope.body) == header.body_size_bytes
    if not is_size_right or compute_body_digest(envelope.body) != header.body_digest:
        raise EnvelopeInvalidError(RefusalCode.BODY_MISMATCH)
    summary = EnvelopeSummary(header.envelope_id(), header, _summarize_body(header, envelope.body))
    return envelope, summary


def _summarize_body(header: EnvelopeHeader, body: bytes) -> tuple[KeyChange, ...]:
    """Return what the header ledger needs of a body. Raises `EnvelopeInvalidError`."""
    if header.kind is not BodyKind.KEYS:
        return ()
    if header.signer != header.sender:
        raise EnvelopeInvalidError(RefusalCode.ROOT_KEY_REQUIRED)
    try:
        return decode_key_changes(body)
    except DecodeError as error:
        raise EnvelopeInvalidError(RefusalCode.KEYS_MALFORMED) from error
