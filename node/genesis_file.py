"""`genesis.json`: written once, read and checked at every start."""

from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from node.genesis import GENESIS_VERSION, Genesis, GenesisError, validate_genesis

GENESIS_SIZE_MAX_BYTES: Final = 64 << 20
"""A genesis with a hundred thousand accounts takes a third of it."""


class _Versioned(Struct, frozen=True):
    """What every version of the file has; read first, so that a newer file is called newer."""

    version: int


def save_genesis(genesis: Genesis, path: Path) -> None:
    """Write `genesis.json`."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(genesis), indent=2) + b"\n")


def load_genesis(path: Path) -> Genesis:
    """Read and validate `genesis.json`; raises `GenesisError` with what to do."""
    try:
        with path.open("rb") as file:
            data = file.read(GENESIS_SIZE_MAX_BYTES + 1)
    except OSError as error:
        raise GenesisError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > GENESIS_SIZE_MAX_BYTES:
        raise GenesisError(f"{path} is larger than {GENESIS_SIZE_MAX_BYTES} bytes")
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version != GENESIS_VERSION:
            raise GenesisError(f"it has version {version}; this program reads {GENESIS_VERSION}")
        genesis = msgspec.json.decode(data, type=Genesis)
        validate_genesis(genesis)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, GenesisError) as error:
        raise GenesisError(f"{path}: {error}") from error
    return genesis
