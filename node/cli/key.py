"""`rota key`: the keys of a node."""

from typing import Annotated

import typer

from node.cli.homes import HOME_DEFAULT, HomeOption, open_home
from node.cli.output import JsonOption, command_group, current_output, table
from node.cli.target import PasswordFileOption
from node.keystores import KeyKind, find_password

app = command_group(
    "See and check the keys of a node.",
    "rota key show --home ~/.rota",
    "rota key verify --home ~/.rota",
)


@app.command()
def show(
    context: typer.Context,
    kind: Annotated[
        KeyKind | None, typer.Argument(help="Only this key.", show_default=False)
    ] = None,
    home: HomeOption = HOME_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Show public keys; needs no password.

    \b
    Examples:
      rota key show --home .localnet/node0
      rota key show consensus --json
    """
    target = open_home(home)
    kinds = list(KeyKind) if kind is None else [kind]
    keys = {each.value: target.keystores.public_key(each).hex() for each in kinds}
    rows = [(name, key, target.keystores.path(KeyKind(name))) for name, key in keys.items()]
    current_output(context).data(keys, table(["key", "public key", "keystore"], rows))


@app.command()
def verify(
    context: typer.Context,
    home: HomeOption = HOME_DEFAULT,
    password_file: PasswordFileOption = None,
    json: JsonOption = False,
) -> None:
    """Open every keystore and check that it belongs to the committee member it should.

    \b
    Example:
      rota key verify --home ~/north --password-file ~/north.password
    """
    target = open_home(home)
    config = target.load_config().config
    password = find_password(
        password_file, prompt="Password of the keystores", fallback=target.password_path
    )
    target.keystores.load(password, accept_weak=config.node.accept_weak_keystores)
    index = target.validate_member(config, target.load_genesis())
    document = {"name": config.node.name, "member": index, "keys": [kind.value for kind in KeyKind]}
    current_output(context).data(
        document, f"all keys open and belong to {config.node.name}, member {index}"
    )
