"""Whom a trading command talks to, and in whose name."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, NamedTuple, TypeVar

import typer

from crypto.ed25519 import ED25519
from crypto.keystore import KdfStrength, KeystoreError, read_keystore
from engine.limits import SUB_ACCOUNTS_MAX
from node.cli import hints
from node.cli.hints import DIR_VARIABLE, rota_command
from node.cli.reasons import explain_refused_request
from node.client import DoorClient, run_with_door
from node.client_stream import DoorError
from node.config import Endpoint, parse_endpoint
from node.exit_codes import ExitCode, OperatorError
from node.keystores import NodeKeyError, find_password
from node.network import is_network, load_network

DIR_DEFAULT: Final = hints.DIR_DEFAULT
ACCOUNT_DEFAULT: Final = "alice"
WAIT_DEFAULT_S: Final = 30.0

_PASSED_OVER_CODES: Final = frozenset(
    {"door.unreachable", "door.timeout", "door.closed", "door.full"}
)
"""Of a node that is down, hangs or has no place, where another one may well answer."""

SHORT_ID_MIN_DIGITS: Final = 8
"""Fewer digits of an account's id are taken for a name."""

T = TypeVar("T")

DirOption = Annotated[
    Path,
    typer.Option("--dir", envvar=DIR_VARIABLE, help="Folder of the localnet."),
]
NodeOption = Annotated[
    str | None,
    typer.Option(
        "--node",
        help="Node to ask: host:port of its order door, or its name in the localnet "
        "[default: the first that answers].",
        show_default=False,
    ),
]
AccountOption = Annotated[
    str | None,
    typer.Option(
        "--account",
        help=f"Account of the localnet to act for [default: {ACCOUNT_DEFAULT}].",
        show_default=False,
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        exists=True,
        dir_okay=False,
        help="Keystore of the account to act for, outside of a localnet; with --account, of a "
        "session key of that account.",
        show_default=False,
    ),
]
PasswordFileOption = Annotated[
    Path | None,
    typer.Option(
        envvar="ROTA_PASSWORD_FILE",
        exists=True,
        dir_okay=False,
        help="File whose first line is the password; without it you are asked.",
        show_default=False,
    ),
]
GenesisOption = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="The chain's genesis.json [default: the localnet's].",
        show_default=False,
    ),
]
SubOption = Annotated[
    int,
    typer.Option(
        min=0,
        max=SUB_ACCOUNTS_MAX,
        help="Number of the sub-account to act for; 0 is the main account.",
    ),
]
WaitOption = Annotated[
    float,
    typer.Option("--timeout", min=0.1, max=3600, help="Seconds to wait for the certified result."),
]


class DoorFailure(OperatorError):  # noqa: N818 - an error of the door, as the operator sees it
    """A node does not answer, or refuses the request."""

    code = "door.unreachable"
    exit_code = ExitCode.UNREACHABLE


class Identity(NamedTuple):
    """Who signs."""

    name: str
    account: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"Identity({self.name})"


def find_doors(directory: Path, node: str | None) -> list[Endpoint]:
    """The doors to try, in order; raises `NetworkError` or a usage error."""
    if node is not None and ":" in node:
        try:
            return [parse_endpoint(node)]
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--node") from error
    network = load_network(directory)
    if node is not None:
        return [network.node(node).door_endpoint()]
    return [each.door_endpoint() for each in network.nodes]


def run_at_door(directory: Path, node: str | None, work: Callable[[DoorClient], Awaitable[T]]) -> T:
    """Run `work`, which changes something, with a client of the first node that answers.

    Raises `DoorFailure`.
    """
    return run_at(find_doors(directory, node), work, may_repeat=False, rota=rota_command(directory))


def query_at_door(
    directory: Path, node: str | None, work: Callable[[DoorClient], Awaitable[T]]
) -> T:
    """Run `work`, which only asks, with a client of the first node that answers it to its end.

    Raises `DoorFailure`.
    """
    return run_at(find_doors(directory, node), work, may_repeat=True, rota=rota_command(directory))


def run_at(
    doors: list[Endpoint],
    work: Callable[[DoorClient], Awaitable[T]],
    *,
    may_repeat: bool,
    rota: str = "rota ",
) -> T:
    """Run `work` with a client of the first of these doors that answers. Raises `DoorFailure`.

    A node that does not answer, or is full, is passed over while `work` has not begun; afterwards
    only if it `may_repeat`: what one node began to do must not be done twice. Hints name commands
    after `rota` (`node.cli.hints.rota_command`).
    """
    has_begun = False

    async def begin(client: DoorClient) -> T:
        nonlocal has_begun
        has_begun = True
        return await work(client)

    for position, door in enumerate(doors):
        try:
            return run_with_door(door.host, door.port, begin)
        except DoorError as error:
            is_passed_over = error.code in _PASSED_OVER_CODES and (may_repeat or not has_begun)
            if not is_passed_over or position == len(doors) - 1:
                raise door_failure(error, doors, rota) from error
    raise AssertionError("a network has nodes")


def advise_to_open(directory: Path, sub: int, account: str | None = None) -> str:
    """What to do about a sub-account that nobody has opened, of this owner (default: the default
    one)."""
    owner = "" if account in (None, ACCOUNT_DEFAULT) else f" --account {account}"
    return (
        "a sub-account is opened by the first transfer to it: "
        f"{rota_command(directory)}account transfer AMOUNT --to-sub {sub}{owner}"
    )


@contextmanager
def explaining_sub_account(directory: Path, sub: int, account: str | None = None) -> Iterator[None]:
    """Say of a sub-account that there is none how it is opened: other accounts come to be by a
    deposit."""
    try:
        yield
    except OperatorError as error:
        if sub and error.code == "account.unknown":
            error.message = f"there is no sub-account {sub} yet"
            error.advice = advise_to_open(directory, sub, account)
        raise


def door_failure(error: DoorError, doors: list[Endpoint], rota: str) -> DoorFailure:
    """The door's error with what to do about it."""
    if error.code == "door.timeout":
        return DoorFailure(
            error.message,
            advice=f"see whether the network makes progress: {rota}localnet status",
            code=error.code,
            exit_code=ExitCode.TIMED_OUT,
        )
    if error.code in ("door.unreachable", "door.closed"):
        tried = ", ".join(str(door) for door in doors)
        return DoorFailure(
            f"no node answers (tried {tried}): {error.message}",
            advice=f"start one with `{rota}localnet up`, or name another with --node",
            code=error.code,
        )
    return DoorFailure(
        error.message,
        advice=explain_refused_request(error.code).advice,
        code=error.code,
        exit_code=ExitCode.REJECTED,
    )


def load_identity(
    directory: Path, account: str | None, key: Path | None, password_file: Path | None
) -> Identity:
    """Open the key of the account to act for: `--key`, or an account of the localnet. With both,
    the key is a session key of that account."""
    if key is None:
        network = load_network(directory)
        entry = network.account(account or ACCOUNT_DEFAULT)
        return Identity(entry.name, entry.account, network.account_secret(entry.name))
    # The keys of a localnet's accounts are there to be tried: their password lies beside them.
    beside = key.parent / "password" if key.parent == directory / "accounts" else None
    password = find_password(password_file, prompt=f"Password of {key}", fallback=beside)
    try:
        secret = read_keystore(
            key, password, derive_public_key=ED25519.public_key, strength=KdfStrength.LOCALNET
        )
    except KeystoreError as error:
        raise NodeKeyError(
            f"{key}: {error}", advice="check the file and its password", code=error.code
        ) from error
    public_key = ED25519.public_key(secret)
    acting_for = public_key if account is None else account_id(directory, account)
    return Identity(key.name, acting_for, secret)


def account_id(directory: Path, text: str) -> bytes:
    """An account's id from its name in the localnet, from its 64 hexadecimal digits, or from as
    many of the first ones as tell it from all others of the localnet (`account list` shows 16)."""
    if len(text) == 64:
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass  # Then it can only be a name, and an unknown one is reported as such.
    network = load_network(directory)
    if len(text) >= SHORT_ID_MIN_DIGITS and all(each.name != text for each in network.accounts):
        found = [
            each.account for each in network.accounts if each.account.hex().startswith(text.lower())
        ]
        if len(found) == 1:
            return found[0]
    return network.account(text).account


def account_names(directory: Path) -> dict[bytes, str]:
    """Names of the accounts whose keys are in the localnet's folder, by id."""
    if not is_network(directory):
        return {}
    return {each.account: each.name for each in load_network(directory).accounts}
