"""`rota node`: create a node's home, run the node, ask how it is."""

import re
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import structlog
import trio
import typer

from committee.committee import Member
from crypto.bls import BLS, generate_secret
from crypto.ed25519 import ED25519
from node.cli.homes import (
    HOME_DEFAULT,
    HomeOption,
    SetOption,
    open_home,
    parse_overrides,
)
from node.cli.output import JsonOption, command_group, current_output, record, to_plain
from node.cli.target import PasswordFileOption, run_at
from node.cli.views import StatusInfo, query_status
from node.config import (
    CONFIG_VERSION,
    NODE_NAME_PATTERN,
    NODE_NAME_RULE,
    DoorSection,
    NodeConfig,
    NodeSection,
    PeerEntry,
    PeerSection,
)
from node.config_file import render_peer
from node.exit_codes import OperatorError
from node.groups import walk_leaves
from node.home import HomeError, NodeHome, create_home, make_private_dir, read_genesis
from node.keystores import NodeKeys, find_password
from node.logs import configure_logging
from node.signing_marker import validate_memory
from node.storage.errors import mapping_errors
from node.transport.certificate import make_certificate

if TYPE_CHECKING:
    # Imported when a node starts: every other command starts faster without it.
    from node.core import CoreFactory
    from node.runtime import HostParts

ChooseCore = Callable[[NodeKeys], "CoreFactory"]
"""Which core a node runs, given the keys that its home holds."""

app = command_group(
    "Create a node's home, run the node, ask how it is.",
    "rota node init --name north --home ~/north",
    "rota node start --home ~/north",
)

POWER_UNTIL_AGREED: Final = 1
"""Of a member that `init` prints; what it shall have is for the members to say."""

_log = structlog.get_logger()


def _validate_name(name: str) -> str:
    if re.fullmatch(NODE_NAME_PATTERN, name) is None:
        raise typer.BadParameter(f"{name!r} is no name for a node: {NODE_NAME_RULE}")
    return name


@app.command()
def init(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Option(
            callback=_validate_name, help=f"The node's name in the committee: {NODE_NAME_RULE}."
        ),
    ],
    home: HomeOption = HOME_DEFAULT,
    genesis: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="The chain's genesis.json.", show_default=False
        ),
    ] = None,
    peer: Annotated[
        str, typer.Option(help="Address for the other members, host:port.")
    ] = PeerSection().listen,
    door: Annotated[str, typer.Option(help="Address of the order door.")] = DoorSection().listen,
    password_file: PasswordFileOption = None,
    json: JsonOption = False,
) -> None:
    """Create a home with fresh keys and print the node's public identity.

    It prints, ready to paste, the table that the other members' node.toml need of this node, and
    its entry in the members of genesis.json, whose second value is the power that the members
    agree on.

    \b
    Example:
      rota node init --name north --home ~/north --password-file ~/north.password
    """
    output = current_output(context)
    target = open_home(home)
    password = find_password(password_file, prompt="New password of the keystores", confirm=True)
    keys = NodeKeys(
        identity=secrets.token_bytes(32),
        consensus=generate_secret(secrets.token_bytes(32)),
        oracle=secrets.token_bytes(32),
    )
    config = NodeConfig(
        version=CONFIG_VERSION,
        node=NodeSection(name=name),
        peer=PeerSection(listen=peer),
        door=DoorSection(listen=door),
    )
    parsed = None if genesis is None else read_genesis(genesis)
    try:
        create_home(target.path, config=config, genesis=parsed, keys=keys, password=password)
    except OSError as error:
        raise HomeError(
            f"cannot make a home in {target.path}: {error.strerror or error}",
            advice="choose another --home",
            code="home.unwritable",
        ) from error
    entry = PeerEntry(address=peer, certificate=make_certificate(keys.identity, name))
    member = Member(
        name=name,
        power=POWER_UNTIL_AGREED,
        consensus_key=BLS.public_key(keys.consensus),
        consensus_key_proof=BLS.prove_possession(keys.consensus),
        identity_key=ED25519.public_key(keys.identity),
        oracle_key=ED25519.public_key(keys.oracle),
    )
    document = {
        "home": str(target.path),
        "name": name,
        # As the files have them: bytes in base64.
        "peer": msgspec.to_builtins(entry),
        "genesis_member": msgspec.to_builtins(member),
    }
    output.data(
        document,
        "# for the node.toml of the other members",
        render_peer(name, entry),
        "",
        "# for the members in genesis.json",
        msgspec.json.encode(member).decode(),
    )
    output.note(f"created {target.path}; back up {target.keys_dir} and remember the password")
    if genesis is None:
        output.note(f"next: put the chain's genesis.json into {target.path}")
    else:
        output.note(f"next: add [peers.NAME] to {target.config_path}, then rota node start")


@app.command()
def start(
    context: typer.Context,
    home: HomeOption = HOME_DEFAULT,
    settings: SetOption = None,
    password_file: PasswordFileOption = None,
    clear_halt: Annotated[
        bool,
        typer.Option("--clear-halt", help="Start a node that halted; only once you know why."),
    ] = False,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", help="Sign nothing; an empty disk joins by a snapshot of other members."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Run a node until SIGINT or SIGTERM, which stop it in good order (exit code 0).

    With --follow (or node.follow in node.toml) it follows the chain without a part in it: it
    executes and serves everything and signs nothing. So it may run without the safety records that
    a member must have, as after the loss of its data.

    Other exit codes: 3 configuration, genesis or home is wrong; 7 key or password; 70 halted,
    and it stays halted until --clear-halt; 71 the safety records forbid signing, or another
    process uses the home; 72 disk full or data corrupt; 73 port in use.

    \b
    Examples:
      rota node start --home ~/north --password-file ~/north.password
      rota node start --home ~/north --set log.level=debug
      rota node start --home ~/north --follow
    """
    settings = [*(settings or ()), *(["node.follow=true"] if follow else [])]
    start_node(home, settings, password_file, clear_halt=clear_halt)


def start_node(
    home: Path,
    settings: list[str] | None,
    password_file: Path | None,
    *,
    clear_halt: bool = False,
    choose_core: ChooseCore | None = None,
    parts: "HostParts | None" = None,
) -> None:
    """What `start` does; with another core than the honest one if `choose_core` names one, and in
    another world than the real one if `parts` makes one.

    Raises `OperatorError` for whatever the operator can mend or must look at.
    """
    target = open_home(home)
    config = target.load_config(parse_overrides(settings)).config
    with mapping_errors(f"write the log of {target.path}"):
        configure_logging(config.log, node=config.node.name, path=_log_path(target))
    try:
        _start(target, config, password_file, clear_halt, choose_core, parts)
    except OperatorError as error:
        _log.error(
            "node_failed", code=error.code, exit_code=int(error.exit_code), reason=error.message
        )
        raise
    except Exception:
        # The last barrier of the process: whatever it was must stand in the log.
        _log.exception("node_crashed")
        raise


def _log_path(home: NodeHome) -> Path:
    home.log_dir.mkdir(exist_ok=True)
    return home.log_path


def _start(
    home: NodeHome,
    config: NodeConfig,
    password_file: Path | None,
    clear_halt: bool,
    choose_core: ChooseCore | None,
    parts: "HostParts | None",
) -> None:
    # Imported here: every other command starts faster without the node's machinery.
    from node.core import NodeCore
    from node.descriptors import reserve_descriptors
    from node.runtime import run_node

    reserve_descriptors(config)
    genesis = home.load_genesis()
    me = home.validate_member(config, genesis)
    with home.locked():
        with mapping_errors(f"write to {home.data_dir}"):
            if not config.node.follow:
                validate_memory(home, genesis.chain_id())
            make_private_dir(home.data_dir)
            home.bind_chain(genesis.chain_id())
        if clear_halt:
            home.clear_halted()
        home.validate_not_halted()
        password = find_password(
            password_file,
            prompt=f"Password of the keystores in {home.keys_dir}",
            fallback=home.password_path,
        )
        keys = home.keystores.load(password, accept_weak=config.node.accept_weak_keystores)
        make_core = NodeCore if choose_core is None else choose_core(keys)
        failure: OperatorError | None = None

        async def main() -> None:
            nonlocal failure
            stop = trio.Event()
            async with trio.open_nursery() as nursery:
                await nursery.start(_stop_on_signal, stop)
                try:
                    await run_node(
                        home, config, genesis, me, keys, stop, make_core=make_core, parts=parts
                    )
                except* OperatorError as group:
                    # Raised outside of the nursery, which would wrap it into a group.
                    failure = next(_operator_errors(group))
                nursery.cancel_scope.cancel()

        trio.run(main)
        if failure is not None:
            raise failure


def _operator_errors(group: BaseException) -> Iterator[OperatorError]:
    return (each for each in walk_leaves(group) if isinstance(each, OperatorError))


async def _stop_on_signal(
    stop: trio.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            _log.info("node_stop_requested", signal=signal.Signals(number).name)
            stop.set()


@app.command()
def status(
    context: typer.Context,
    home: HomeOption = HOME_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Ask the node of a home how it is; exit code 4 if it does not answer.

    \b
    Example:
      rota node status --home .localnet/node0 --json
    """
    output = current_output(context)
    target = open_home(home)
    config = target.load_config().config
    try:
        answer, info = run_at([config.door.endpoint()], query_status, may_repeat=True)
    except OperatorError as error:
        last, halted = target.read_state(), target.read_halted()
        if halted is not None:
            error.message += f"; it halted: {halted.code}: {halted.detail}"
        elif last is not None:
            error.message += f"; when last seen it had committed height {last.committed_height}"
        error.advice = f"start it: rota node start --home {target.path}"
        raise
    output.data(answer, record(_status_rows(to_plain(answer), info)))


def _status_rows(status: dict[str, Any], info: StatusInfo) -> Iterator[tuple[str, object]]:
    """What a person looks for first: single values, then who and what needs attention. `--json`
    has it all."""
    for key, value in status.items():
        if not isinstance(value, dict | list):
            yield key, value
    yield "peers_connected", ", ".join(info.peers_connected) or "none"
    crypto, engine = info.workers.crypto, info.workers.engine
    yield (
        "crypto_workers",
        f"{len(crypto.pids)} of {crypto.processes} running, {crypto.queued} jobs wait, "
        f"{crypto.restarts} replaced",
    )
    yield "engine_worker", f"at height {engine.height}, {engine.commands_waiting} requests wait"
    convicted = (f"{each.member} ({each.offence})" for each in info.convictions)
    yield "convicted", ", ".join(convicted) or "nobody"
    broken = (f"{rule} {count} times" for rule, count in info.misbehaviours.items())
    yield "broken_by_peers", ", ".join(broken) or "nothing"
    for code, detail in info.alarms.items():
        yield "alarm", f"{code}: {detail}"
