"""Is everything that the exchange owes covered by what it holds? A statement, and its proofs.

At mark prices an account is worth its balance, with the funding that it has not settled yet, and
its positions: its equity. Where that is positive the exchange owes it. Where it is negative
somebody owes the exchange, and may never pay; such an account enters the Merkle-sum tree
(`crypto.merkle_sum`) with zero, so that no debtor ever makes the liabilities look smaller, and all
that is missing is stated as the deficit. Since positions of each market sum to zero, one equation
must hold, exactly:

    liabilities - deficit + insurance + reserved == held

    liabilities   sum over all accounts of max(equity, 0): the total of the tree
    deficit       sum over all accounts of max(-equity, 0)
    insurance     the insurance fund
    reserved      all else: fees, withdrawals under way, and what rounding left in the funding pool,
                  everybody's funding counted as settled
    held          deposits - withdrawals: what the contract on L1 must have

So `liabilities + reserved <= held` just when `deficit <= insurance`: the statement covers.

Who can check what: a node computes it all again. A contract knows `held`, and has the insurance,
and fees and withdrawals as the least that is reserved, from the proven leaf of the totals; so the
equation leaves a lying quorum no smaller deficit than the liabilities that it states allow. And
liabilities below the truth leave at least one account without a proof of its equity (the total is
no less than all that can be proven together).

The statement's bytes, all numbers big-endian:

    height u64 | state root | accounts u64 | liabilities u256 | deficit u256 |
    insurance i64 | reserved i256 | held i64 | root of the tree

Keys of the tree are the account ids. A proof of equity is canonical MessagePack,
`[liability (32 bytes), [count, position, siblings]]`: 967 bytes at 10,000 accounts, 1,171 at
100,000.
"""

from struct import Struct as Layout
from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto.codec import DecodeError, decode, encode
from crypto.digest import Domain, digest
from crypto.merkle_sum import SUM_MAX, SumProof, SumTree, verify_liability
from crypto.types import Digest
from engine.commitment.proofs import validate_proof
from engine.commitment.root import SYSTEM_KEY, compute_state_root, read_totals
from engine.errors import InvariantViolation, ProofError, SolvencyError
from engine.invariants import compute_balances_owed
from engine.margin import compute_equity
from engine.prices.funding import compute_settlement
from engine.state import EngineState

EQUITY_PROOF_MAX_BYTES: Final = 4_096
"""No proof of equity is longer: 32 siblings of 66 bytes."""

_STATEMENT: Final = Layout(">Q32sQ32s32sq32sq32s")


class SolvencyStatement(Struct, frozen=True):
    """What is owed and what is held after a block; amounts in micro-quote."""

    height: int
    state_root: bytes
    accounts: int
    """All of them, those included that are owed nothing."""
    liabilities_microquote: int
    deficit_microquote: int
    insurance_microquote: int
    reserved_microquote: int
    held_microquote: int
    sum_root: bytes

    @property
    def is_covered(self) -> bool:
        """Whether everybody can be paid: the insurance makes up for the deficit."""
        return self.deficit_microquote <= self.insurance_microquote


class EquityProof(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What one account is owed, and that it is part of the liabilities."""

    liability: Annotated[bytes, Meta(min_length=32, max_length=32)]
    proof: SumProof


class Solvency:
    """A statement and the tree behind it."""

    def __init__(self, statement: SolvencyStatement, tree: SumTree, owed: dict[bytes, int]) -> None:
        self.statement = statement
        self.tree = tree
        self.owed = owed
        """What each account is owed, micro-quote, by rising id."""

    def prove_equity(self, account_id: bytes) -> bytes:
        """The proof of what an account is owed. Raises `KeyError` if there is no such account."""
        liability = self.owed[account_id].to_bytes(32, "big")
        return encode(EquityProof(liability, self.tree.prove(account_id)))


def compute_solvency(state: EngineState) -> Solvency:
    """The statement about a state between blocks, at its mark prices.

    Every node calls it at the heights at which the chain has it save its state, in the copy of the
    process that does so. It changes nothing that a later block reads. It goes over every account
    (about 45 ms for 10,000, 0.7 s for 100,000), so not at every height. Incremental upkeep was
    rejected, since one moved price changes the equity of everybody who holds a position there.

    Always comes to a result, for bounds on what is stored keep every equity within 129 bits. Raises
    `InvariantViolation` if the equities do not sum to the balances owed: a bug of ours.
    """
    assert not state.is_rootless, "this state has skipped a root"
    owed: dict[bytes, int] = {}
    deficit = unsettled = 0
    for account_id in sorted(state.accounts):
        account = state.accounts[account_id]
        if state.is_funded:
            unsettled += compute_settlement(account)
        equity = compute_equity(state, account)
        if equity < 0:
            deficit -= equity
            equity = 0
        owed[account_id] = equity
    tree = SumTree(list(owed.items()))
    balances = compute_balances_owed(state) + unsettled
    if tree.total - deficit != balances:
        raise InvariantViolation(f"height {state.height}: equity is not what balances must sum to")
    held = state.deposits_total - state.withdrawals_total
    statement = SolvencyStatement(
        state.height,
        compute_state_root(state),
        len(tree),
        tree.total,
        deficit,
        state.insurance,
        held - state.insurance - balances,
        held,
        tree.root,
    )
    return Solvency(statement, tree, owed)


def validate_statement(statement: SolvencyStatement) -> None:
    """Raise `SolvencyError` unless the amounts are possible and add up.

    A deficit above the insurance is possible: that is the truth then, see `is_covered`.
    """
    for amount in (statement.liabilities_microquote, statement.deficit_microquote):
        if not 0 <= amount <= SUM_MAX:
            raise SolvencyError("solvency.out_of_range", f"{amount} is no sum of equities")
    owed = (
        statement.liabilities_microquote
        - statement.deficit_microquote
        + statement.insurance_microquote
        + statement.reserved_microquote
    )
    if owed != statement.held_microquote:
        raise SolvencyError("solvency.unbalanced", f"{owed} owed, {statement.held_microquote} held")


def validate_totals(statement: SolvencyStatement, proof: bytes) -> None:
    """Hold a statement against the totals under its state root, which a quorum can certify.

    `proof` is that of the totals' leaf (`prove_system`), from anybody. What is held and the
    insurance must be those of the leaf, and what is reserved at least its fees and pending
    withdrawals, so that a deficit cannot hide there. Raises `ProofError` and `SolvencyError`.
    """
    value = validate_proof(statement.state_root, SYSTEM_KEY, proof)
    totals = None if value is None else read_totals(value)
    if totals is None:
        raise ProofError("proof.invalid", "every state has its totals")
    height, _, _, fees, insurance, deposits, pending, withdrawals = totals
    stated = (statement.height, statement.insurance_microquote, statement.held_microquote)
    if stated != (height, insurance, deposits - withdrawals):
        raise SolvencyError("solvency.other_totals", "it is not of the totals of its state")
    if statement.reserved_microquote < fees + pending:
        raise SolvencyError("solvency.other_totals", "less is reserved than fees and withdrawals")


def encode_statement(statement: SolvencyStatement) -> bytes:
    """The bytes of a statement (module docstring)."""
    return _STATEMENT.pack(
        statement.height,
        statement.state_root,
        statement.accounts,
        statement.liabilities_microquote.to_bytes(32, "big"),
        statement.deficit_microquote.to_bytes(32, "big"),
        statement.insurance_microquote,
        statement.reserved_microquote.to_bytes(32, "big", signed=True),
        statement.held_microquote,
        statement.sum_root,
    )


def decode_statement(data: bytes) -> SolvencyStatement:
    """The statement in bytes of anybody, found to be possible. Raises `SolvencyError`."""
    if len(data) != _STATEMENT.size:
        raise SolvencyError("solvency.malformed", f"{len(data)} bytes, not {_STATEMENT.size}")
    height, state_root, accounts, liabilities, deficit, insurance, reserved, held, sum_root = (
        _STATEMENT.unpack(data)
    )
    statement = SolvencyStatement(
        height,
        state_root,
        accounts,
        int.from_bytes(liabilities, "big"),
        int.from_bytes(deficit, "big"),
        insurance,
        int.from_bytes(reserved, "big", signed=True),
        held,
        sum_root,
    )
    validate_statement(statement)
    return statement


def compute_statement_digest(statement: SolvencyStatement) -> Digest:
    """What a checkpoint would carry."""
    return digest(Domain.SOLVENCY, encode_statement(statement))


def validate_equity_proof(statement: SolvencyStatement, account_id: bytes, data: bytes) -> int:
    """What this account is owed under the statement, micro-quote; 0 also if it is in debt.

    `data` may come from anybody. Raises `ProofError`.
    """
    if len(data) > EQUITY_PROOF_MAX_BYTES:
        raise ProofError("proof.too_large", f"{len(data)} bytes, at most {EQUITY_PROOF_MAX_BYTES}")
    try:
        proof = decode(EquityProof, data)
    except DecodeError as error:
        raise ProofError("proof.malformed", str(error)) from error
    liability = int.from_bytes(proof.liability, "big")
    total = statement.liabilities_microquote
    if proof.proof.count != statement.accounts or not verify_liability(
        statement.sum_root, total, account_id, liability, proof.proof
    ):
        raise ProofError("proof.invalid", "it does not lead from this account to these liabilities")
    return liability
