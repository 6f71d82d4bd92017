"""Why an envelope or an opaque submission is turned away: one code for each rule.

The codes are public: clients branch on them, receipts carry them, so a name is never reused.
"""

from enum import StrEnum


class RefusalCode(StrEnum):
    """Stable reason codes. Append-only."""

    # From the envelope's own bytes (`mempool.validity`); a batch that carries one is invalid.
    ENVELOPE_TOO_LARGE = "envelope.too_large"
    ENVELOPE_MALFORMED = "envelope.malformed"
    WRONG_CHAIN = "envelope.wrong_chain"
    NAMESPACE_UNSUPPORTED = "envelope.namespace_unsupported"
    KIND_UNSUPPORTED = "envelope.kind_unsupported"
    BODY_MISMATCH = "envelope.body_mismatch"
    KEYS_MALFORMED = "envelope.keys_malformed"
    SIGNATURE_INVALID = "envelope.signature_invalid"
    ROOT_KEY_REQUIRED = "key.root_required"

    # From the header ledger's state at the envelope's position (`mempool.ledger`).
    EXPIRED = "envelope.expired"
    EXPIRY_TOO_FAR = "envelope.expiry_too_far"
    ACCOUNT_UNKNOWN = "account.unknown"
    KEY_UNAUTHORISED = "key.unauthorised"
    NONCE_TOO_OLD = "nonce.too_old"
    NONCE_TOO_FAR = "nonce.too_far"
    NONCE_TOO_LOW = "nonce.too_low"
    NONCE_DUPLICATE = "nonce.duplicate"
    FEE_INSUFFICIENT = "fee.insufficient"
    KEY_DEAD = "key.dead"
    KEY_EXISTS = "key.exists"
    KEY_UNKNOWN = "key.unknown"
    KEY_TOO_MANY = "key.too_many"
    KEY_EXPIRY_INVALID = "key.expiry_invalid"

    # At one node's door only (`mempool.admission`); another node may decide otherwise.
    ENVELOPE_PENDING = "envelope.pending"
    SENDER_FULL = "pool.sender_full"
    POOL_FULL = "pool.full"
    OPAQUE_MALFORMED = "opaque.malformed"
    NODE_FOLLOWS = "node.follows"
