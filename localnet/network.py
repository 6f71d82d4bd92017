"""A localnet on disk: N node homes, one genesis, accounts with keys, and which port is whose.

| path | what |
|---|---|
| `localnet.json` | the `Manifest` (`node.network`): nodes, ports, accounts; written last |
| `genesis.json` | the chain; every home has the same copy |
| `node0/`, `node1/`, ... | node homes (`node.home`) |
| `accounts/NAME.json`, `accounts/password` | keystores of the accounts, and the one password |
| `run/` | the supervisor's socket, lock and log |

All keys follow from the seed and open with a public password: a localnet protects nothing.
"""

import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from committee.committee import POWER_MAX, CommitteeError, Member
from committee.genesis import form_genesis_committee
from crypto.bls import BLS, generate_secret
from crypto.digest import Domain, digest
from crypto.ed25519 import ED25519
from crypto.keystore import KdfStrength, write_keystore
from engine.genesis import EngineGenesis, GenesisDeposit, LiquidationParams, MarketParams
from localnet.folder import is_unfinished, mark_finished, mark_unfinished, remove_network
from localnet.markets import (
    ACCOUNTS,
    FEE_CREDIT_MICROQUOTE,
    FEE_TIERS,
    LIQUIDATION,
    MARKETS,
    WITHDRAWAL_MIN_MICROQUOTE,
    AccountPlan,
)
from node.cli.hints import rota_command
from node.config import (
    DoorSection,
    Endpoint,
    NodeConfig,
    NodeSection,
    PeerEntry,
    PeerSection,
)
from node.exit_codes import ExitCode, PortInUseError
from node.genesis import GENESIS_VERSION, FeeCredit, Genesis
from node.genesis_file import save_genesis
from node.home import create_home, make_private_dir, write_atomically
from node.keystores import NodeKeys
from node.network import (
    NETWORK_VERSION,
    Manifest,
    Network,
    NetworkAccount,
    NetworkError,
    NetworkNode,
    is_network,
    keystore_path,
    load_network,
)
from node.transport.certificate import make_certificate

HOST: Final = "127.0.0.1"
NODES_DEFAULT: Final = 4
NODES_MIN: Final = 4
"""Any one of them may fail (`committee.genesis`)."""
NODES_MAX: Final = 16
"""Nodes of one localnet; they share one machine."""
STAKE_DEFAULT: Final = 1_000
SEED_DEFAULT: Final = 42
SEED_MAX: Final = 2**63 - 1
"""What the genesis file holds (`crypto.types.Uint`)."""
PASSWORD: Final = "localnet"
PORT_FIRST: Final = 9_100
"""Ports are sought from here on, ten a node."""
PORT_LAST: Final = 29_999
"""Below what operating systems hand out for outgoing connections."""
PORTS_PER_NODE: Final = 10


def create_network(
    path: Path,
    *,
    stakes: Sequence[int] = (STAKE_DEFAULT,) * NODES_DEFAULT,
    seed: int = SEED_DEFAULT,
    port_first: int = PORT_FIRST,
    accounts: Sequence[AccountPlan] = ACCOUNTS,
    liquidation: LiquidationParams = LIQUIDATION,
    markets: Sequence[MarketParams] = MARKETS,
) -> Network:
    """Lay out a new localnet with one node per stake; refuses a folder that holds anything.

    Free ports are chosen now and kept. Raises `NetworkError` or `PortInUseError`.
    """
    path = path.absolute()
    validate_stakes(stakes)
    if is_network(path):
        raise NetworkError(
            f"{path} is a localnet already",
            advice=f"resume it with `{rota_command(path)}localnet up`, or replace it with --reset",
            code="localnet.exists",
        )
    names = [f"node{index}" for index in range(len(stakes))]
    keys = [compute_node_keys(seed, name) for name in names]
    secrets = {plan.name: _derive(seed, "account", plan.name) for plan in accounts}
    engine = _compute_engine(accounts, secrets, liquidation, markets)
    genesis = _compute_genesis(seed, names, stakes, keys, engine)
    bases = choose_port_bases(len(stakes), port_first)
    nodes = tuple(
        NetworkNode(name, power, f"{HOST}:{base}", f"{HOST}:{base + 1}")
        for name, power, base in zip(names, stakes, bases, strict=True)
    )
    mark_unfinished(path)
    save_genesis(genesis, path / "genesis.json")
    peers = {
        node.name: PeerEntry(
            address=node.peer, certificate=make_certificate(key.identity, node.name)
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
    mark_finished(path)
    return Network(path, manifest)


def open_network(
    path: Path, *, stakes: Sequence[int] | None, seed: int | None, port_first: int = PORT_FIRST
) -> Network:
    """Resume the localnet in the folder, or make one with what is given or the defaults. One that
    was never finished is made anew.

    Raises `NetworkError` if the one that is there has other stakes or another seed.
    """
    if not is_network(path):
        if is_unfinished(path):
            remove_network(path)
        return create_network(
            path,
            stakes=(STAKE_DEFAULT,) * NODES_DEFAULT if stakes is None else stakes,
            seed=SEED_DEFAULT if seed is None else seed,
            port_first=port_first,
        )
    network = load_network(path)
    present = [node.power for node in network.nodes]
    if stakes is not None and list(stakes) != present:
        raise NetworkError(
            f"{network.path} has nodes with stakes {present}, asked for {list(stakes)}",
            advice="add --reset to replace it, or choose another --dir",
        )
    if seed is not None and seed != network.manifest.seed:
        raise NetworkError(
            f"{network.path} was made from seed {network.manifest.seed}",
            advice="add --reset to replace it, or choose another --dir",
        )
    return network


def validate_stakes(stakes: Sequence[int]) -> None:
    """Raise `NetworkError` unless these stakes can make a localnet."""
    if not NODES_MIN <= len(stakes) <= NODES_MAX:
        raise NetworkError(
            f"a localnet has from {NODES_MIN} to {NODES_MAX} nodes, not {len(stakes)}",
            advice="choose other --nodes or --stakes",
            code="usage.invalid",
            exit_code=ExitCode.USAGE,
        )
    if any(not 1 <= stake <= POWER_MAX for stake in stakes):
        raise NetworkError(
            f"a stake is not from 1 to {POWER_MAX}",
            advice="as in --stakes 1000,1000,1000,500",
            code="usage.invalid",
            exit_code=ExitCode.USAGE,
        )


def compute_node_keys(seed: int, name: str) -> NodeKeys:
    """The secrets of a localnet's node: a function of seed and name, for anybody to compute."""
    return NodeKeys(
        identity=_derive(seed, "identity", name),
        consensus=generate_secret(_derive(seed, "consensus", name)),
        oracle=_derive(seed, "oracle", name),
    )


def _derive(seed: int, purpose: str, name: str) -> bytes:
    return digest(Domain.SEED, b"localnet", str(seed).encode(), purpose.encode(), name.encode())


def _compute_engine(
    accounts: Sequence[AccountPlan],
    secrets: dict[str, bytes],
    liquidation: LiquidationParams,
    markets: Sequence[MarketParams],
) -> EngineGenesis:
    return EngineGenesis(
        markets=tuple(markets),
        deposits=tuple(
            GenesisDeposit(ED25519.public_key(secrets[plan.name]), plan.deposit_microquote)
            for plan in accounts
        ),
        time_ms=time.time_ns() // 1_000_000,
        fee_tiers=FEE_TIERS,
        liquidation=liquidation,
        withdrawal_min_microquote=WITHDRAWAL_MIN_MICROQUOTE,
    )


def _compute_genesis(
    seed: int,
    names: Sequence[str],
    stakes: Sequence[int],
    keys: Sequence[NodeKeys],
    engine: EngineGenesis,
) -> Genesis:
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
    try:
        form_genesis_committee(members, BLS, ED25519)
    except CommitteeError as error:
        raise NetworkError(str(error), advice="choose other --nodes or --stakes") from error
    accounts = (deposit.account for deposit in engine.deposits)
    return Genesis(
        version=GENESIS_VERSION,
        chain_name="localnet",
        time_ms=engine.time_ms,
        seed=seed,
        members=members,
        engine=engine,
        fee_credits=tuple(
            FeeCredit(account, FEE_CREDIT_MICROQUOTE)
            for account in (*accounts, *(member.oracle_key for member in members))
        ),
    )


def _write_accounts(path: Path, secrets: dict[str, bytes]) -> None:
    make_private_dir(path / "accounts")
    write_atomically(path / "accounts" / "password", PASSWORD.encode() + b"\n")
    for name, secret in secrets.items():
        write_keystore(
            keystore_path(path, name),
            secret,
            PASSWORD,
            derive_public_key=ED25519.public_key,
            description=f"Rota account {name}",
            strength=KdfStrength.LOCALNET,
            replace=True,
        )


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
