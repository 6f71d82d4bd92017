"""The dead man's switch: who does not say in time that they are there loses their open orders.

The deadline is looked at in the system phase, so an instruction in the very block whose time
reaches it comes too late. What is cancelled is told order by order; then the switch is off.
"""

from engine.accounts.account import Account
from engine.instructions import ArmDeadMan
from engine.limits import DEAD_MAN_TIMEOUT_MAX_MS, TIME_MAX_MS
from engine.receipts import DeadManEvent, ReasonCode, Receipt, Status
from engine.run import BlockRun
from engine.state import EngineState
from engine.waiting.waitlist import cancel_everything


def arm_dead_man(
    run: BlockRun, account: Account, arm: ArmDeadMan, envelope_id: bytes, index: int
) -> Receipt:
    """Set, move or take away the sender's deadline."""
    timeout_ms = arm.timeout_ms
    if not 0 <= timeout_ms <= DEAD_MAN_TIMEOUT_MAX_MS:
        code = ReasonCode.DEAD_MAN_TIMEOUT_INVALID
        return Receipt(envelope_id, index, Status.REFUSED, code)
    deadline_ms = min(run.time_ms + timeout_ms, TIME_MAX_MS) if timeout_ms else 0
    set_deadline(run.state, account, deadline_ms)
    return Receipt(envelope_id, index, Status.ACCEPTED, ReasonCode.OK)


def set_deadline(state: EngineState, account: Account, deadline_ms: int) -> None:
    """Make this the account's deadline; 0 means none."""
    if account.deadline_ms:
        state.deadlines.remove(account.deadline_ms, account.account_id)
    account.deadline_ms = deadline_ms
    if deadline_ms:
        state.deadlines.add(deadline_ms, account.account_id)
    state.mark_dirty(account)


def run_dead_men(run: BlockRun) -> None:
    """Cancel everything of every account whose deadline the block's time has reached."""
    state = run.state
    for account_id in state.deadlines.due(run.time_ms):
        account = state.accounts[account_id]
        deadline_ms = account.deadline_ms
        set_deadline(state, account, 0)
        count = cancel_everything(run, account, ReasonCode.ORDER_DEAD_MAN, None)
        run.events.append(DeadManEvent(account_id, deadline_ms, count))
