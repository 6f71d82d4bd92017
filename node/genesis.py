"""The genesis: everything that all nodes of one chain must agree on before the first block.

The chain id is the digest of the canonical encoding of its content, so any difference (a member,
a market parameter, a balance) makes another chain, whose messages this one refuses.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from committee.committee import Committee, CommitteeError, Member
from committee.genesis import GENESIS_EPOCH, form_genesis_committee
from crypto.bls import BLS
from crypto.codec import encode
from crypto.digest import Domain, digest
from crypto.ed25519 import ED25519
from crypto.types import Ed25519PublicKey, Uint
from engine.genesis import EngineGenesis
from engine.genesis import GenesisError as EngineGenesisError
from engine.genesis import validate_genesis as validate_engine_genesis

GENESIS_VERSION: Final = 1


class GenesisError(Exception):
    """The genesis is missing, malformed or contradicts itself."""

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


def validate_genesis(genesis: Genesis) -> None:
    """Raise `GenesisError` unless the members and the engine's genesis can start a chain."""
    try:
        form_genesis_committee(genesis.members, BLS, ED25519)
        validate_engine_genesis(genesis.engine)
    except (CommitteeError, EngineGenesisError) as error:
        raise GenesisError(str(error)) from error
    if genesis.engine.time_ms > genesis.time_ms:
        raise GenesisError("the engine's time is ahead of the chain's")
    accounts = [credit.account for credit in genesis.fee_credits]
    if len(set(accounts)) != len(accounts):
        raise GenesisError("an account has two fee credits")
