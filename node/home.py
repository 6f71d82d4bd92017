"""A node's home: one folder that holds everything of one node.

| path | what | mode |
|---|---|---|
| `node.toml` | configuration (`node.config`) | 0644 |
| `genesis.json` | what the chain is (`node.genesis`) | 0644 |
| `keys/{identity,consensus,oracle}.json` | EIP-2335 keystores | 0600 in 0700 |
| `keys/signing-*.json` | that the keys may have signed for a chain (`node.signing_marker`) | 0600 |
| `secrets/password` | optional: the keystores' password, for unattended starts | 0600 in 0700 |
| `data/` | `safety.db`, `chain.db`, `segments/`, `engine/`, `join/`: the storage layer's | 0700 |
| `data/chain_id` | the chain that this data belongs to | |
| `data/HALTED` | why the node halted; it does not start again while this is here | |
| `log/node.jsonl` | the log, rotated | |
| `run/` | `lock` and `state.json` of the running process | |

Back up `keys/`, and `data/` while the node is stopped. A key without its newest safety records
could sign twice: a marker in `keys/` keeps a node from starting without any.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from crypto.keystore import KdfStrength
from node.config import ConfigError, NodeConfig
from node.config_file import LoadedConfig, load_config, render_config
from node.exit_codes import ExitCode, OperatorError
from node.genesis import Genesis, GenesisError
from node.genesis_file import load_genesis, save_genesis
from node.keystores import KeyKind, Keystores, NodeKeyError, NodeKeys
from node.storage.disk import sync_directory
from node.storage.errors import mapping_errors


class HomeError(OperatorError):
    """The home is missing, incomplete or belongs to something else."""

    code = "home.invalid"
    exit_code = ExitCode.CONFIG


class HomeBusyError(OperatorError):
    """Another process runs in this home; two could sign against each other."""

    code = "home.busy"
    exit_code = ExitCode.REFUSED_TO_SIGN


class Halted(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a node halted: the content of `data/HALTED`."""

    code: str
    detail: str
    time_ms: int


class RunState(Struct, frozen=True):
    """What the running process last said about itself: the content of `run/state.json`."""

    pid: int
    started_ms: int
    committed_height: int = 0
    view: int = 0


class NodeHome:
    """Names and guards the files of one home. Opens nothing until asked."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.config_path = self.path / "node.toml"
        self.genesis_path = self.path / "genesis.json"
        self.keys_dir = self.path / "keys"
        self.keystores = Keystores(self.keys_dir)
        self.secrets_dir = self.path / "secrets"
        self.password_path = self.secrets_dir / "password"
        self.data_dir = self.path / "data"
        self.safety_path = self.data_dir / "safety.db"
        self.chain_path = self.data_dir / "chain.db"
        self.segments_dir = self.data_dir / "segments"
        self.engine_dir = self.data_dir / "engine"
        self.join_dir = self.data_dir / "join"
        self.chain_id_path = self.data_dir / "chain_id"
        self.halted_path = self.data_dir / "HALTED"
        self.log_dir = self.path / "log"
        self.log_path = self.log_dir / "node.jsonl"
        self.run_dir = self.path / "run"
        self.lock_path = self.run_dir / "lock"
        self.state_path = self.run_dir / "state.json"

    def load_config(self, overrides: Mapping[str, str] | None = None) -> LoadedConfig:
        """Read `node.toml` under environment and flags; raises `ConfigError`."""
        return load_config(self.config_path, overrides=overrides)

    def load_genesis(self) -> Genesis:
        """Read `genesis.json`; raises `HomeError` with the reason."""
        return read_genesis(self.genesis_path)

    def validate_member(self, config: NodeConfig, genesis: Genesis) -> int:
        """Return this node's index in the genesis committee, once its keystores match it.

        Raises `HomeError` or `NodeKeyError` before any key is opened: a wrong key would only show
        as signatures that nobody accepts.
        """
        names = [member.name for member in genesis.members]
        if config.node.name not in names:
            raise HomeError(
                f"{self.config_path}: node.name {config.node.name!r} is no member of this chain",
                advice=f"members in genesis.json: {', '.join(names)}",
            )
        strangers = sorted(set(config.peers) - set(names))
        if strangers:
            raise HomeError(
                f"{self.config_path}: [peers.{strangers[0]}] is no member of this chain",
                advice=f"members in genesis.json: {', '.join(names)}",
            )
        index = names.index(config.node.name)
        member = genesis.members[index]
        expected = {
            KeyKind.IDENTITY: member.identity_key,
            KeyKind.CONSENSUS: member.consensus_key,
            KeyKind.ORACLE: member.oracle_key,
        }
        for kind, key in expected.items():
            if self.keystores.public_key(kind) != key:
                raise NodeKeyError(
                    f"{self.keystores.path(kind)} holds another key than genesis.json names for "
                    f"{config.node.name}",
                    advice="put the keystore of that member there, or correct node.name",
                    code="key.not_member",
                )
        return index

    def bind_chain(self, chain_id: bytes) -> None:
        """Mark the data as this chain's, or refuse: `HomeError` if it is another chain's."""
        if self.chain_id_path.exists():
            stored = self.chain_id_path.read_text(errors="replace").strip()
            if stored != chain_id.hex():
                raise HomeError(
                    f"{self.data_dir} belongs to chain {stored[:16]}, but genesis.json makes chain "
                    f"{chain_id.hex()[:16]}",
                    advice="restore the genesis.json of that chain, or start the new chain in a "
                    "new home",
                    code="home.other_chain",
                )
            return
        write_atomically(self.chain_id_path, chain_id.hex().encode() + b"\n")

    def read_halted(self) -> Halted | None:
        """Why the node halted, if it did. An unreadable marker still counts."""
        try:
            return msgspec.json.decode(self.halted_path.read_bytes(), type=Halted)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return Halted(code="halt.unreadable", detail=str(error), time_ms=0)

    def write_halted(self, halted: Halted) -> None:
        """Keep the node from starting again until somebody has looked."""
        write_atomically(self.halted_path, msgspec.json.encode(halted) + b"\n")

    def clear_halted(self) -> None:
        """Let the node start again; the operator has looked."""
        self.halted_path.unlink(missing_ok=True)

    def validate_not_halted(self) -> None:
        """Raise `HomeError` (exit 70) if the node halted and nobody has cleared it."""
        halted = self.read_halted()
        if halted is not None:
            raise HomeError(
                f"this node halted: {halted.code}: {halted.detail}",
                advice=f"find out why first (`rota replay {self.path}`), then start it with "
                "--clear-halt",
                code=halted.code,
                exit_code=ExitCode.HALTED,
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the home for one process; raises `HomeBusyError` if another holds it.

        The lock goes with the process, however it ends.
        """
        with mapping_errors(f"lock {self.path}"):
            make_private_dir(self.run_dir)
            descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
                raise HomeBusyError(
                    f"another node process ({holder or 'unknown'}) runs in {self.path}",
                    advice="stop it first; never run one key twice",
                ) from error
            with mapping_errors(f"lock {self.path}"):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def write_state(self, state: RunState) -> None:
        """Leave word for `status` commands that find the node down."""
        write_atomically(self.state_path, msgspec.json.encode(state) + b"\n", durable=False)

    def read_state(self) -> RunState | None:
        """What the last process said; None if there was none."""
        try:
            return msgspec.json.decode(self.state_path.read_bytes(), type=RunState)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None


def create_home(
    path: Path,
    *,
    config: NodeConfig,
    genesis: Genesis | None,
    keys: NodeKeys,
    password: str,
    strength: KdfStrength = KdfStrength.STRONG,
    store_password: bool = False,
) -> NodeHome:
    """Lay out a new home; refuses a folder that has a `node.toml`.

    `store_password` keeps the password beside the keystores, which localnets need and unattended
    servers may want. Raises `ConfigError` or `NodeKeyError`.
    """
    home = NodeHome(path)
    if home.config_path.exists():
        raise ConfigError(
            f"{home.path} is a node home already",
            advice="choose another --home; nothing was changed",
            code="home.exists",
        )
    home.path.mkdir(parents=True, exist_ok=True)
    home.log_dir.mkdir(exist_ok=True)
    for directory in (home.keys_dir, home.secrets_dir, home.data_dir, home.run_dir):
        make_private_dir(directory)
    for kind in KeyKind:
        home.keystores.write(kind, getattr(keys, kind.value), password, strength=strength)
    if store_password:
        write_atomically(home.password_path, password.encode() + b"\n")
    if genesis is not None:
        save_genesis(genesis, home.genesis_path)
    # Last, because it is what makes the folder a home.
    write_atomically(home.config_path, render_config(config).encode(), mode=0o644)
    return home


def read_genesis(path: Path) -> Genesis:
    """Read a genesis file; raises `HomeError` with the reason."""
    try:
        return load_genesis(path)
    except GenesisError as error:
        raise HomeError(
            str(error),
            advice="put the genesis.json of the chain there; all nodes use the same",
            code=error.code,
        ) from error


def make_private_dir(path: Path) -> None:
    """Create a folder that only its owner may enter, whatever the umask."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Give `path` this content so that a reader, or a crash, sees the old or the new one whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    temporary.replace(path)
    if durable:
        # Without it a power cut may bring back the old file, or none.
        sync_directory(path.parent)
