"""The key to which a member's shares are encrypted, one for each sharing, erased with its shares.

Whoever later learns it opens every share that was ever dealt to it on the chain, so it may not
outlive them. Its possession is proven, or a member could register a key made from another's and
have what the other reveals in a complaint open its own.
"""

import hashlib
from typing import Final

from crypto.digest import Domain
from crypto.dkg.proofs import compute_proof_size_bytes, is_knowledge_right, prove_knowledge
from crypto.group import ORDER, G, GroupError, decode_g1, encode_g1, encode_scalar, multiply

SEED_SIZE_BYTES: Final = 32
PROOF_SIZE_BYTES: Final = compute_proof_size_bytes(1)


def make_encryption_key(context: bytes, seed: bytes) -> tuple[bytes, bytes, bytes]:
    """Return secret, public key and proof of possession.

    `seed` is 32 fresh random bytes; `context` names chain and owner, so that nobody else can
    register the key as his.
    """
    assert len(seed) == SEED_SIZE_BYTES
    stream = hashlib.shake_256(b"rota/dkg-encryption-key-seed/v1" + seed).digest(48)
    secret = int.from_bytes(stream, "big") % (ORDER - 1) + 1
    proof = prove_knowledge(Domain.DKG_ENCRYPTION_KEY, context, [secret])
    return encode_scalar(secret), encode_g1(multiply(G, secret)), proof


def is_encryption_key_right(context: bytes, public_key: bytes, proof: bytes) -> bool:
    """May this key be registered? For bytes from anywhere; 0.4 ms."""
    try:
        point = decode_g1(public_key)
    except GroupError:
        return False
    return is_knowledge_right(Domain.DKG_ENCRYPTION_KEY, context, [point], proof)
