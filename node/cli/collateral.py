"""`rota account transfer` and `withdraw`: collateral that leaves an account."""

from typing import Annotated

import typer

from engine.instructions import Transfer, Withdraw
from engine.limits import SUB_ACCOUNTS_MAX, WITHDRAWAL_DESTINATION_BYTES
from engine.receipts import ReasonCode
from node.cli.amounts import format_quote, parse_quote
from node.cli.desk import Order, open_desk
from node.cli.hints import rota_command
from node.cli.output import JsonOption
from node.cli.submission import Executed, RejectedError
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
    account_id,
)
from node.client import DoorClient
from node.network import is_network, load_network

AmountArgument = Annotated[str, typer.Argument(help="Amount of quote currency, as 250 or 0.5.")]


def transfer(
    context: typer.Context,
    amount: AmountArgument,
    to: Annotated[
        str | None,
        typer.Option(
            help="Who receives it: a name in the localnet, or an account's id.", show_default=False
        ),
    ] = None,
    to_sub: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=SUB_ACCOUNTS_MAX,
            help="Or which of your own accounts: the number of a sub-account, 0 for the main one.",
            show_default=False,
        ),
    ] = None,
    account: AccountOption = None,
    sub: SubOption = 0,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Give collateral to another account, or move it between your own.

    It is there at once and for ever. What is left must cover the initial margin. The first
    transfer to a sub-account opens it; --sub names the account that gives.

    \b
    Examples:
      rota account transfer 250 --to bob
      rota account transfer 1000 --to-sub 1
      rota account transfer 400 --sub 1 --to-sub 0
    """
    if (to is None) == (to_sub is None):
        raise typer.BadParameter("say who receives it: --to or --to-sub, one of the two")
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
    receiver = b"" if to is None else account_id(directory, to)
    instruction = Transfer(parse_quote(amount), receiver, to_sub or 0)

    async def make(_: DoorClient) -> Order:
        return instruction, None

    desk.submit(make)


def withdraw(
    context: typer.Context,
    amount: AmountArgument,
    address: Annotated[
        str, typer.Argument(help="Address on L1, 40 hexadecimal digits, with or without 0x.")
    ],
    account: AccountOption = None,
    sub: SubOption = 0,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    key: KeyOption = None,
    password_file: PasswordFileOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Take collateral out, to an address on L1.

    It leaves the balance at the end of the block and is pending until L1 has paid it, or given it
    back. What is left must cover the initial margin.

    \b
    Example:
      rota account withdraw 250 0x52908400098527886e0f7030069857d2e4169ee7
    """
    try:
        destination = bytes.fromhex(address.removeprefix("0x"))
    except ValueError:
        destination = b""
    if len(destination) != WITHDRAWAL_DESTINATION_BYTES:
        raise typer.BadParameter(
            f"an address has {2 * WITHDRAWAL_DESTINATION_BYTES} hexadecimal digits"
        )
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
    instruction = Withdraw(parse_quote(amount), destination)

    chains: list[bytes] = []

    async def make(client: DoorClient) -> Order:
        chains.append(client.welcome.chain_id)
        return instruction, None

    numbers: list[int] = []

    async def tell(executed: Executed) -> tuple[dict[str, object], str]:
        numbers.append(executed.receipt.order_id)
        return {"withdrawal_id": numbers[0]}, ""

    try:
        height = desk.submit(make, tell, noun="withdrawal")
    except RejectedError as error:
        if error.code == ReasonCode.WITHDRAW_TOO_SMALL and is_network(directory):
            genesis = load_network(directory).genesis()
            if [genesis.chain_id()] == chains:
                least = format_quote(genesis.engine.withdrawal_min_microquote)
                error.advice = f"nothing was changed; withdraw at least {least}"
        raise
    rota, who = rota_command(directory), desk.account_words
    desk.output.note(f"pending: {rota}account show {who}")
    desk.output.note(f"its proof: {rota}account prove {who} --withdrawal {numbers[0]}")
    desk.output.note(f"its end: {rota}account watch {who} --from {height}")
