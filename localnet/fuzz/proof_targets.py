"""Verifiers of what anybody may show of a state: proofs of leaves and of equity, statements, and
manifests of snapshots. An input carries all that its verifier is told, so that each part is bent.
"""

from typing import Any, Final

from crypto.codec import DecodeError, decode, decode_lenient, encode
from engine.commitment.proofs import (
    StateProof,
    prove_leaf,
    prove_system,
    validate_proof,
)
from engine.commitment.root import (
    account_key,
    withdrawal_key,
)
from engine.commitment.solvency import (
    EquityProof,
    compute_solvency,
    decode_statement,
    encode_statement,
    validate_equity_proof,
)
from engine.errors import ChunkError, ProofError, SolvencyError
from engine.snapshots.chunks import decode_manifest, encode_manifest, split
from engine.snapshots.whole import snapshot
from engine.state import EngineState
from localnet.fuzz.contract import Target, require
from localnet.fuzz.corpus import Corpus
from localnet.fuzz.ground import prepare_ground
from localnet.fuzz.trees import BYTES

_ABSENT: Final = b"\xff" * 32
"""No account of a simulation."""


def harvest_proofs(corpus: Corpus) -> None:
    """Proofs of a state that has traded."""
    state = prepare_ground().cluster.world.engines[0].state
    root = state.tree.root()
    account = min(state.accounts)
    for kind, key, proof in (
        ("proof.1", account_key(account), prove_leaf(state, account_key(account))),
        ("proof.1", b"s", prove_system(state)),
        ("proof.0", account_key(_ABSENT), prove_leaf(state, account_key(_ABSENT))),
        ("proof.0", withdrawal_key(9), prove_leaf(state, withdrawal_key(9))),
    ):
        corpus.add(kind, encode((root, key, proof)))
    solvency = compute_solvency(state)
    statement = encode_statement(solvency.statement)
    corpus.add("statement", statement)
    for account in sorted(state.accounts)[:3]:
        corpus.add("equity_proof", encode((statement, account, solvency.prove_equity(account))))
    corpus.add("manifest", _make_manifest(state))


def _make_manifest(state: EngineState) -> bytes:
    manifest, _ = split(snapshot(state))
    return encode_manifest(manifest)


def _validate_state_proof(data: bytes) -> None:
    root, key, proof = decode_lenient(tuple[bytes, bytes, bytes], data)
    validate_proof(root, key, proof)
    union: Any = StateProof
    require(encode(decode(union, proof)) == proof, "two encodings of one proof")


def _validate_equity_proof(data: bytes) -> None:
    statement, account, proof = decode_lenient(tuple[bytes, bytes, bytes], data)
    validate_equity_proof(decode_statement(statement), account, proof)
    require(encode(decode(EquityProof, proof)) == proof, "two encodings of one proof")


def _read_statement(data: bytes) -> None:
    require(encode_statement(decode_statement(data)) == data, "two encodings of one statement")


def _read_manifest(data: bytes) -> None:
    require(encode_manifest(decode_manifest(data)) == data, "two encodings of one manifest")


PROOF_TARGETS: Final = (
    Target(
        "state_proof",
        ("proof.*",),
        _validate_state_proof,
        (DecodeError, ProofError),
        types=("StateProof",),
    ),
    Target(
        "equity_proof",
        ("equity_proof",),
        _validate_equity_proof,
        (DecodeError, ProofError, SolvencyError),
        types=("EquityProof",),
    ),
    Target("statement", ("statement",), _read_statement, (SolvencyError,), BYTES),
    Target(
        "snapshot_manifest",
        ("manifest",),
        _read_manifest,
        (ChunkError,),
        BYTES,
        types=("Manifest",),
    ),
)
