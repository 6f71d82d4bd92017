"""A network as its clients see it: which nodes there are, and for which accounts keys are here.

| path | what |
|---|---|
| `localnet.json` | the `Manifest` |
| `genesis.json` | the chain |
| `NODE/` | homes of nodes that run on this machine (`node.home`) |
| `accounts/NAME.json`, `accounts/password` | keystores of accounts, and their password |
| `run/` | of whoever runs the nodes |

`rota localnet` lays such a folder out; the trading commands only read it.
"""

from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from committee.committee import POWER_MAX
from crypto.digest import DIGEST_SIZE_BYTES
from crypto.ed25519 import ED25519
from crypto.keystore import KdfStrength, KeystoreError, read_keystore
from crypto.types import Ed25519PublicKey
from node.config import Endpoint, parse_endpoint
from node.exit_codes import ExitCode, OperatorError
from node.genesis import Genesis
from node.genesis_file import load_genesis
from node.home import NodeHome
from node.keystores import NodeKeyError, read_password

NETWORK_VERSION: Final = 1
NODES_MAX: Final = 128
"""As many as a committee has members."""


class NetworkError(OperatorError):
    """The network's folder is missing, incomplete or not what was asked for."""

    code = "localnet.invalid"
    exit_code = ExitCode.CONFIG


class NetworkNode(Struct, frozen=True, forbid_unknown_fields=True):
    """One node."""

    name: str
    power: Annotated[int, Meta(ge=1, le=POWER_MAX)]
    peer: str
    """Where the other nodes reach it, host:port."""
    door: str
    """Where traders reach it, host:port."""

    def peer_endpoint(self) -> Endpoint:
        return parse_endpoint(self.peer)

    def door_endpoint(self) -> Endpoint:
        return parse_endpoint(self.door)


class NetworkAccount(Struct, frozen=True, forbid_unknown_fields=True):
    """One account with a keystore here."""

    name: str
    account: Ed25519PublicKey
    """The account's root key, which is its id."""
    is_trader: bool
    """Driven by the demo traders' process."""


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `localnet.json`."""

    version: int
    seed: int
    chain_id: str
    nodes: Annotated[tuple[NetworkNode, ...], Meta(min_length=1, max_length=NODES_MAX)]
    accounts: tuple[NetworkAccount, ...]


class Network:
    """A network's folder: finds homes, keys and addresses."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.nodes = manifest.nodes
        self.accounts = manifest.accounts
        self.chain_id = bytes.fromhex(manifest.chain_id)
        self.genesis_path = path / "genesis.json"
        self.run_dir = path / "run"

    def node(self, name: str) -> NetworkNode:
        """The node of that name; raises `NetworkError` with the names there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes)
        raise NetworkError(
            f"there is no node {name!r} here",
            advice=f"nodes: {names}",
            code="node.unknown",
            exit_code=ExitCode.USAGE,
        )

    def home(self, name: str) -> NodeHome:
        """The home of a node."""
        return NodeHome(self.path / self.node(name).name)

    def genesis(self) -> Genesis:
        """The chain's genesis."""
        return load_genesis(self.genesis_path)

    def account(self, name: str) -> NetworkAccount:
        """The account of that name; raises `NetworkError` with the names there are."""
        for account in self.accounts:
            if account.name == name:
                return account
        names = ", ".join(account.name for account in self.accounts)
        raise NetworkError(
            f"there is no account {name!r} here",
            advice=f"accounts: {names}",
            code="account.unknown",
            exit_code=ExitCode.USAGE,
        )

    def account_secret(self, name: str) -> bytes:
        """Open an account's keystore; raises `NodeKeyError`."""
        path = keystore_path(self.path, self.account(name).name)
        password = read_password(self.path / "accounts" / "password")
        try:
            return read_keystore(
                path,
                password,
                derive_public_key=ED25519.public_key,
                strength=KdfStrength.LOCALNET,
            )
        except KeystoreError as error:
            raise NodeKeyError(
                f"{path}: {error}",
                advice=f"start afresh with `rota localnet up --reset --dir {self.path}`",
            ) from error


def is_network(path: Path) -> bool:
    """Is there a complete network in this folder?"""
    return (path / "localnet.json").is_file()


def load_network(path: Path) -> Network:
    """Open a network's folder; raises `NetworkError`."""
    path = path.absolute()
    manifest_path = path / "localnet.json"
    try:
        manifest = msgspec.json.decode(manifest_path.read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise NetworkError(
            f"there is no localnet in {path}",
            advice="start one with `rota localnet up`, or name its folder with --dir",
            code="localnet.missing",
        ) from error
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NetworkError(
            f"{manifest_path}: {error}",
            advice=f"start afresh with `rota localnet up --reset --dir {path}`",
        ) from error
    if manifest.version != NETWORK_VERSION:
        raise NetworkError(
            f"{manifest_path} has version {manifest.version}; this program reads {NETWORK_VERSION}",
            advice=f"start afresh with `rota localnet up --reset --dir {path}`",
        )
    try:
        _validate_manifest(manifest)
    except ValueError as error:
        raise NetworkError(
            f"{manifest_path}: {error}",
            advice=f"start afresh with `rota localnet up --reset --dir {path}`",
        ) from error
    return Network(path, manifest)


def _validate_manifest(manifest: Manifest) -> None:
    """Raise `ValueError` unless its addresses and its chain id are such."""
    if len(bytes.fromhex(manifest.chain_id)) != DIGEST_SIZE_BYTES:
        raise ValueError("chain_id is no digest")
    for node in manifest.nodes:
        node.peer_endpoint()
        node.door_endpoint()


def keystore_path(path: Path, account: str) -> Path:
    """Where an account's keystore is, in a network's folder."""
    return path / "accounts" / f"{account}.json"
