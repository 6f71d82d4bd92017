"""Domain-separated hashing.

A digest binds the kind of thing (its domain), then every part with its length, so that bytes of
one kind can never be taken for another kind and no boundary between parts can move.
"""

import hashlib
from enum import StrEnum
from typing import Final

import blake3

DIGEST_SIZE_BYTES: Final = 32
"""Every digest and root in Rota has this length."""

ZERO_DIGEST: Final = bytes(DIGEST_SIZE_BYTES)
"""Stands where there is nothing yet: the parent of genesis, the predecessor of a lane's first
batch."""


class Domain(StrEnum):
    """Every purpose for which Rota hashes or signs. Append-only: a name is never reused."""

    GENESIS = "rota/genesis/v1"
    BLOCK = "rota/block/v1"
    PROPOSAL = "rota/proposal/v1"
    VOTE = "rota/vote/v1"
    TIMEOUT = "rota/timeout/v1"
    BATCH = "rota/batch/v1"
    BATCH_BODY = "rota/batch-body/v1"
    BATCH_AUTHOR = "rota/batch-author/v1"
    AVAILABILITY = "rota/availability/v1"
    CHECKPOINT = "rota/checkpoint/v1"
    ENVELOPE = "rota/envelope/v1"
    ENVELOPE_BODY = "rota/envelope-body/v1"
    ENVELOPE_SIGNATURE = "rota/envelope-signature/v1"
    STATE = "rota/state/v1"
    ORDER_STATE = "rota/order-state/v1"
    SEED = "rota/seed/v1"
    LEADER = "rota/leader/v1"
    EVIDENCE = "rota/evidence/v1"
    PEER_SESSION = "rota/peer-session/v1"
    SNAPSHOT = "rota/snapshot/v1"
    SNAPSHOT_CHUNK = "rota/snapshot-chunk/v1"
    SNAPSHOT_MANIFEST = "rota/snapshot-manifest/v1"
    SOLVENCY = "rota/solvency/v1"
    SUB_ACCOUNT = "rota/sub-account/v1"
    CEREMONY_TERMS = "rota/ceremony-terms/v1"
    CEREMONY_TRANSACTION = "rota/ceremony-transaction/v1"
    CEREMONY_STATE = "rota/ceremony-state/v1"
    SEALED_LABEL = "rota/sealed-label/v1"
    SEALED_PROOF = "rota/sealed-proof/v1"
    SEALING_KEY = "rota/sealing-key/v1"
    BEACON_EPOCH = "rota/beacon-epoch/v1"
    BEACON_BLOCK = "rota/beacon-block/v1"
    BEACON_SEED = "rota/beacon-seed/v1"
    DKG_SHARING = "rota/dkg-sharing/v1"
    DKG_KEYS = "rota/dkg-keys/v1"
    DKG_DEALING = "rota/dkg-dealing/v1"
    DKG_COMPLAINT = "rota/dkg-complaint/v1"
    DKG_ENCRYPTION_KEY = "rota/dkg-encryption-key/v1"
    DKG_ACKNOWLEDGEMENT = "rota/dkg-acknowledgement/v1"


_prefixes: dict[Domain, bytes] = {
    domain: bytes([len(domain.value)]) + domain.value.encode() for domain in Domain
}


def digest(domain: Domain, *parts: bytes) -> bytes:
    """SHA-256 over the domain and the length-prefixed parts: for consensus objects (up to KiB)."""
    data = _prefixes[domain]
    for part in parts:
        data += len(part).to_bytes(8, "big") + part
    return hashlib.sha256(data).digest()


def bulk_digest(domain: Domain, data: bytes) -> bytes:
    """BLAKE3 over the domain and one large part: for batch bodies (512 KB in 0.08 ms)."""
    state = blake3.blake3(_prefixes[domain])
    state.update(data)
    return state.digest()
