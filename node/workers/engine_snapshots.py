"""Snapshots of the engine's state on disk: written whole or not at all, checked when read.

```text
file = "RSNP" | version (4) | chain id (32) | digest (32) | `engine.snapshot.snapshot`
```

The newest and the one before it are kept, so that damage to one costs a longer replay and nothing
else. A snapshot is this node's own and is trusted as far as its digest reaches.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from crypto.digest import DIGEST_SIZE_BYTES, Domain, bulk_digest
from engine.errors import SnapshotError
from engine.genesis import EngineGenesis
from engine.snapshot import restore, snapshot
from engine.state import EngineState, create_state

SNAPSHOTS_KEPT: Final = 2

_MAGIC: Final = b"RSNP" + (1).to_bytes(4, "big")
_HEADER_SIZE_BYTES: Final = len(_MAGIC) + 2 * DIGEST_SIZE_BYTES
_SUFFIX: Final = ".snapshot"
_UNFINISHED_SUFFIX: Final = ".unfinished"


def save_snapshot(directory: Path, chain_id: bytes, state: EngineState) -> None:
    """Write the state, durably, and remove what is older than the one before. Raises `OSError`."""
    data = snapshot(state)
    path = directory / f"{state.height:020d}{_SUFFIX}"
    unfinished = path.with_suffix(_UNFINISHED_SUFFIX)
    with open(unfinished, "wb", opener=_open_private) as file:
        file.write(_MAGIC + chain_id + bulk_digest(Domain.SNAPSHOT, data))
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    for old in list(_newest_first(directory))[SNAPSHOTS_KEPT:]:
        old.unlink()


def load_newest(
    directory: Path, chain_id: bytes, genesis: EngineGenesis
) -> tuple[EngineState, tuple[str, ...]]:
    """The state of the newest good snapshot, or of genesis, and what had to be passed over.

    Raises `OSError`, and `engine.genesis.GenesisError` for a genesis that contradicts itself.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for unfinished in directory.glob(f"*{_UNFINISHED_SUFFIX}"):
        unfinished.unlink()
    skipped: list[str] = []
    for path in _newest_first(directory):
        try:
            return _load(path, chain_id, genesis), tuple(skipped)
        except SnapshotError as error:
            skipped.append(f"{path.name}: {error}")
    return create_state(genesis), tuple(skipped)


def _load(path: Path, chain_id: bytes, genesis: EngineGenesis) -> EngineState:
    content = path.read_bytes()
    header, data = content[:_HEADER_SIZE_BYTES], content[_HEADER_SIZE_BYTES:]
    if header != _MAGIC + chain_id + bulk_digest(Domain.SNAPSHOT, data):
        raise SnapshotError("damaged, of another version or of another chain")
    state = restore(data)
    if state.genesis != genesis:
        raise SnapshotError("of another genesis")
    if path.name != f"{state.height:020d}{_SUFFIX}":
        raise SnapshotError(f"holds height {state.height}")
    return state


def _newest_first(directory: Path) -> Iterator[Path]:
    """Names sort as heights."""
    return iter(sorted(directory.glob(f"*{_SUFFIX}"), reverse=True))


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
