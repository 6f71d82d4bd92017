"""Options that commands on a node's home share."""

from pathlib import Path
from typing import Annotated, Final

import typer

from node.home import NodeHome

HomeOption = Annotated[
    Path,
    typer.Option("--home", envvar="ROTA_HOME", help="The node's home."),
]
HOME_DEFAULT: Final = Path("~/.rota")

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Override one key of node.toml; may be given often.",
        show_default=False,
    ),
]


def open_home(path: Path) -> NodeHome:
    """The home at a path given by hand."""
    return NodeHome(path.expanduser())


def parse_overrides(settings: list[str] | None) -> dict[str, str]:
    """Read `--set` flags; raises a usage error."""
    overrides = {}
    for setting in settings or []:
        key, separator, value = setting.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"{setting!r} is not SECTION.KEY=VALUE", param_hint="--set")
        overrides[key.strip()] = value.strip()
    return overrides
