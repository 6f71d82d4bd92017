"""All stateful safety: what a member has signed, and what it may therefore still sign.

For maintainers:

- This is the only file that decides whether a vote, a timeout or a proposal may be signed. Each
  decision is a pair: `is_safe_to_X` answers, `apply_X` (which asserts the answer) returns the
  state after it.
- The state is a value. Nothing here performs effects: the core persists the records of a decision
  and lets the message leave only after them (rule P1).
- The current view is not stored. It follows from the certificates: one above the newest (V2).

Rules (sources: Jolteon, arXiv 2106.10362, figure 2; Aptos `safety_rules_2chain`; MonadBFT for
tips):

- V1 vote only in the current view, in the epoch of the state, and above the last voted view;
- V2 the current view is one above the newest QC or TC;
- V3 a block's QC is of the view directly before, or its TC is, and then its QC is at least as new
  as the newest that the TC's signers reported;
- T1 a timeout names a QC at least as new as the parent QC of every block voted for (the lock);
- T2 after a timeout there is no vote in that view; a timed-out view has exactly one timeout;
- L1 at most one proposal a view.
"""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from consensus.effects import Delete, Put, compute_key
from consensus.types import QC, TC, Block, TimeoutData, VoteData
from crypto.codec import encode
from crypto.digest import ZERO_DIGEST
from crypto.types import Digest, Uint

STATE_TABLE: Final = "safety"
STATE_KEY: Final = b"state"
VOTE_TABLE: Final = "vote"
TIMEOUT_TABLE: Final = "timeout"
PROPOSAL_TABLE: Final = "proposal"
BLOCK_TABLE: Final = "pending_block"

WRITE_ONCE_TABLES: Final = frozenset({VOTE_TABLE, TIMEOUT_TABLE, PROPOSAL_TABLE})
"""Tables of the safety store in which no key can ever get a second value (rule P2)."""


class TimeoutRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Everything in a timeout message but its signature, so that the very same bytes can be
    broadcast again after a restart."""

    data: TimeoutData
    high_qc: QC
    last_tc: TC | None


class SafetyState(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What must survive a crash."""

    epoch: Uint
    last_voted_view: Uint
    """No vote at or below this view any more; timeouts raise it too (T2)."""
    last_vote: VoteData | None
    one_chain_view: Uint
    """The highest QC view inside any block voted for: the lock of two-chain HotStuff."""
    high_qc: QC
    high_tc: TC | None
    last_timeout: TimeoutRecord | None
    last_proposed_view: Uint
    last_proposed_id: Digest


def make_initial_state(epoch: int, genesis: QC) -> SafetyState:
    """The state of a member that has signed nothing."""
    return SafetyState(epoch, 0, None, 0, genesis, None, None, 0, ZERO_DIGEST)


def compute_view(state: SafetyState) -> int:
    """The current view (V2)."""
    return max(state.high_qc.view, state.high_tc.view if state.high_tc else 0) + 1


def compute_tip_view(state: SafetyState) -> int:
    """View of the newest block voted for above the high QC, 0 for none (MonadBFT's tip)."""
    vote = state.last_vote
    return vote.view if vote is not None and vote.view > state.high_qc.view else 0


def compute_entry_tc(state: SafetyState) -> TC | None:
    """The TC that admits to the current view, or None when the high QC does."""
    return None if state.high_qc.view + 1 == compute_view(state) else state.high_tc


# ---- certificates ----------------------------------------------------------------------------


def apply_qc(state: SafetyState, qc: QC) -> SafetyState:
    """Remember the newest verified QC."""
    return replace(state, high_qc=qc) if qc.view > state.high_qc.view else state


def apply_tc(state: SafetyState, tc: TC) -> SafetyState:
    """Remember the newest verified TC."""
    if state.high_tc is not None and tc.view <= state.high_tc.view:
        return state
    return replace(state, high_tc=tc)


# ---- votes -----------------------------------------------------------------------------------


def is_safe_to_vote(state: SafetyState, block: Block, view: int) -> bool:
    """May a vote for `block` in `view` be signed? (V1, V3)"""
    return (
        block.epoch == state.epoch
        and view == compute_view(state)
        and view > state.last_voted_view
        and is_justified(block, view)
    )


def is_justified(block: Block, view: int) -> bool:
    """Do the block's own certificates allow it in this view? (V3)"""
    if block.qc.view + 1 == view:
        return True
    tc = block.tc
    return tc is not None and tc.view + 1 == view and block.qc.view >= tc.high_qc.view


def apply_vote(state: SafetyState, block: Block, vote: VoteData) -> SafetyState:
    """The state once the vote is signed."""
    assert is_safe_to_vote(state, block, vote.view), "a vote follows its safety check"
    return replace(
        apply_qc(state, block.qc),
        last_voted_view=vote.view,
        last_vote=vote,
        one_chain_view=max(state.one_chain_view, block.qc.view),
    )


# ---- timeouts --------------------------------------------------------------------------------


def is_safe_to_time_out(state: SafetyState) -> bool:
    """May a first timeout of the current view be signed? (T1, T2)"""
    return not is_timed_out(state) and state.high_qc.view >= state.one_chain_view


def is_timed_out(state: SafetyState) -> bool:
    """Has the current view been given up already?"""
    timeout = state.last_timeout
    return timeout is not None and timeout.data.view >= compute_view(state)


def compute_timeout(state: SafetyState) -> TimeoutRecord:
    """The one timeout that this state can give for the current view."""
    data = TimeoutData(
        epoch=state.epoch,
        view=compute_view(state),
        high_qc_view=state.high_qc.view,
        tip_view=compute_tip_view(state),
    )
    return TimeoutRecord(data, state.high_qc, compute_entry_tc(state))


def apply_timeout(state: SafetyState, timeout: TimeoutRecord) -> SafetyState:
    """The state once the timeout is signed: no more votes in its view (T2)."""
    assert is_safe_to_time_out(state), "a timeout follows its safety check"
    return replace(
        state,
        last_voted_view=max(state.last_voted_view, timeout.data.view),
        last_timeout=timeout,
    )


# ---- proposals -------------------------------------------------------------------------------


def is_safe_to_propose(state: SafetyState, view: int) -> bool:
    """May a block be proposed in `view`? (L1) Not after giving the view up: nobody who timed out
    with us could vote for it."""
    return (
        view == compute_view(state)
        and view > state.last_proposed_view
        and view > state.last_voted_view
    )


def apply_proposal(state: SafetyState, view: int, block_id: bytes) -> SafetyState:
    """The state once the proposal is signed."""
    assert is_safe_to_propose(state, view), "a proposal follows its safety check"
    return replace(state, last_proposed_view=view, last_proposed_id=block_id)


# ---- records ---------------------------------------------------------------------------------


def compute_block_key(height: int, block_id: bytes) -> bytes:
    """The key of a block in `BLOCK_TABLE`: by height, so that it can be pruned by range."""
    return compute_key(height) + block_id


def make_state_put(state: SafetyState) -> Put:
    """The one record that is overwritten by each decision."""
    return Put(STATE_TABLE, STATE_KEY, encode(state))


def make_block_put(block: Block, block_id: bytes) -> Put:
    """The block itself: of any certified block, members of honest power hold a durable copy."""
    return Put(BLOCK_TABLE, compute_block_key(block.height, block_id), encode(block))


def make_vote_puts(state: SafetyState, block: Block, vote: VoteData) -> tuple[Put, ...]:
    """What is durable before a vote leaves (P1)."""
    return (
        make_state_put(state),
        Put(VOTE_TABLE, compute_key(vote.view), encode(vote)),
        make_block_put(block, vote.block_id),
    )


def make_timeout_puts(state: SafetyState, timeout: TimeoutRecord) -> tuple[Put, ...]:
    """What is durable before a timeout leaves (P1)."""
    key = compute_key(timeout.data.view)
    return (make_state_put(state), Put(TIMEOUT_TABLE, key, encode(timeout.data)))


def make_proposal_puts(
    state: SafetyState, view: int, block: Block, block_id: bytes
) -> tuple[Put, ...]:
    """What is durable before a proposal leaves (P1)."""
    return (
        make_state_put(state),
        Put(PROPOSAL_TABLE, compute_key(view), block_id),
        make_block_put(block, block_id),
    )


def make_prune_deletes(below_height: int, below_view: int) -> tuple[Delete, ...]:
    """Drop what no restart can need: blocks long committed and archived, and the write-once
    records of views below theirs (`last_voted_view` keeps guarding those views)."""
    return (
        Delete(BLOCK_TABLE, compute_key(below_height)),
        *(Delete(table, compute_key(below_view)) for table in sorted(WRITE_ONCE_TABLES)),
    )
