"""How a hint names the next command, so that it finds the localnet that the hint is about."""

import os
import shlex
from pathlib import Path
from typing import Final

DIR_DEFAULT: Final = Path(".localnet")
DIR_VARIABLE: Final = "ROTA_LOCALNET"
"""Environment variable that names another folder than the default."""


def rota_command(path: Path, *, from_anywhere: bool = False) -> str:
    """What to put before a command's words so that it finds the localnet in this folder.

    `from_anywhere` is for hints that are read in another place than that of this process.
    """
    path = path.absolute()
    if from_anywhere:
        return f"{DIR_VARIABLE}={shlex.quote(str(path))} rota "
    if path == Path(os.environ.get(DIR_VARIABLE) or DIR_DEFAULT).absolute():
        return "rota "
    return f"{DIR_VARIABLE}={shlex.quote(short_path(path))} rota "


def short_path(path: Path) -> str:
    """A path as whoever stands here writes it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
