"""`rota account margin`: choosing between cross and portfolio margin."""

from enum import StrEnum
from typing import Annotated

import typer

from engine.instructions import MarginMode, SetMarginMode
from node.cli.desk import Order, open_desk
from node.cli.output import JsonOption
from node.cli.target import (
    DIR_DEFAULT,
    WAIT_DEFAULT_S,
    AccountOption,
    DirOption,
    KeyOption,
    NodeOption,
    PasswordFileOption,
    SubOption,
    WaitOption,
)
from node.client import DoorClient


class MarginModeName(StrEnum):
    """Margin modes on the command line."""

    CROSS = "cross"
    PORTFOLIO = "portfolio"


def margin(
    context: typer.Context,
    mode: Annotated[MarginModeName, typer.Argument(help="How to margin the account.")],
    account: AccountOption = None,
    sub: SubOption = 0,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Choose how an account is margined: each market by itself (cross), or options and their
    underlying together (portfolio).

    \b
    Examples:
      rota account margin portfolio
      rota account margin cross --account bob
    """
    desk = open_desk(
        context,
        account=account,
        sub=sub,
        directory=directory,
        node=node,
        key=key,
        password_file=password_file,
        timeout_s=timeout_s,
    )

    async def choose(_: DoorClient) -> Order:
        return SetMarginMode(MarginMode[mode.name]), None

    desk.submit(choose)
