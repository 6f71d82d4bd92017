"""Decoders of files: homes, networks, keys, schedules, scenarios, faults, tapes."""

from functools import lru_cache
from io import BytesIO
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import msgspec

from crypto.ed25519 import ED25519
from crypto.keystore import KdfStrength, KeystoreError, open_keystore
from localnet.faults.model import FaultError, LinkFault, compute_links, decode_fault
from localnet.faults.scenario import ScenarioError, load_scenario
from localnet.faults.table import read_table
from localnet.fuzz.contract import Target, require
from localnet.fuzz.file_harvest import NAMES, PASSWORD
from localnet.fuzz.trees import JSON, TEXT
from localnet.sim.schedule import ScheduleError, decode_schedule, encode_schedule
from localnet.tape import TapeError, parse_tape
from node.config import ConfigError
from node.config_file import load_config
from node.genesis import GenesisError
from node.genesis_file import load_genesis, save_genesis
from node.home import NodeHome
from node.network import NetworkError, load_network


@lru_cache(maxsize=1)
def _directory() -> Path:
    return Path(mkdtemp(prefix="rota-fuzz-"))


def _write(name: str, data: bytes) -> Path:
    path = _directory() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def read_genesis(data: bytes) -> None:
    """`genesis.json`."""
    genesis = load_genesis(_write("genesis.json", data))
    again = _directory() / "again.json"
    save_genesis(genesis, again)
    require(load_genesis(again).chain_id() == genesis.chain_id(), "saved as another chain")


def read_config(data: bytes) -> None:
    """`node.toml`."""
    for setting in load_config(_write("node.toml", data), environment={}).settings():
        require(bool(setting.key), "every setting has a name")


def read_keystore(data: bytes) -> None:
    """A keystore, with its password."""
    open_keystore(
        data,
        PASSWORD,
        derive_public_key=ED25519.public_key,
        strength=KdfStrength.LOCALNET,
    )


def read_manifest(data: bytes) -> None:
    """`localnet.json`."""
    network = load_network(_write("localnet.json", data).parent)
    for each in network.nodes:
        each.peer_endpoint()
        each.door_endpoint()


def read_home(data: bytes) -> None:
    """What a home says about its last process; what cannot be read says something, too."""
    home = NodeHome(_directory())
    for path in (home.halted_path, home.state_path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    require(home.read_halted() is not None, "an unreadable marker counts")
    home.read_state()


def read_schedule(data: bytes) -> None:
    """A simulator's schedule."""
    schedule = decode_schedule(data)
    require(decode_schedule(encode_schedule(schedule)) == schedule, "written as another")


def read_scenario(data: bytes) -> None:
    """A scenario for real processes."""
    load_scenario(_write("scenario.toml", data))


def read_fault(data: bytes) -> None:
    """A fault for real processes."""
    try:
        document: Any = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FaultError(str(error), advice="this step is the supervisor's own") from error
    fault = decode_fault(document, NAMES)
    again = decode_fault(msgspec.to_builtins(fault), NAMES)
    require(again == fault, "written as another")
    if isinstance(fault, LinkFault):
        compute_links(fault, NAMES)


def read_fault_table(data: bytes) -> None:
    """The table of faults in force."""
    read_table(_write("faults.json", data))


def read_tape(data: bytes) -> None:
    """A tape of trades."""
    for _ in parse_tape(BytesIO(data), "tape"):
        pass


FILE_TARGETS: Final = (
    Target(
        "genesis",
        ("genesis",),
        read_genesis,
        (GenesisError,),
        JSON,
        types=("Genesis", "_Versioned"),
        weight=200,
    ),
    Target(
        "config",
        ("config",),
        read_config,
        (ConfigError,),
        TEXT,
        types=("NodeConfig",),
        weight=100,
    ),
    Target(
        "keystore",
        ("keystore",),
        read_keystore,
        (KeystoreError,),
        JSON,
        types=("_Keystore",),
        weight=40,
        time_max_s=10.0,
        memory_max_bytes=600 << 20,
    ),
    Target(
        "manifest",
        ("manifest",),
        read_manifest,
        (NetworkError,),
        JSON,
        types=("Manifest",),
        weight=20,
    ),
    Target(
        "home",
        ("halted", "run_state"),
        read_home,
        (),
        JSON,
        types=("Halted", "RunState"),
        weight=10,
    ),
    Target(
        "schedule",
        ("schedule", "sim_fault.*"),
        read_schedule,
        (ScheduleError,),
        JSON,
        types=("Schedule",),
        weight=5,
    ),
    Target(
        "scenario",
        ("scenario",),
        read_scenario,
        (ScenarioError,),
        TEXT,
        types=("_File",),
        weight=50,
    ),
    Target(
        "fault",
        ("fault.*",),
        read_fault,
        (FaultError,),
        JSON,
        types=("Fault",),
        weight=2,
    ),
    Target(
        "fault_table",
        ("fault_table",),
        read_fault_table,
        (msgspec.MsgspecError,),
        JSON,
        types=("_Table",),
        weight=10,
    ),
    Target(
        "tape",
        ("tape",),
        read_tape,
        (TapeError,),
        TEXT,
        weight=2,
    ),
)
