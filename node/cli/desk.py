"""Who asks in the commands that hand something in, for which account, and where."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import typer

from engine.accounts.sub_accounts import compute_account_id
from engine.instructions import AccountInstruction, OnBehalf
from node.cli.hints import rota_command
from node.cli.output import Output, current_output
from node.cli.submission import Teller, submit_instruction
from node.cli.target import (
    Identity,
    account_names,
    explaining_sub_account,
    load_identity,
    run_at_door,
)
from node.cli.views import MarketInfo
from node.client import DoorClient

Order = tuple[AccountInstruction, MarketInfo | None]
"""What is handed in, and the market in whose units its outcome is told."""


def make_status_command(directory: Path, node: str | None) -> str:
    """What asks the same network for an envelope whose id is put behind it."""
    where = "" if node is None else f"--node {node} "
    return f"{rota_command(directory)}order status {where}"


class Desk(NamedTuple):
    """Whom a command acts for, and where."""

    output: Output
    identity: Identity
    sub: int
    """Which of the accounts of the identity; 0 for the main one."""
    directory: Path
    node: str | None
    timeout_s: float

    @property
    def account(self) -> bytes:
        """The id of the account that it acts for."""
        return compute_account_id(self.identity.account, self.sub)

    @property
    def account_words(self) -> str:
        """The account as other commands take it: its name in the localnet, or its id."""
        return f"{self._owner} --sub {self.sub}" if self.sub else self._owner

    @property
    def _owner(self) -> str:
        owner = self.identity.account
        return account_names(self.directory).get(owner, owner.hex())

    def submit(
        self,
        make: Callable[[DoorClient], Awaitable[Order]],
        tell: Teller | None = None,
        noun: str = "order",
    ) -> int:
        """Make an instruction, hand it in, and print its certified result; `tell` adds to it.
        Return the result's height.

        Raises what `run_at_door` and `submit_instruction` do.
        """
        follow_up = make_status_command(self.directory, self.node)

        async def work(client: DoorClient) -> int:
            instruction, market = await make(client)
            return await submit_instruction(
                client,
                self.identity,
                OnBehalf(self.sub, instruction) if self.sub else instruction,
                market,
                self.output,
                self.timeout_s,
                follow_up,
                tell,
                noun,
            )

        with explaining_sub_account(self.directory, self.sub, self._owner):
            return run_at_door(self.directory, self.node, work)


def open_desk(
    context: typer.Context,
    *,
    account: str | None,
    sub: int,
    directory: Path,
    node: str | None,
    key: Path | None,
    password_file: Path | None,
    timeout_s: float,
) -> Desk:
    """The desk of a command with these options. Raises what `load_identity` does."""
    identity = load_identity(directory, account, key, password_file)
    return Desk(current_output(context), identity, sub, directory, node, timeout_s)
