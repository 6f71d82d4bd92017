"""Proofs of what the state root commits to: of an account, of a market, of a withdrawal, of the
totals, and that an account does not exist.

Whoever makes a proof needs the state; whoever checks one needs 32 bytes: a state root that it has
from a certified header. The value that a proof yields is the leaf's, whose bytes
`engine.commitment.root` gives; the hashes are those of `crypto.merkle`.

A proof is one canonical MessagePack value:

    present   [1, value, [levels]]
    absent    [0, [levels, neighbour]]
    level     [occupied, siblings]     occupied: u16, bit i for slot i; siblings: 32 bytes each
    neighbour nil, or [path, value]    path: 32 bytes

Levels stand in order from the root down. Neither form repeats the key: the reader brings it.
At 10,000 accounts with four positions each a proof has at most 1.9 KB, at 100,000 at most 2.3 KB.
None has more than `PROOF_MAX_BYTES`.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto.codec import DecodeError, decode, encode
from crypto.merkle import (
    NEIGHBOUR_VALUE_MAX_BYTES,
    MerkleAbsence,
    MerkleProof,
    verify_absence,
    verify_inclusion,
)
from engine.accounts.withdrawals import encode_withdrawal
from engine.commitment.root import (
    SYSTEM_KEY,
    compute_state_root,
    encode_account,
    encode_market,
    encode_system,
)
from engine.errors import ProofError
from engine.options.chains import encode_chain
from engine.state import EngineState

PROOF_MAX_BYTES: Final = 1 << 16
"""No proof is longer: 64 levels of 15 siblings, and the largest value."""


class PresentLeaf(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """The root holds the key, with this value."""

    value: Annotated[bytes, Meta(max_length=NEIGHBOUR_VALUE_MAX_BYTES)]
    proof: MerkleProof


class AbsentLeaf(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=0):
    """The root does not hold the key."""

    proof: MerkleAbsence


StateProof = PresentLeaf | AbsentLeaf
"""What the bytes of a proof hold."""


def prove_system(state: EngineState) -> bytes:
    """The proof of the leaf with the totals, the height and the genesis digest."""
    return prove_leaf(state, SYSTEM_KEY)


def prove_leaf(state: EngineState, key: bytes) -> bytes:
    """The proof of what the root of the state says of `key`; the state must be between blocks."""
    assert not state.is_rootless, "this state has skipped a root"
    compute_state_root(state)
    if key in state.tree:
        return encode(PresentLeaf(_encode_leaf(state, key), state.tree.prove(key)))
    return encode(
        AbsentLeaf(state.tree.prove_absence(key, lambda other: _encode_leaf(state, other)))
    )


def validate_proof(root: bytes, key: bytes, data: bytes) -> bytes | None:
    """The value that the state with this root has for `key`; None: it provably has none.

    `data` may come from anybody. Raises `ProofError`. The keys are `engine.commitment.root`'s.
    """
    if len(data) > PROOF_MAX_BYTES:
        raise ProofError("proof.too_large", f"{len(data)} bytes, at most {PROOF_MAX_BYTES}")
    try:
        proof: StateProof = decode(StateProof, data)  # type: ignore[arg-type]  # msgspec takes a union, `type[T]` does not
    except DecodeError as error:
        raise ProofError("proof.malformed", str(error)) from error
    if isinstance(proof, PresentLeaf):
        if verify_inclusion(root, key, proof.value, proof.proof):
            return proof.value
    elif verify_absence(root, key, proof.proof):
        return None
    raise ProofError("proof.invalid", "it does not lead from this key to this root")


def _encode_leaf(state: EngineState, key: bytes) -> bytes:
    """The value of a leaf that exists."""
    if key == SYSTEM_KEY:
        return encode_system(state)
    if key.startswith(b"m"):
        return encode_market(state.markets[int.from_bytes(key[1:], "big")])
    if key.startswith(b"o"):
        return encode_chain(state.chains[int.from_bytes(key[1:], "big")])
    if key.startswith(b"w"):
        return encode_withdrawal(state.withdrawals[int.from_bytes(key[1:], "big")])
    assert key.startswith(b"a"), "a leaf of a kind that cannot be proven yet"
    return encode_account(state.accounts[key[1:]])
