"""What the node and its crypto processes say to each other: one answer a request, in order."""

from typing import Final

from msgspec import Struct

from crypto.scheme import Claim
from crypto.types import BATCH_BODY_MAX_BYTES, Digest
from mempool.batch import BatchVerdict

FRAME_MAX_BYTES: Final = 64 << 20
"""One frame in either direction: bodies have at most `BATCH_BODY_MAX_BYTES`, claims and verdicts
stay far below; both ends are ours."""

assert BATCH_BODY_MAX_BYTES < FRAME_MAX_BYTES


class Open(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """First request. Answer: none."""

    chain_id: Digest


class CheckBatch(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """A `mempool.batch.CheckableBatch`, whose body follows as a frame of its own, so that it
    crosses without being copied into a message. Answer: `BatchChecked`."""

    author_key: bytes
    author_signing_bytes: bytes
    signature: bytes
    body_digest: bytes
    size_bytes: int


class VerifyIdentities(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """Ed25519 claims. Answer: `IdentitiesVerified`."""

    claims: tuple[Claim, ...]


class ReopenBatches(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """Batches for `mempool.batch.reopen_batch`; their bodies follow, a frame each. Answer:
    `BatchesReopened`."""

    body_digests: tuple[Digest, ...]


Request = Open | CheckBatch | VerifyIdentities | ReopenBatches


class BatchChecked(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """The verdict on a batch."""

    verdict: BatchVerdict


class IdentitiesVerified(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """One result a claim, in order."""

    results: tuple[bool, ...]


class BatchesReopened(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """One verdict a batch, in order."""

    verdicts: tuple[BatchVerdict, ...]


Reply = BatchChecked | IdentitiesVerified | BatchesReopened
