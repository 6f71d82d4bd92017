"""A localnet on disk: N node homes, one genesis, accounts with keys, and which port is whose.

| path | what |
|---|---|
| `localnet.json` | the `Manifest`: nodes, ports, accounts; written last: it marks a whole one |
| `genesis.json` | the chain; every home has the same copy |
| `node0/`, `node1/`, ... | node homes (`node.home`) |
| `accounts/NAME.json`, `accounts/password` | keystores of the accounts, and the one password |
| `run/` | the supervisor's socket, lock and log |

All keys follow from the seed and open with a public password: a localnet protects nothing.
"""

import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from committee.committee import COMMITTEE_SIZE_MAX, POWER_MAX, Member
from crypto.bls import BLS, generate_secret
from crypto.digest import Domain, digest
from crypto.ed25519 import ED25519
from crypto.keystore import KdfStrength, KeystoreError, read_keystore, write_keystore
from crypto.types import Ed25519PublicKey
from engine.genesis import EngineGenesis, GenesisDeposit
from localnet.markets import ACCOUNTS, FEE_CREDIT_MICROQUOTE, MARKETS, AccountPlan
from node.certificate import compute_certificate
from node.config import (
    DoorSection,
    Endpoint,
    NodeConfig,
    NodeSection,
    PeerEntry,
    PeerSection,
    parse_endpoint,
)
from node.exit_codes import ExitCode, OperatorError
from node.genesis import GENESIS_VERSION, FeeCredit, Genesis, load_genesis, save_genesis
from node.home import (
    NodeHome,
    NodeKeyError,
    NodeKeys,
    create_home,
    make_private_dir,
    read_password,
    write_atomically,
)

NETWORK_VERSION: Final = 1
HOST: Final = "127.0.0.1"
NODES_DEFAULT: Final = 4
NODES_MAX: Final = 16
"""Nodes of one localnet; they share one machine."""
STAKE_DEFAULT: Final = 1_000
SEED_DEFAULT: Final = 42
PASSWORD: Final = "localnet"
PORT_FIRST: Final = 9_100
"""Ports are sought from here on, ten a node."""
PORT_LAST: Final = 29_999
"""Below what operating systems hand out for outgoing connections."""
PORTS_PER_NODE: Final = 10


class NetworkError(OperatorError):
    """The localnet's folder is missing, incomplete or not what was asked for."""

    code = "localnet.invalid"
    exit_code = ExitCode.CONFIG


class PortInUseError(OperatorError):
    """Something else listens where a node is to listen."""

    code = "port.in_use"
    exit_code = ExitCode.PORT_IN_USE


class NetworkNode(Struct, frozen=True, forbid_unknown_fields=True):
    """One node of the localnet."""

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
    """A localnet's folder: finds homes, keys and addresses."""

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
        raise NetworkError(f"there is no node {name!r} here", advice=f"nodes: {names}")

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
        raise NetworkError(f"there is no account {name!r} here", advice=f"accounts: {names}")

    def account_secret(self, name: str) -> bytes:
        """Open an account's keystore; raises `NodeKeyError`."""
        path = _keystore_path(self.path, self.account(name).name)
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
                f"{path}: {error}", advice="start afresh with `rota localnet up --reset`"
            ) from error


def is_network(path: Path) -> bool:
    """Is there a complete localnet in this folder?"""
    return (path / "localnet.json").is_file()


def load_network(path: Path) -> Network:
    """Open an existing localnet; raises `NetworkError`."""
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
    except (OSError, msgspec.MsgspecError) as error:
        raise NetworkError(
            f"{manifest_path}: {error}", advice="start afresh with `rota localnet up --reset`"
        ) from error
    if manifest.version != NETWORK_VERSION:
        raise NetworkError(
            f"{manifest_path} has version {manifest.version}; this program reads {NETWORK_VERSION}",
            advice="start afresh with `rota localnet up --reset`",
        )
    return Network(path, manifest)


def create_network(
    path: Path,
    *,
    stakes: Sequence[int] = (STAKE_DEFAULT,) * NODES_DEFAULT,
    seed: int = SEED_DEFAULT,
    port_first: int = PORT_FIRST,
    accounts: Sequence[AccountPlan] = ACCOUNTS,
) -> Network:
    """Lay out a new localnet with one node per stake; refuses a folder that has one.

    Free ports are chosen now and kept. Raises `NetworkError` or `PortInUseError`.
    """
    path = path.absolute()
    validate_stakes(stakes)
    if is_network(path):
        raise NetworkError(
            f"{path} is a localnet already",
            advice="resume it with `rota localnet up`, or replace it with --reset",
            code="localnet.exists",
        )
    names = [f"node{index}" for index in range(len(stakes))]
    keys = [compute_node_keys(seed, name) for name in names]
    secrets = {plan.name: _derive(seed, "account", plan.name) for plan in accounts}
    genesis = _compute_genesis(seed, names, stakes, keys, accounts, secrets)
    bases = choose_port_bases(len(stakes), port_first)
    nodes = tuple(
        NetworkNode(name, power, f"{HOST}:{base}", f"{HOST}:{base + 1}")
        for name, power, base in zip(names, stakes, bases, strict=True)
    )
    path.mkdir(parents=True, exist_ok=True)
    save_genesis(genesis, path / "genesis.json")
    peers = {
        node.name: PeerEntry(
            address=node.peer, certificate=compute_certificate(key.identity, node.name)
        )
        for node, key in zip(nodes, keys, strict=True)
    }
    for node, key in zip(nodes, keys, strict=True):
        config = NodeConfig(
            version=1,
            node=NodeSection(name=node.name, accept_weak_keystores=True),
            peer=PeerSection(listen=node.peer),
            door=DoorSection(listen=node.door),
            peers={name: entry for name, entry in peers.items() if name != node.name},
        )
        create_home(
            path / node.name,
            config=config,
            genesis=genesis,
            keys=key,
            password=PASSWORD,
            strength=KdfStrength.LOCALNET,
            store_password=True,
        )
    _write_accounts(path, secrets)
    manifest = Manifest(
        version=NETWORK_VERSION,
        seed=seed,
        chain_id=genesis.chain_id().hex(),
        nodes=nodes,
        accounts=tuple(
            NetworkAccount(plan.name, ED25519.public_key(secrets[plan.name]), plan.is_trader)
            for plan in accounts
        ),
    )
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    write_atomically(path / "localnet.json", text, mode=0o644)
    return Network(path, manifest)


def remove_network(path: Path) -> None:
    """Delete a localnet, and nothing but a localnet: raises `NetworkError` for another folder."""
    path = path.absolute()
    if not path.exists():
        return
    known = {"localnet.json", "genesis.json", "accounts", "run"}
    strangers = sorted(
        entry.name
        for entry in path.iterdir()
        if entry.name not in known and not (entry / "keys").is_dir()
    )
    if strangers:
        raise NetworkError(
            f"{path} also holds {strangers[0]!r}, which is no part of a localnet",
            advice="move it away, or choose another --dir; nothing was deleted",
        )
    shutil.rmtree(path)


def validate_stakes(stakes: Sequence[int]) -> None:
    """Raise `NetworkError` unless these stakes can make a localnet."""
    if not 1 <= len(stakes) <= min(NODES_MAX, COMMITTEE_SIZE_MAX):
        raise NetworkError(
            f"a localnet of {len(stakes)} nodes", advice=f"choose from 1 to {NODES_MAX} nodes"
        )
    if any(not 1 <= stake <= POWER_MAX for stake in stakes):
        raise NetworkError("a stake is out of range", advice=f"choose from 1 to {POWER_MAX}")


def compute_node_keys(seed: int, name: str) -> NodeKeys:
    """The secrets of a localnet's node: a function of seed and name, for anybody to compute."""
    return NodeKeys(
        identity=_derive(seed, "identity", name),
        consensus=generate_secret(_derive(seed, "consensus", name)),
        oracle=_derive(seed, "oracle", name),
    )


def _derive(seed: int, purpose: str, name: str) -> bytes:
    return digest(Domain.SEED, b"localnet", str(seed).encode(), purpose.encode(), name.encode())


def _compute_genesis(
    seed: int,
    names: Sequence[str],
    stakes: Sequence[int],
    keys: Sequence[NodeKeys],
    accounts: Sequence[AccountPlan],
    secrets: dict[str, bytes],
) -> Genesis:
    time_ms = time.time_ns() // 1_000_000
    members = tuple(
        Member(
            name=name,
            power=stake,
            consensus_key=BLS.public_key(key.consensus),
            consensus_key_proof=BLS.prove_possession(key.consensus),
            identity_key=ED25519.public_key(key.identity),
            oracle_key=ED25519.public_key(key.oracle),
        )
        for name, stake, key in zip(names, stakes, keys, strict=True)
    )
    ids = {name: ED25519.public_key(secret) for name, secret in secrets.items()}
    return Genesis(
        version=GENESIS_VERSION,
        chain_name="localnet",
        time_ms=time_ms,
        seed=seed,
        members=members,
        engine=EngineGenesis(
            markets=MARKETS,
            deposits=tuple(
                GenesisDeposit(ids[plan.name], plan.deposit_microquote) for plan in accounts
            ),
            time_ms=time_ms,
        ),
        fee_credits=tuple(
            FeeCredit(account, FEE_CREDIT_MICROQUOTE)
            for account in (*ids.values(), *(member.oracle_key for member in members))
        ),
    )


def _write_accounts(path: Path, secrets: dict[str, bytes]) -> None:
    make_private_dir(path / "accounts")
    write_atomically(path / "accounts" / "password", PASSWORD.encode() + b"\n")
    for name, secret in secrets.items():
        write_keystore(
            _keystore_path(path, name),
            secret,
            PASSWORD,
            derive_public_key=ED25519.public_key,
            description=f"Rota account {name}",
            strength=KdfStrength.LOCALNET,
            replace=True,
        )


def _keystore_path(path: Path, name: str) -> Path:
    return path / "accounts" / f"{name}.json"


# ---- ports ---------------------------------------------------------------------------------


def is_port_free(endpoint: Endpoint) -> bool:
    """Could a server listen there now?"""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections linger in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(endpoint)
        except OSError:
            return False
    return True


def choose_port_bases(count: int, first: int = PORT_FIRST) -> list[int]:
    """Return `count` base ports, each free together with the one above it, ten apart or more."""
    bases: list[int] = []
    for base in range(first, PORT_LAST, PORTS_PER_NODE):
        if all(is_port_free(Endpoint(HOST, base + offset)) for offset in range(2)):
            bases.append(base)
            if len(bases) == count:
                return bases
    raise PortInUseError(
        f"there are not {2 * count} free ports between {first} and {PORT_LAST}",
        advice="stop other servers, or choose another --port-base",
    )


def validate_ports_free(network: Network) -> None:
    """Raise `PortInUseError`, naming port and node, unless every node could listen now."""
    for node in network.nodes:
        for what, endpoint in (("peer", node.peer_endpoint()), ("door", node.door_endpoint())):
            if not is_port_free(endpoint):
                raise PortInUseError(
                    f"{endpoint}, the {what} port of {node.name}, is in use",
                    advice=f"find who listens there (`ss -ltnp 'sport = :{endpoint.port}'`) and "
                    "stop it, or make a localnet elsewhere with --dir",
                )
