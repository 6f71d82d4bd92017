"""`genesis.json`: everything that all nodes of one chain must agree on before the first block.

The chain id is the digest of the canonical encoding of its content, so any difference (a member,
a market parameter, a balance) makes another chain, whose messages this one refuses.
"""

from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from committee.committee import Committee, CommitteeError, Member
from committee.genesis import GENESIS_EPOCH, form_genesis_committee
from crypto.bls import BLS
from crypto.codec import encode
from crypto.digest import Domain, digest
from crypto.types import Ed25519PublicKey, Uint
from engine.genesis import EngineGenesis, validate_genesis
from engine.genesis import GenesisError as EngineGenesisError

GENESIS_VERSION: Final = 1
GENESIS_SIZE_MAX_BYTES: Final = 64 << 20


class GenesisError(Exception):
    """The genesis file is missing, malformed or contradicts itself."""

    code = "genesis.invalid"


class FeeCredit(Struct, frozen=True, forbid_unknown_fields=True):
    """Prepaid envelope fees of one account, kept apart from its margin."""

    account: Ed25519PublicKey
    amount_microquote: Annotated[int, Meta(ge=0, le=2**62)]


class Genesis(Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `genesis.json`."""

    version: Annotated[int, Meta(ge=1)]
    chain_name: Annotated[str, Meta(min_length=1, max_length=64)]
    time_ms: Uint
    """The parent time of the first block."""
    seed: Uint
    """Public; seeds the leader schedule and, until the beacon exists, the engine's block seeds.
    Anybody can predict what follows from it."""
    members: tuple[Member, ...]
    engine: EngineGenesis
    fee_credits: tuple[FeeCredit, ...]

    def chain_id(self) -> bytes:
        return digest(Domain.GENESIS, encode(self))

    def committee(self) -> Committee:
        return Committee(epoch=GENESIS_EPOCH, members=self.members)


class _Versioned(Struct, frozen=True):
    """What every version of the file has; read first, so that a newer file is called newer."""

    version: int


def save_genesis(genesis: Genesis, path: Path) -> None:
    """Write `genesis.json`."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(genesis), indent=2) + b"\n")


def load_genesis(path: Path) -> Genesis:
    """Read and validate `genesis.json`; raises `GenesisError` with what to do."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GenesisError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > GENESIS_SIZE_MAX_BYTES:
        raise GenesisError(f"{path} is larger than {GENESIS_SIZE_MAX_BYTES} bytes")
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version != GENESIS_VERSION:
            raise GenesisError(
                f"{path} has version {version}; this program reads {GENESIS_VERSION}"
            )
        genesis = msgspec.json.decode(data, type=Genesis)
        form_genesis_committee(genesis.members, BLS)
        validate_genesis(genesis.engine)
    except (msgspec.MsgspecError, CommitteeError, EngineGenesisError) as error:
        raise GenesisError(f"{path}: {error}") from error
    if genesis.engine.time_ms > genesis.time_ms:
        raise GenesisError(f"{path}: the engine's time is ahead of the chain's")
    accounts = [credit.account for credit in genesis.fee_credits]
    if len(set(accounts)) != len(accounts):
        raise GenesisError(f"{path}: an account has two fee credits")
    return genesis
