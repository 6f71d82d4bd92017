"""`apply_block`: one block through all phases, in the fixed order of the package's docstring."""

from itertools import chain
from typing import Final

from crypto.codec import encode
from crypto.merkle import compute_merkle_root
from engine.accounts.fees import enter_fee_epoch
from engine.accounts.sessions import Charges, Session, change_sessions, find_session
from engine.accounts.sub_accounts import find_account, is_sub_account_number
from engine.accounts.transfers import transfer
from engine.accounts.withdrawals import request_withdrawal, settle_withdrawals
from engine.block import BlockInput, BlockOutput, BlockStats
from engine.commitment.root import compute_state_root
from engine.instructions import (
    Amend,
    ArmDeadMan,
    Bid,
    Cancel,
    CancelAll,
    ConditionalOrder,
    MarketOrder,
    OnBehalf,
    OneCancelsOther,
    OracleReport,
    PlaceOrder,
    SetMarginMode,
    TrailingStop,
    Transfer,
    TwapOrder,
    VolatilityReport,
    Withdraw,
)
from engine.invariants import validate_changes
from engine.limits import DEPOSITS_TOTAL_MAX_MICROQUOTE
from engine.liquidation.phase import is_withdrawal_gated, run_liquidations
from engine.options.settlement import run_options
from engine.options.surface import accept_volatilities, forget_reporters
from engine.order_phases import OrderPhases, split_placements
from engine.portfolio.modes import set_margin_mode
from engine.prices.funding import accrue_funding
from engine.prices.mark import note_last_prices, update_marks
from engine.prices.oracle import accept_report, adopt_reporters, update_indices
from engine.receipts import DepositEvent, ReasonCode, Receipt, Status
from engine.run import BlockRun
from engine.schedule import Task, decode_bundle, rank_envelopes, take_turns
from engine.state import EngineState
from engine.trading.cancellation import amend_order, cancel_all_orders, cancel_order, expire_orders
from engine.waiting.dead_man import arm_dead_man, run_dead_men
from engine.waiting.triggers import Wakes
from engine.waiting.waitlist import expire_waiting, settle_pairs

# Enum members are looked up once: an attribute of an enum class costs as much as a whole check.
_REFUSED: Final = Status.REFUSED

_REPORTS: Final = 1
_BIDS: Final = 3
_CANCELS: Final = 4
_TRANSFERS: Final = 5
_PLACEMENTS: Final = 7
"""Post-only orders, what only waits, and takers: `engine.order_phases` tells them apart."""
_WITHDRAWALS: Final = 10

PHASES: Final[dict[type, int]] = {
    OracleReport: _REPORTS,
    VolatilityReport: _REPORTS,
    Bid: _BIDS,
    Cancel: _CANCELS,
    CancelAll: _CANCELS,
    Amend: _CANCELS,
    SetMarginMode: _CANCELS,
    ArmDeadMan: _CANCELS,
    Transfer: _TRANSFERS,
    PlaceOrder: _PLACEMENTS,
    MarketOrder: _PLACEMENTS,
    ConditionalOrder: _PLACEMENTS,
    TrailingStop: _PLACEMENTS,
    OneCancelsOther: _PLACEMENTS,
    TwapOrder: _PLACEMENTS,
    Withdraw: _WITHDRAWALS,
}
"""In which phase each kind of instruction runs, by the numbers of the package's docstring (the
first, where there are several); amends are placed again besides."""


class _Phases:
    """The instructions of a block, sorted by phase, and the places of their receipts."""

    __slots__ = (
        "bids",
        "cancels",
        "placements",
        "receipts",
        "reports",
        "transfers",
        "withdrawals",
    )

    def __init__(self) -> None:
        self.receipts: list[Receipt | None] = []
        self.reports: list[Task] = []
        self.bids: dict[bytes, list[Task]] = {}
        """By sender, in rank order."""
        self.cancels: list[Task] = []
        """Cancels, amends and dead men's switches, sender by sender."""
        self.placements: list[list[Task]] = []
        """Orders and amends of each sender, in the senders' rank order."""
        self.transfers: dict[bytes, list[Task]] = {}
        """By sender, in rank order, likewise."""
        self.withdrawals: dict[bytes, list[Task]] = {}


def apply_block(state: EngineState, block: BlockInput) -> BlockOutput:
    """Advance `state` by one block and return what happened.

    Deterministic: equal states and inputs give equal outputs, and so does any permutation of
    `block.envelopes`. Users' mistakes become receipts; the only exceptions are
    `InvariantViolation` and assertions, after which the state must not be used any more.
    """
    return run_block(state, block, True)


def run_block(state: EngineState, block: BlockInput, with_roots: bool) -> BlockOutput:
    """`apply_block`; without roots (left empty) only to measure what they cost.

    A state that has skipped a root can give none any more.
    """
    assert block.height == state.height + 1, "blocks come in order"
    assert block.time_ms >= state.time_ms, "block time never goes back"
    reporters = {reporter.key: reporter.power for reporter in block.reporters}
    assert len(reporters) == len(block.reporters), "reporters have distinct keys"
    state.height = block.height
    state.time_ms = block.time_ms
    enter_fee_epoch(state)
    run = BlockRun(state, block.time_ms)
    change_sessions(run, (*block.session_grants, *block.session_revocations))
    charges = Charges(state)
    phases = _collect(state, charges, block)

    if adopt_reporters(state, reporters):
        forget_reporters(state)
    _run_reports(run, phases)
    update_indices(state, block.time_ms)
    update_marks(state, block.time_ms)
    accrue_funding(run)
    run_options(run)
    expire_orders(run)
    expire_waiting(run)
    run_dead_men(run)
    _credit_deposits(run, block)
    settle_withdrawals(run, block.withdrawals_settled)
    run_liquidations(run, list(phases.bids.values()), phases.receipts)
    replacements = _run_cancels(run, phases)
    settle_pairs(run)
    _run_transfers(run, phases)
    wakes = Wakes(run)
    woken = wakes.by_index_and_time()
    post_only, takers = split_placements(phases.placements, replacements)
    orders = OrderPhases(run, block.seed, replacements, phases.receipts)
    orders.run_post_only(post_only)
    orders.run_takers(takers, woken)
    orders.run_rounds(wakes)
    settle_pairs(run)
    _run_withdrawals(run, phases)
    note_last_prices(state, run.fills)
    run.report_funding()

    charges.settle(phases.receipts)
    validate_changes(state)
    receipts = tuple(receipt for receipt in phases.receipts if receipt is not None)
    assert len(receipts) == len(phases.receipts), "every instruction has a receipt"
    stats = BlockStats(
        len(receipts),
        sum(1 for receipt in receipts if receipt.status is _REFUSED),
        len(run.fills),
    )
    fills = tuple(run.fills)
    events = tuple(run.events)
    state_root = receipts_root = b""
    if with_roots:
        assert not state.is_rootless, "this state has skipped a root"
        state_root = compute_state_root(state)
        receipts_root = compute_merkle_root(map(encode, chain(receipts, fills, events)))
    else:
        state.is_rootless = True
        for account in state.dirty_accounts:
            account.order_records.forget()
        state.forget_changes()
    return BlockOutput(block.height, state_root, receipts_root, receipts, fills, events, stats)


def _collect(state: EngineState, charges: Charges, block: BlockInput) -> _Phases:
    """Decode all bundles and sort their instructions by phase."""
    phases = _Phases()
    receipts = phases.receipts
    sender = b""
    placements: list[Task] = []
    for envelope in rank_envelopes(block.seed, block.envelopes):
        if envelope.sender != sender:
            sender = envelope.sender
            placements = []
            phases.placements.append(placements)
        envelope_id = envelope.envelope_id
        instructions = decode_bundle(envelope.body)
        if isinstance(instructions, ReasonCode):
            receipts.append(Receipt(envelope_id, 0, Status.REFUSED, instructions))
            continue
        session: Session | None = None
        if envelope.signer:
            session = find_session(state, sender, envelope.signer)
            if session is None:
                code = ReasonCode.BUNDLE_SESSION_UNKNOWN
                receipts.append(Receipt(envelope_id, 0, Status.REFUSED, code))
                continue
        for index, instruction in enumerate(instructions):
            number = 0
            if type(instruction) is OnBehalf:
                number = instruction.sub
                instruction = instruction.instruction
                if not is_sub_account_number(number):
                    code = ReasonCode.SUB_ACCOUNT_NUMBER_INVALID
                    receipts.append(Receipt(envelope_id, index, Status.REFUSED, code))
                    continue
            if session is not None:
                code = charges.admit(session, sender, number, instruction, len(receipts))
                if code is not ReasonCode.OK:
                    receipts.append(Receipt(envelope_id, index, Status.REFUSED, code))
                    continue
            task = Task(sender, envelope_id, index, instruction, len(receipts), number)
            receipts.append(None)
            phase = PHASES.get(type(instruction))
            if phase == _PLACEMENTS:
                placements.append(task)
            elif phase == _CANCELS:
                phases.cancels.append(task)
                if isinstance(instruction, Amend):
                    placements.append(task)
            elif phase == _REPORTS:
                phases.reports.append(task)
            elif phase == _BIDS:
                phases.bids.setdefault(sender, []).append(task)
            elif phase == _TRANSFERS:
                phases.transfers.setdefault(sender, []).append(task)
            else:
                assert phase == _WITHDRAWALS, "every kind of instruction has a phase"
                phases.withdrawals.setdefault(sender, []).append(task)
    return phases


def _run_reports(run: BlockRun, phases: _Phases) -> None:
    """System phase: every report of the block, before any index is computed."""
    for task in phases.reports:
        report = task.instruction
        if isinstance(report, VolatilityReport):
            code = accept_volatilities(run, task.sender, report)
        else:
            assert isinstance(report, OracleReport)
            code = accept_report(run, task.sender, report)
        phases.receipts[task.slot] = task.answer(code)


def _credit_deposits(run: BlockRun, block: BlockInput) -> None:
    """Deposit phase. What exceeds the bound on all deposits is reported and left to L1."""
    state = run.state
    for deposit in block.deposits:
        amount = deposit.amount_microquote
        credited = state.deposits_total + amount <= DEPOSITS_TOTAL_MAX_MICROQUOTE
        if credited:
            state.credit_deposit(deposit.account, amount)
        run.events.append(DepositEvent(deposit.account, amount, deposit.source_id, credited))


def _run_cancels(run: BlockRun, phases: _Phases) -> dict[int, PlaceOrder]:
    """Cancel phase. Returns the orders that amends still have to place, by receipt slot."""
    state = run.state
    replacements: dict[int, PlaceOrder] = {}
    for task in phases.cancels:
        instruction = task.instruction
        account = find_account(state, task.sender, task.sub)
        receipt: Receipt | PlaceOrder
        if account is None:
            receipt = task.answer(ReasonCode.ACCOUNT_UNKNOWN)
        elif isinstance(instruction, Cancel):
            receipt = cancel_order(run, account, instruction, task.envelope_id, task.index)
        elif isinstance(instruction, CancelAll):
            receipt = cancel_all_orders(run, account, instruction, task.envelope_id, task.index)
        elif isinstance(instruction, SetMarginMode):
            receipt = set_margin_mode(run, account, instruction, task.envelope_id, task.index)
        elif isinstance(instruction, ArmDeadMan):
            receipt = arm_dead_man(run, account, instruction, task.envelope_id, task.index)
        else:
            assert isinstance(instruction, Amend)
            receipt = amend_order(run, account, instruction, task.envelope_id, task.index)
        if isinstance(receipt, Receipt):
            phases.receipts[task.slot] = receipt
        else:
            replacements[task.slot] = receipt
    return replacements


def _run_transfers(run: BlockRun, phases: _Phases) -> None:
    """Transfer phase: one of each sender in turn."""
    for task in take_turns(list(phases.transfers.values())):
        order = task.instruction
        assert isinstance(order, Transfer)
        account = find_account(run.state, task.sender, task.sub)
        if account is None:
            phases.receipts[task.slot] = task.answer(ReasonCode.ACCOUNT_UNKNOWN)
        else:
            receipt = transfer(run, account, order, task.envelope_id, task.index)
            phases.receipts[task.slot] = receipt


def _run_withdrawals(run: BlockRun, phases: _Phases) -> None:
    """Withdrawal phase: one of each sender in turn, of what all trades have left them."""
    if not phases.withdrawals:
        return
    is_gated = is_withdrawal_gated(run.state)
    for task in take_turns(list(phases.withdrawals.values())):
        order = task.instruction
        assert isinstance(order, Withdraw)
        account = find_account(run.state, task.sender, task.sub)
        if account is None:
            phases.receipts[task.slot] = task.answer(ReasonCode.ACCOUNT_UNKNOWN)
        else:
            phases.receipts[task.slot] = request_withdrawal(
                run, account, order, is_gated, task.envelope_id, task.index
            )
