"""Which pieces a saved snapshot has, for nodes that join: a manifest beside the snapshot's file.

The pieces themselves are ranges of the snapshot's file. The process that saves cuts them
(`engine.snapshots.chunks`), so that the node, which must not block, only reads. A manifest without
its snapshot, or a snapshot without a manifest, is offered to nobody.
"""

from pathlib import Path
from typing import Final

from engine.errors import ChunkError
from engine.snapshots.chunks import encode_manifest, split
from node.storage.disk import write_whole
from node.storage.errors import mapping_errors
from node.workers.snapshots import SUFFIX, read_state_range

MANIFEST_SUFFIX: Final = ".manifest"


class ManifestFiles:
    """The manifests in the directory of a node's snapshots. Blocking; one process writes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, height: int, body: bytes) -> None:
        """Name the pieces of a state, durably. One that is too large to be sent gets no manifest.
        Raises `StorageError`."""
        try:
            manifest, _ = split(body)
        except ChunkError:
            return
        with mapping_errors(f"save a manifest in {self._directory}"):
            write_whole(self._path(height), (encode_manifest(manifest),))

    def remove_obsolete(self) -> None:
        """Remove the manifests of snapshots that are gone. Raises `StorageError`."""
        with mapping_errors(f"remove manifests from {self._directory}"):
            for path in self._directory.glob(f"*{MANIFEST_SUFFIX}"):
                if not path.with_suffix(SUFFIX).exists():
                    path.unlink()

    def heights(self) -> list[int]:
        """Of the snapshots that have a manifest, rising."""
        names = (path.stem for path in self._directory.glob(f"*{MANIFEST_SUFFIX}"))
        return sorted(int(name) for name in names if name.isdecimal())

    def read_manifest(self, height: int) -> bytes | None:
        """An encoded manifest; None if it is gone. Raises `StorageError`."""
        with mapping_errors(f"read {self._path(height)}"):
            try:
                return self._path(height).read_bytes()
            except FileNotFoundError:
                return None

    def read_range(self, height: int, offset: int, size_bytes: int) -> bytes | None:
        """A range of a state in its snapshot; None if that is gone. Raises `StorageError`."""
        path = self._path(height).with_suffix(SUFFIX)
        with mapping_errors(f"read {path}"):
            try:
                return read_state_range(path, offset, size_bytes)
            except FileNotFoundError:
                return None

    def _path(self, height: int) -> Path:
        return self._directory / f"{height:020d}{MANIFEST_SUFFIX}"
