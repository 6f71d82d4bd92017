"""Whose folder is it? A localnet is only ever made in an empty one, and only its own is deleted.

A localnet being made carries the `UNFINISHED` marker from before its first file until after its
manifest, and one being deleted from before its manifest goes: so that half a localnet is known for
one whenever its maker is killed, and never anything else is taken for one.
"""

import re
import shutil
from pathlib import Path
from typing import Final

from node.home import write_atomically
from node.network import NetworkError, is_network

UNFINISHED: Final = "localnet.unfinished"
"""Marks a localnet that is being made or deleted."""

_OWN_FILES: Final = frozenset({"localnet.json", "genesis.json", "faults.jsonl", UNFINISHED})
_OWN_FOLDERS: Final = frozenset({"accounts", "run"})
_NODE: Final = re.compile(r"node[0-9]+")

_RUN_FILES: Final = frozenset(
    {
        "supervisor.lock",
        "supervisor.sock",
        "supervisor.log",
        "traders.log",
        "faults.json",
        "links.json",
        "proxy.log",
    }
)
"""What is in `run/`, which alone is no localnet yet: the lock comes before everything else."""


def validate_folder(path: Path) -> None:
    """Raise `NetworkError` if the folder holds files and they are no localnet's."""
    if not path.is_dir() or _is_localnet(path):
        return
    strangers = [name for name in _names(path) if name != "run"] or [
        f"run/{name}" for name in _names(path / "run") if name not in _RUN_FILES
    ]
    if strangers:
        raise NetworkError(
            f"{path} is not empty and no localnet: it holds {strangers[0]!r}",
            advice="choose an empty folder, or a new one, with --dir; nothing was changed",
            code="localnet.foreign_folder",
        )


def mark_unfinished(path: Path) -> None:
    """From here on the folder is a localnet's, whatever it holds yet. Raises `NetworkError` if it
    is something else."""
    validate_folder(path)
    path.mkdir(parents=True, exist_ok=True)
    write_atomically(path / UNFINISHED, b"")


def is_unfinished(path: Path) -> bool:
    """Was somebody stopped while making or deleting a localnet here?"""
    return (path / UNFINISHED).is_file() and not is_network(path)


def mark_finished(path: Path) -> None:
    """The localnet is whole."""
    (path / UNFINISHED).unlink()


def remove_network(path: Path) -> None:
    """Empty a localnet's folder; raises `NetworkError` if it is none, or holds anything else.

    `run/` stays, because the caller holds the lock in it.
    """
    path = path.absolute()
    validate_folder(path)
    if not path.is_dir() or not _is_localnet(path):
        return
    strangers = [name for name in _names(path) if not _is_own(path / name)]
    if strangers:
        raise NetworkError(
            f"{path} also holds {strangers[0]!r}, which is no part of a localnet",
            advice="move it away, or choose another --dir; nothing was deleted",
            code="localnet.foreign_folder",
        )
    write_atomically(path / UNFINISHED, b"")
    (path / "localnet.json").unlink(missing_ok=True)
    for name in _names(path):
        entry = path / name
        if entry.is_dir() and name != "run":
            shutil.rmtree(entry)
        elif name not in ("run", UNFINISHED):
            entry.unlink()
    mark_finished(path)


def _is_localnet(path: Path) -> bool:
    return is_network(path) or is_unfinished(path)


def _is_own(entry: Path) -> bool:
    if entry.is_symlink():
        return False
    if entry.is_dir():
        return entry.name in _OWN_FOLDERS or _NODE.fullmatch(entry.name) is not None
    return entry.name in _OWN_FILES


def _names(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in path.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NetworkError(
            f"cannot look into {path}: {error.strerror or error}", advice="choose another --dir"
        ) from error
