"""The body of a lane's batch, and the check that every member makes before acknowledging one.

A batch carries two kinds of freight. *Envelopes* are transactions of the exchange engine: each is
decoded and its signature verified. *Opaque chunks* are fixed-size transactions of other
namespaces, back to back: the committee orders and delivers them, counts them by length and never
looks inside, so their cost per transaction is the cost of moving bytes.

`check_batch` is a pure function of bytes, meant for a worker process: what it returns is small,
picklable and encodable. A batch that fails it convicts its author (who signed the header), so the
check reads nothing but the batch: no ledger, no clock. An envelope that is well-formed but
expired, unfunded or a duplicate does not make a batch invalid; the header ledger refuses it.
"""

from enum import StrEnum
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

from crypto.codec import DecodeError, decode, encode
from crypto.digest import Domain, bulk_digest
from crypto.scheme import IdentityScheme
from crypto.types import BATCH_BODY_MAX_BYTES, Uint
from mempool.envelope import ENVELOPE_SIZE_MAX_BYTES
from mempool.refusal import RefusalCode
from mempool.validity import EnvelopeInvalidError, EnvelopeSummary, validate_envelope

BATCH_ENVELOPES_MAX: Final = 4096
"""Envelopes in one batch: bounds the signatures to verify (45 us each) and the summary."""

BATCH_CHUNKS_MAX: Final = 64
"""Opaque chunks in one batch: bounds what is looked at one by one."""

OPAQUE_TRANSACTION_MAX_BYTES: Final = 64 << 10
"""One opaque transaction; so any batch can hold several."""

BATCH_DETAIL_MAX_CHARACTERS: Final = 100
"""The words of a verdict: a position and a refusal code."""


class OpaqueChunk(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Fixed-size transactions of another namespace, back to back."""

    namespace: Annotated[int, Meta(ge=1, le=2**32 - 1)]
    transaction_size_bytes: Annotated[int, Meta(ge=1, le=OPAQUE_TRANSACTION_MAX_BYTES)]
    data: Annotated[bytes, Meta(min_length=1, max_length=BATCH_BODY_MAX_BYTES)]
    """A positive multiple of `transaction_size_bytes`."""

    @property
    def count(self) -> int:
        """Transactions in the chunk."""
        return len(self.data) // self.transaction_size_bytes


class BatchBody(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a batch carries: encoded envelopes in order, and opaque chunks."""

    envelopes: Annotated[
        tuple[Annotated[bytes, Meta(min_length=1, max_length=ENVELOPE_SIZE_MAX_BYTES)], ...],
        Meta(max_length=BATCH_ENVELOPES_MAX),
    ]
    opaque: Annotated[tuple[OpaqueChunk, ...], Meta(max_length=BATCH_CHUNKS_MAX)]


class OpaqueSummary(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How much of one other namespace a batch carries."""

    namespace: Annotated[int, Meta(ge=1, le=2**32 - 1)]
    count: Uint
    """Transactions."""
    size_bytes: Uint


class CheckableBatch(NamedTuple):
    """A batch's body, and what its signed header says of it."""

    author_key: bytes
    """The author's identity key."""
    author_signing_bytes: bytes
    signature: bytes
    """The author's, over `author_signing_bytes`."""
    body_digest: bytes
    size_bytes: int
    body: bytes


class BatchSummary(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the ordering process keeps of a checked batch."""

    envelopes: Annotated[tuple[EnvelopeSummary, ...], Meta(max_length=BATCH_ENVELOPES_MAX)]
    """In the batch's order."""
    opaque: Annotated[tuple[OpaqueSummary, ...], Meta(max_length=BATCH_CHUNKS_MAX)]
    """By rising namespace, each once."""


class BatchError(StrEnum):
    """Why a batch is invalid: its author's fault, always. Append-only."""

    TOO_LARGE = "batch.too_large"
    SIZE_MISMATCH = "batch.size_mismatch"
    BODY_MISMATCH = "batch.body_mismatch"
    AUTHOR_SIGNATURE_INVALID = "batch.author_signature_invalid"
    MALFORMED = "batch.malformed"
    EMPTY = "batch.empty"
    ENVELOPE_INVALID = "batch.envelope_invalid"
    OPAQUE_INVALID = "batch.opaque_invalid"


class BatchVerdict(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The outcome of `check_batch`: an error or a summary, never both."""

    error: BatchError | None
    summary: BatchSummary | None = None
    detail: Annotated[str, Meta(max_length=BATCH_DETAIL_MAX_CHARACTERS)] = ""
    """Which part of the batch is at fault and why, for the log; our own words, no outside bytes."""


def decode_batch_body(body: bytes) -> BatchBody:
    """Decode a batch body. Raises `DecodeError`, also for one that is too large."""
    if len(body) > BATCH_BODY_MAX_BYTES:
        raise DecodeError("the batch body is too large")
    return decode(BatchBody, body)


def is_cheap_to_check(body: bytes) -> bool:
    """Does a batch body claim to hold no envelope, so that `check_batch` costs no signatures?

    Looks at the two bytes that begin such an encoding (an array of two, the first one empty) and
    promises nothing: the check decides.
    """
    return body[:2] == _NO_ENVELOPES


_NO_ENVELOPES: Final = encode(BatchBody((), ()))[:2]


def encode_batch_body(body: BatchBody) -> bytes:
    """Return a batch body's bytes; its digest is `bulk_digest(Domain.BATCH_BODY, bytes)`."""
    data = encode(body)
    assert len(data) <= BATCH_BODY_MAX_BYTES, "a batch is filled below its limit"
    return data


def check_batch(batch: CheckableBatch, scheme: IdentityScheme, chain_id: bytes) -> BatchVerdict:
    """Check a batch against its signed header and every envelope in it.

    The cheap checks that bind the body to its author come first, so that nobody but the author
    can make a node verify thousands of signatures in its name.
    """
    if len(batch.body) > BATCH_BODY_MAX_BYTES:
        return BatchVerdict(BatchError.TOO_LARGE)
    if len(batch.body) != batch.size_bytes:
        return BatchVerdict(BatchError.SIZE_MISMATCH)
    if not scheme.verify(batch.author_key, batch.author_signing_bytes, batch.signature):
        return BatchVerdict(BatchError.AUTHOR_SIGNATURE_INVALID)
    return _summarize(batch.body, batch.body_digest, scheme, chain_id)


def reopen_batch(body: bytes, body_digest: bytes, chain_id: bytes) -> BatchVerdict:
    """What a batch contains that passed `check_batch` before, without verifying signatures.

    The digest says that the body is the one that passed, so the signatures in it are those that
    were verified. An error means that it is another one, or never was checked.
    """
    return _summarize(body, body_digest, None, chain_id)


def _summarize(
    body: bytes, body_digest: bytes, scheme: IdentityScheme | None, chain_id: bytes
) -> BatchVerdict:
    if bulk_digest(Domain.BATCH_BODY, body) != body_digest:
        return BatchVerdict(BatchError.BODY_MISMATCH)
    try:
        decoded = decode_batch_body(body)
    except DecodeError:
        return BatchVerdict(BatchError.MALFORMED)
    if not decoded.envelopes and not decoded.opaque:
        return BatchVerdict(BatchError.EMPTY)
    for index, chunk in enumerate(decoded.opaque):
        if len(chunk.data) % chunk.transaction_size_bytes:
            return BatchVerdict(
                BatchError.OPAQUE_INVALID, detail=f"chunk {index}: not whole transactions"
            )
    summaries = []
    for index, data in enumerate(decoded.envelopes):
        summary = _check_envelope(scheme, chain_id, data)
        if isinstance(summary, RefusalCode):
            return BatchVerdict(
                BatchError.ENVELOPE_INVALID, detail=f"envelope {index}: {summary.value}"
            )
        summaries.append(summary)
    return BatchVerdict(None, BatchSummary(tuple(summaries), summarize_opaque(decoded.opaque)))


def _check_envelope(
    scheme: IdentityScheme | None, chain_id: bytes, data: bytes
) -> EnvelopeSummary | RefusalCode:
    try:
        envelope, summary = validate_envelope(chain_id, data)
    except EnvelopeInvalidError as error:
        return error.code
    header = envelope.header
    if scheme is not None and not scheme.verify(
        header.signer, header.signing_bytes(), envelope.signature
    ):
        return RefusalCode.SIGNATURE_INVALID
    return summary


def summarize_opaque(chunks: tuple[OpaqueChunk, ...]) -> tuple[OpaqueSummary, ...]:
    """Count transactions and bytes by namespace, in rising order, from lengths alone."""
    totals: dict[int, tuple[int, int]] = {}
    for chunk in chunks:
        count, size_bytes = totals.get(chunk.namespace, (0, 0))
        totals[chunk.namespace] = (count + chunk.count, size_bytes + len(chunk.data))
    return tuple(OpaqueSummary(namespace, *totals[namespace]) for namespace in sorted(totals))
