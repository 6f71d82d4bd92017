"""Files as their own writers write them: homes, networks, schedules, scenarios, faults, tapes."""

from typing import Final

import msgspec

import localnet.sim.faults as sim_faults
from committee.committee import Member
from crypto.bls import BLS
from crypto.ed25519 import ED25519
from engine.genesis import EngineGenesis, GenesisDeposit
from localnet.faults import model
from localnet.faults.scenario import SCENARIOS_DIR
from localnet.faults.table import ActiveFault
from localnet.fuzz.corpus import Corpus, kind_of
from localnet.markets import MARKETS
from localnet.network import SEED_DEFAULT, compute_node_keys
from localnet.sim.generator import generate
from localnet.sim.schedule import encode_schedule
from localnet.tape import TapeTrade, format_trade
from node.config import (
    DoorSection,
    NodeConfig,
    NodeSection,
    PeerEntry,
    PeerSection,
)
from node.config_file import render_config
from node.genesis import FeeCredit, Genesis
from node.home import Halted, RunState
from node.network import NETWORK_VERSION, Manifest, NetworkAccount, NetworkNode
from node.transport.certificate import make_certificate

NAMES: Final = tuple(f"node{index}" for index in range(4))
ACCOUNT_SECRET: Final = bytes(31) + b"\x07"
HALTED_BY: Final = "node.nondeterministic"
PASSWORD: Final = "localnet"

KEYSTORE: Final = b"""{
  "crypto": {
    "kdf": {
      "function": "scrypt",
      "params": {
        "dklen": 32,
        "n": 16,
        "r": 8,
        "p": 1,
        "salt": "264ad340a2c755e3f319163073c1bc1e6e64dce14e43175a7bdc48253c0e2d4d"
      },
      "message": ""
    },
    "checksum": {
      "function": "sha256",
      "params": {},
      "message": "952e12b425c2aaa92330845bc1f4f994bf578caf84b23f8b536b13f80a90b7c2"
    },
    "cipher": {
      "function": "aes-128-ctr",
      "params": {
        "iv": "513ac5d2c8e83214b69a54df580bae66"
      },
      "message": "d736139860362a037ff56f7f6bdaa84a119a993326ab0a10f1d642a37c3b307f"
    }
  },
  "description": "LOCALNET ONLY, weak key derivation: corpus",
  "pubkey": "3ee2a8a7283cb2fd728943daa127ef09e483071a8b4bc699ba4522f09b14cfde",
  "path": "",
  "uuid": "1119fc46-09ee-4704-956d-593bf2f4eade",
  "version": 4
}
"""
"""A throw-away key under `PASSWORD`; its salt and ids are random, so it is written down."""


def harvest_files(corpus: Corpus) -> None:
    """Files of every kind."""
    genesis = make_genesis()
    corpus.add("genesis", _write(genesis))
    corpus.add("keystore", KEYSTORE)
    corpus.add("config", make_config().encode())
    account = ED25519.public_key(ACCOUNT_SECRET)
    nodes = tuple(
        NetworkNode(name, 1_000, f"127.0.0.1:{9_100 + 10 * index}", f"127.0.0.1:{9_101 + index}")
        for index, name in enumerate(NAMES)
    )
    chain_id = genesis.chain_id().hex()
    accounts = (NetworkAccount("alice", account, True),)
    manifest = Manifest(NETWORK_VERSION, SEED_DEFAULT, chain_id, nodes, accounts)
    corpus.add("manifest", _write(manifest))
    corpus.add("halted", _write(Halted(HALTED_BY, "height 7: order root", 1_000)))
    corpus.add("run_state", _write(RunState(4_711, 1_000, 12, 13)))
    for path in sorted(SCENARIOS_DIR.glob("*.toml")):
        corpus.add("scenario", path.read_bytes())
    trades = [
        TapeTrade(number, 10_000_000_000 + number, 5_000_000 * number, 1_000 + number, number > 2)
        for number in range(1, 5)
    ]
    corpus.add("tape", "\n".join([*map(format_trade, trades), ""]).encode())
    _harvest_schedules(corpus)
    _harvest_faults(corpus)


def make_genesis() -> Genesis:
    """A genesis of four nodes with real keys."""
    members = []
    for name in NAMES:
        keys = compute_node_keys(SEED_DEFAULT, name)
        consensus_key = BLS.public_key(keys.consensus)
        proof = BLS.prove_possession(keys.consensus)
        identity, oracle = ED25519.public_key(keys.identity), ED25519.public_key(keys.oracle)
        members.append(Member(name, 1_000, consensus_key, proof, identity, oracle))
    account = ED25519.public_key(ACCOUNT_SECRET)
    return Genesis(
        version=1,
        chain_name="corpus",
        time_ms=1_000,
        seed=SEED_DEFAULT,
        members=tuple(members),
        engine=EngineGenesis(MARKETS, (GenesisDeposit(account, 10**9),), 1_000),
        fee_credits=(FeeCredit(account, 10**9),),
    )


def make_config() -> str:
    """The `node.toml` of one of them."""
    peers = {
        name: PeerEntry(
            address=f"127.0.0.1:{9_100 + 10 * index}",
            certificate=make_certificate(compute_node_keys(SEED_DEFAULT, name).identity, name),
        )
        for index, name in enumerate(NAMES)
        if index
    }
    return render_config(
        NodeConfig(
            version=1,
            node=NodeSection(name=NAMES[0]),
            peer=PeerSection(listen="127.0.0.1:9100"),
            door=DoorSection(listen="127.0.0.1:9101"),
            peers=peers,
        )
    )


def _harvest_schedules(corpus: Corpus) -> None:
    wanted = {kind_of("sim_fault", each) for each in sim_faults.Fault.__args__}
    for seed in range(200):
        schedule = generate(seed)
        found = {kind_of("sim_fault", type(each)) for each in schedule.faults}
        if found & wanted or seed < 3:
            corpus.add("schedule", encode_schedule(schedule))
            for fault in schedule.faults:
                corpus.add(kind_of("sim_fault", type(fault)), msgspec.json.encode(fault))
            wanted -= found


def _harvest_faults(corpus: Corpus) -> None:
    links, nodes = ("node0>node1",), ("node2",)
    faults: tuple[model.Fault, ...] = (
        model.Delay(links=links, delay_ms=50, jitter_ms=10),
        model.Bandwidth(links=links, bytes_per_s=100_000),
        model.Partition(links=links),
        model.Reset(nodes=nodes, interval_ms=500),
        model.Loss(links=links, permille=100, messages=("vote",)),
        model.Duplicate(links=("*>2",), permille=100),
        model.Reorder(links=("0<>1",), permille=100, hold_max_ms=50),
        model.Kill(nodes=nodes),
        model.Pause(nodes=nodes),
        model.ClockSkew(nodes=nodes, offset_ms=-2_000),
        model.DiskFull(nodes=nodes),
        model.TornWrite(nodes=nodes),
    )
    for fault in faults:
        corpus.add(kind_of("fault", type(fault)), msgspec.json.encode(fault))
    entries = tuple(
        ActiveFault(number, fault, 1_000, None if number % 2 else 9_000)
        for number, fault in enumerate(faults, start=1)
    )
    corpus.add("fault_table", msgspec.json.encode(entries))


def _write(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
