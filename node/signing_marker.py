"""A note beside the keys that they may have signed: keys outlive the data of their home.

What a node has signed stands in its safety records, in `data/`. Whoever loses `data/` and keeps
`keys/`, or sets up a new machine from a backup of the keys, has a home that looks as if it had
never run, and whose node would sign again what it signed before. So before a node may sign for a
chain for the first time it leaves a marker in `keys/`, which goes wherever the keys go.

The stored batches are such a record, too: of what was signed at which place of a lane.

The order in which a first start makes things durable tells loss from a crash:

1. the safety records exist, empty;
2. the batch store exists, empty;
3. the marker exists;
4. the node may sign.

A crash between any two leaves a home that starts: with empty stores, marked or not. A marker
without one of them is left by no crash, only by loss. (A batch store of which a part is lost, or
that is of an older day, is found by `node.recovery`.)
"""

import time
from pathlib import Path

import msgspec
from msgspec import Struct

from node.home import NodeHome, write_atomically
from node.storage.batches import is_batch_store
from node.storage.disk import sync_directory
from node.storage.errors import SafetyError, mapping_errors


class SigningMarker(Struct, frozen=True):
    """What the file says, for the human who reads it; that it exists is what counts."""

    chain_id: str
    consensus_key: str
    since_ms: int
    """Wall clock of the first start."""


def marker_path(home: NodeHome, chain_id: bytes) -> Path:
    """Where the marker for a chain lies."""
    return home.keys_dir / f"signing-{chain_id.hex()}.json"


def may_create_safety_records(home: NodeHome, chain_id: bytes) -> bool:
    """Has nothing in this home ever run on this chain?"""
    traces = (marker_path(home, chain_id), home.chain_path, home.segments_dir)
    return not any(path.exists() for path in traces)


def validate_memory(home: NodeHome, chain_id: bytes) -> None:
    """Raise `SafetyError` (`safety.missing`, `safety.batches_missing`; exit code 71) if keys that
    may have signed for this chain are here without the record of what they signed. Raises
    `OSError`."""
    if not home.safety_path.exists() and not may_create_safety_records(home, chain_id):
        raise _make_loss("safety.missing", home, f"{home.safety_path} is missing")
    if marker_path(home, chain_id).exists() and not is_batch_store(home.segments_dir):
        loss = f"{home.segments_dir} is missing or empty"
        raise _make_loss("safety.batches_missing", home, loss)


def _make_loss(code: str, home: NodeHome, loss: str) -> SafetyError:
    return SafetyError(
        f"{loss}, but the keys of this home may have signed for this chain",
        advice=f"restore {home.data_dir} as it was when this node last ran; if it is lost, retire "
        "these keys: without their records they must never sign for this chain again. Without "
        f"signing, and with {home.data_dir} moved away, the node can follow: "
        "rota node start --follow",
        code=code,
    )


def mark_signing(home: NodeHome, chain_id: bytes, consensus_key: bytes) -> None:
    """Leave the marker, durably, once safety records and batch store exist; before anything is
    signed.

    Raises `StorageError`.
    """
    assert home.safety_path.exists(), (
        "records first: without them a marker means that they are lost"
    )
    assert is_batch_store(home.segments_dir), "likewise"
    path = marker_path(home, chain_id)
    with mapping_errors(f"write {path}"):
        if path.exists():
            return
        # The records themselves are synced by whoever made them; these are the names on the way.
        sync_directory(home.segments_dir)
        sync_directory(home.data_dir)
        sync_directory(home.path)
        since_ms = time.time_ns() // 1_000_000
        marker = SigningMarker(chain_id.hex(), consensus_key.hex(), since_ms)
        write_atomically(path, msgspec.json.encode(marker) + b"\n")
