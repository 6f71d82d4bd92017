"""Statements of solvency on disk, one for each state that is saved, with the tree behind it.

```text
file   = magic (8) | header size (4, big-endian) | header | header digest (32) | keys | levels
header = StatementHeader, canonical
keys   = the account ids, rising, 32 bytes each
levels = the nodes of the Merkle-sum tree, 64 bytes each, level by level, the leaves first
```

A copy of the engine's process writes them (`node.workers.background_save`), so that neither a vote
nor a block waits for the walk over all accounts. A proof then costs two dozen small reads and needs
neither the state, which has moved on, nor the engine: the node itself answers.

Written whole or not at all, as snapshots are. What is read is checked where it is used: the header
by its digest, and a proof by proving (`engine.commitment.solvency.validate_equity_proof`).
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, NamedTuple, TypeVar

from msgspec import Meta, Struct

from crypto.codec import DecodeError, decode, encode
from crypto.digest import DIGEST_SIZE_BYTES, Domain, digest
from crypto.merkle_sum import LEAVES_MAX, SumProof, compute_widths, find_siblings
from crypto.types import Digest
from engine.commitment.proofs import (
    PROOF_MAX_BYTES,
    prove_system,
)
from engine.commitment.solvency import (
    EquityProof,
    SolvencyStatement,
    compute_solvency,
    decode_statement,
    encode_statement,
    validate_equity_proof,
)
from engine.errors import ProofError, SolvencyError
from engine.state import EngineState
from node.protocol import STATEMENTS_KEPT
from node.storage.disk import write_whole
from node.storage.errors import StorageError, mapping_errors

STATEMENT_SUFFIX: Final = ".solvency"

_MAGIC: Final = b"ROTASOLV"
_SIZE_SIZE_BYTES: Final = 4
_HEADER_MAX_BYTES: Final = 2 * PROOF_MAX_BYTES
_KEY_SIZE_BYTES: Final = 32
_NODE_SIZE_BYTES: Final = 64

_T = TypeVar("_T")


class StatementHeader(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is stated, and how many accounts stand behind it."""

    chain_id: Digest
    statement: bytes
    """`engine.commitment.solvency.encode_statement`."""
    totals_proof: Annotated[bytes, Meta(max_length=PROOF_MAX_BYTES)]
    """Of the leaf of the totals, under the statement's state root."""
    count: Annotated[int, Meta(ge=0, le=LEAVES_MAX)]


class StoredStatement(NamedTuple):
    """What a file says."""

    statement: SolvencyStatement
    encoded: bytes
    totals_proof: bytes


class StatementStore:
    """The statements of one chain in one directory. Blocking; one process writes, any may read."""

    def __init__(self, directory: Path, chain_id: bytes) -> None:
        self._directory = directory
        self._chain_id = chain_id

    def write(self, state: EngineState) -> None:
        """State the solvency of a state between blocks, durably. Raises `StorageError`, and
        `InvariantViolation` if the books do not balance."""
        content = encode_file(self._chain_id, state)
        with mapping_errors(f"save a statement of solvency in {self._directory}"):
            write_whole(self._path(state.height), (content,))

    def remove_obsolete(self, height: int) -> None:
        """Keep the newest up to a height that was just saved; what lies above is of a life that
        went further and was lost. Raises `StorageError`."""
        with mapping_errors(f"remove statements of solvency from {self._directory}"):
            heights = self.heights()
            newer = [each for each in heights if each > height]
            older = [each for each in heights if each <= height]
            for obsolete in (*newer, *older[STATEMENTS_KEPT:]):
                self._path(obsolete).unlink()

    def heights(self) -> list[int]:
        """Which heights there are statements of, the newest first."""
        names = (path.stem for path in self._directory.glob(f"*{STATEMENT_SUFFIX}"))
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def load(self, height: int) -> StoredStatement | None:
        """The statement about a height, or None. Raises `StorageError`."""
        return self._with_file(height, lambda file, header, _: _stored(header))

    def prove(self, height: int, account_id: bytes) -> bytes | None:
        """The proof of what an account is owed (an encoded `EquityProof`); None if there was no
        such account, or is no statement about the height. Raises `StorageError`."""

        def read(file: int, header: StatementHeader, start: int) -> bytes | None:
            proof = _read_proof(file, header.count, start, account_id)
            if proof is not None:
                try:
                    validate_equity_proof(_stored(header).statement, account_id, proof)
                except ProofError as error:
                    raise _damaged(self._path(height), str(error)) from error
            return proof

        return self._with_file(height, read)

    def _with_file(self, height: int, read: Callable[[int, StatementHeader, int], _T]) -> _T | None:
        """What `read` makes of a file's descriptor, its header and where its tree begins."""
        path = self._path(height)
        with mapping_errors(f"read {path}"):
            try:
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            try:
                header, start = self._read_header(path, file)
                return read(file, header, start)
            except (SolvencyError, DecodeError) as error:
                raise _damaged(path, str(error)) from error
            finally:
                os.close(file)

    def _read_header(self, path: Path, file: int) -> tuple[StatementHeader, int]:
        start = len(_MAGIC) + _SIZE_SIZE_BYTES
        head = os.pread(file, start, 0)
        size_bytes = int.from_bytes(head[len(_MAGIC) :], "big")
        if head[: len(_MAGIC)] != _MAGIC or size_bytes > _HEADER_MAX_BYTES:
            raise _damaged(path, "it does not begin as a statement")
        encoded = os.pread(file, size_bytes, start)
        end = start + size_bytes
        if os.pread(file, DIGEST_SIZE_BYTES, end) != _compute_header_digest(encoded):
            raise _damaged(path, "its header is damaged")
        header = decode(StatementHeader, encoded)
        if header.chain_id != self._chain_id:
            raise StorageError("storage.foreign", f"{path} belongs to another chain")
        return header, end + DIGEST_SIZE_BYTES

    def _path(self, height: int) -> Path:
        return self._directory / f"{height:020d}{STATEMENT_SUFFIX}"


def _stored(header: StatementHeader) -> StoredStatement:
    return StoredStatement(
        decode_statement(header.statement), header.statement, header.totals_proof
    )


def encode_file(chain_id: bytes, state: EngineState) -> bytes:
    """A whole file about a state between blocks. Raises `InvariantViolation` if the books do not
    balance."""
    solvency = compute_solvency(state)
    statement = encode_statement(solvency.statement)
    header = StatementHeader(chain_id, statement, prove_system(state), len(solvency.owed))
    nodes = (b"".join(level) for level in solvency.tree.levels())
    return encode_head(encode(header)) + b"".join((*solvency.owed, *nodes))


def encode_head(header: bytes) -> bytes:
    """What stands before the tree."""
    size = len(header).to_bytes(_SIZE_SIZE_BYTES, "big")
    return _MAGIC + size + header + _compute_header_digest(header)


def _compute_header_digest(header: bytes) -> bytes:
    return digest(Domain.SOLVENCY, b"file", header)


def _read_proof(file: int, count: int, start: int, account_id: bytes) -> bytes | None:
    """The proof of an account from a tree of `count` leaves that begins at `start`."""

    def read_key(place: int) -> bytes:
        return os.pread(file, _KEY_SIZE_BYTES, start + place * _KEY_SIZE_BYTES)

    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if read_key(middle) < account_id:
            low = middle + 1
        else:
            high = middle
    if low == count or read_key(low) != account_id:
        return None
    starts = [start + count * _KEY_SIZE_BYTES]
    for width in compute_widths(count):
        starts.append(starts[-1] + width * _NODE_SIZE_BYTES)

    def read_node(level: int, place: int) -> bytes:
        return os.pread(file, _NODE_SIZE_BYTES, starts[level] + place * _NODE_SIZE_BYTES)

    liability = read_node(0, low)[DIGEST_SIZE_BYTES:]
    siblings = tuple(read_node(*place) for place in find_siblings(count, low))
    return encode(EquityProof(liability, SumProof(count, low, siblings)))


def _damaged(path: Path, detail: str) -> StorageError:
    return StorageError("storage.corrupt", f"{path}: {detail}")
