"""Accounts under liquidation, and who is looked at next.

Whether an account covers its maintenance margin changes with every mark, and one moved mark may
change it for everybody. So accounts are looked at by turns, in the order of their ids, a bounded
number in each block, from a cursor that is part of the state. The turn is a function of the state
alone: no cache that a restored node would lack decides who is found when.

A turn counts what is looked at, the positions, and not the accounts: else many positions in one
account would be a way to make everybody's blocks long.

What was found is a `Distress` at its account, also part of the state, and stands in an agenda by
the time at which something is to be done about it. Who waits longest goes first.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from struct import Struct
from typing import TYPE_CHECKING, Final

from engine.limits import (
    DEBT_MAX_MICROQUOTE,
    LIQUIDATION_CLOCK_STEP_MAX_MS,
    LIQUIDATION_LOOKS_PER_BLOCK_MAX,
    LIQUIDATION_PORTFOLIO_WEIGHT,
)
from engine.portfolio.margin import count_markets
from engine.receipts import LiquidationStage
from engine.waiting.orders import Agenda

if TYPE_CHECKING:
    from engine.accounts.account import Account
    from engine.genesis import LiquidationParams

_DISTRESS: Final = Struct(">BQQQQQQ")
"""stage, elapsed, paused, seen, due, cool, debt."""


class Distress:
    """The liquidation of one account."""

    __slots__ = (
        "account",
        "cool_ms",
        "debt",
        "due_ms",
        "elapsed_ms",
        "paused_ms",
        "seen_ms",
        "stage",
    )

    def __init__(self, account: Account, stage: LiquidationStage, now_ms: int) -> None:
        self.account = account
        self.stage = stage
        self.elapsed_ms = 0
        """Block time in this stage, without that in which an index was stale."""
        self.paused_ms = 0
        """The same of the auction while it is insolvent, and of insolvency while it is not. Each
        has a clock, and whoever comes back to one goes on where it stood: so no equity around zero
        puts off the end for ever. It begins at zero with both."""
        self.seen_ms = now_ms
        """When `elapsed_ms` was brought up to date."""
        self.due_ms = now_ms
        """When it is looked at next."""
        self.cool_ms = now_ms
        """From when on the next part of a position may be closed."""
        self.debt = 0
        """Micro-quote that its equity was below zero when it was last looked at."""

    def count_elapsed_ms(self, now_ms: int, retry_ms: int) -> int:
        """How long it is in its stage by now. A chain that stood still counts for a minute at most:
        while it did, nobody could pay, bid or take."""
        passed_ms = min(now_ms - self.seen_ms, retry_ms + LIQUIDATION_CLOCK_STEP_MAX_MS)
        return self.elapsed_ms + passed_ms

    def advance(self, now_ms: int, retry_ms: int, is_waiting: bool) -> None:
        """Bring the clock up to date; while the account waits for an index it stands still."""
        if not is_waiting:
            self.elapsed_ms = self.count_elapsed_ms(now_ms, retry_ms)
        self.seen_ms = now_ms

    def enter(self, stage: LiquidationStage) -> None:
        """Begin a stage, or go on with it."""
        if self.stage == LiquidationStage.CLOSING:
            self.elapsed_ms = 0
        else:
            self.elapsed_ms, self.paused_ms = self.paused_ms, self.elapsed_ms
        self.stage = stage


class Liquidations:
    """All liquidations of an exchange, and the turns."""

    __slots__ = ("agenda", "cursor", "debts", "params", "records", "roster")

    def __init__(self, params: LiquidationParams) -> None:
        self.params = params
        self.roster: list[bytes] = []
        """Every account, by id."""
        self.cursor = bytes(32)
        """The account that was looked at last."""
        self.records: dict[bytes, Distress] = {}
        self.agenda: Agenda[bytes] = Agenda()
        """Accounts in `records` by the time at which they are due."""
        self.debts = 0
        """What they owe together, micro-quote."""

    def add_account(self, account_id: bytes) -> None:
        """An account was opened: it will have its turn."""
        roster = self.roster
        if roster and roster[-1] > account_id:
            insort(roster, account_id)
        else:
            roster.append(account_id)

    def next_accounts(self, accounts: dict[bytes, Account]) -> list[Account]:
        """The next accounts, nobody twice, and the cursor behind them."""
        roster = self.roster
        turn: list[Account] = []
        weight = 0
        position = bisect_right(roster, self.cursor)
        while len(turn) < len(roster) and weight < LIQUIDATION_LOOKS_PER_BLOCK_MAX:
            if position == len(roster):
                position = 0
            account = accounts[roster[position]]
            turn.append(account)
            weight += count_looks(account)
            position += 1
        if turn:
            self.cursor = turn[-1].account_id
        return turn

    def begin(self, record: Distress) -> None:
        """Take up an account."""
        account_id = record.account.account_id
        record.account.distress = record
        self.records[account_id] = record
        self.agenda.add(record.due_ms, account_id)
        self.debts += record.debt

    def end(self, record: Distress) -> None:
        """Let go of an account."""
        account_id = record.account.account_id
        record.account.distress = None
        del self.records[account_id]
        self.agenda.remove(record.due_ms, account_id)
        self.debts -= record.debt

    def schedule(self, record: Distress, due_ms: int) -> None:
        """Note when something is to be done next."""
        account_id = record.account.account_id
        self.agenda.remove(record.due_ms, account_id)
        record.due_ms = due_ms
        self.agenda.add(due_ms, account_id)

    def hasten(self, account: Account, now_ms: int) -> None:
        """An account has received money: if it is under liquidation, look at it next, so that who
        pays a debt opens withdrawals by it."""
        if account.distress is not None and account.distress.due_ms > now_ms:
            self.schedule(account.distress, now_ms)

    def note_equity(self, record: Distress, equity: int) -> None:
        """Note how much more the account owes than it has."""
        debt = min(max(-equity, 0), DEBT_MAX_MICROQUOTE)
        self.debts += debt - record.debt
        record.debt = debt


def count_looks(account: Account) -> int:
    """What looking at an account counts: itself and every market it is in."""
    looks = 1 + count_markets(account)
    return looks if account.portfolio is None else looks * LIQUIDATION_PORTFOLIO_WEIGHT


def encode_distress(record: Distress) -> bytes:
    """The committed form of a liquidation."""
    return _DISTRESS.pack(
        record.stage,
        record.elapsed_ms,
        record.paused_ms,
        record.seen_ms,
        record.due_ms,
        record.cool_ms,
        record.debt,
    )
