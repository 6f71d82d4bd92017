"""What is kept on disk of a state that is saved: its snapshot with a manifest of its pieces, and
its statement of solvency."""

from pathlib import Path

from engine.genesis import EngineGenesis
from engine.state import EngineState
from node.workers.manifests import ManifestFiles
from node.workers.snapshots import SnapshotStore
from node.workers.statements import StatementStore


class StateFiles:
    """One directory of one chain, for one process."""

    def __init__(self, directory: Path, chain_id: bytes, genesis: EngineGenesis) -> None:
        self._snapshots = SnapshotStore(directory, chain_id, genesis)
        self._manifests = ManifestFiles(directory)
        self._statements = StatementStore(directory, chain_id)

    def load_newest(self) -> EngineState:
        """`SnapshotStore.load_newest`."""
        return self._snapshots.load_newest()

    def write(self, state: EngineState) -> None:
        """Make snapshot, manifest and statement durable. Raises `StorageError`, and
        `InvariantViolation` if the books do not balance."""
        self._manifests.write(state.height, self._snapshots.write(state))
        self._statements.write(state)

    def remove_obsolete(self, height: int) -> None:
        """What the state of this height, just saved, makes obsolete. Raises `StorageError`."""
        self._snapshots.remove_obsolete(height)
        self._manifests.remove_obsolete()
        self._statements.remove_obsolete(height)

    def save_snapshot(self, state: EngineState) -> None:
        """The snapshot alone: for a state at no height in particular, when the node stops. Raises
        `StorageError`."""
        self._snapshots.save(state)
