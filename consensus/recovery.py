"""What a node knows when it starts: its safety record, the committed tip, the blocks in between."""

from collections.abc import Mapping
from typing import NamedTuple

from committee.committee import Committee
from consensus.block_tree import CommittedTip
from consensus.safety import (
    BLOCK_TABLE,
    STATE_KEY,
    STATE_TABLE,
    SafetyState,
    apply_qc,
    make_initial_state,
)
from consensus.types import GENESIS_HEIGHT, GENESIS_VIEW, Block, make_genesis_qc
from crypto.codec import DecodeError, decode


class RecoveryError(Exception):
    """The durable records do not fit together: this member must not sign (exit code 71)."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class Recovered(NamedTuple):
    """The start of a core's life, first or later."""

    safety: SafetyState
    tip: CommittedTip
    blocks: tuple[Block, ...]
    """Blocks from the safety store by rising height, committed ones included."""
    is_first_start: bool
    """There was no safety record: one is written before anything else."""


def make_genesis_tip(chain_id: bytes, committee: Committee, genesis_time_ms: int) -> CommittedTip:
    """The root of a chain that has no block yet."""
    qc = make_genesis_qc(chain_id, committee)
    return CommittedTip(
        qc.block_id, GENESIS_HEIGHT, GENESIS_VIEW, genesis_time_ms, (), GENESIS_HEIGHT, 0, qc
    )


def recover_observer(
    chain_id: bytes, committee: Committee, genesis_time_ms: int, archived_tip: bytes | None
) -> Recovered:
    """Where a node begins that signs nothing: at its archive's tip, without a safety record.

    Raises `RecoveryError` if the tip is damaged.
    """
    try:
        tip = make_genesis_tip(chain_id, committee, genesis_time_ms)
        if archived_tip is not None:
            tip = decode(CommittedTip, archived_tip)
    except DecodeError as error:
        raise RecoveryError("recovery.damaged", str(error)) from error
    state = make_initial_state(committee.epoch, make_genesis_qc(chain_id, committee))
    return Recovered(apply_qc(state, tip.qc), tip, (), is_first_start=False)


def recover(
    chain_id: bytes,
    committee: Committee,
    genesis_time_ms: int,
    safety_records: Mapping[str, Mapping[bytes, bytes]],
    archived_tip: bytes | None,
) -> Recovered:
    """Read the tables of the safety store and the archive's tip record.

    Raises `RecoveryError` if records are damaged or belong to another epoch, or if there is an
    archive but no safety record: who does not remember its votes must not cast new ones.
    """
    state_bytes = safety_records.get(STATE_TABLE, {}).get(STATE_KEY)
    genesis = make_genesis_qc(chain_id, committee)
    try:
        tip = make_genesis_tip(chain_id, committee, genesis_time_ms)
        if archived_tip is not None:
            tip = decode(CommittedTip, archived_tip)
        state = (
            make_initial_state(committee.epoch, genesis)
            if state_bytes is None
            else decode(SafetyState, state_bytes)
        )
        table = safety_records.get(BLOCK_TABLE, {})
        blocks = tuple(decode(Block, table[key]) for key in sorted(table))
    except DecodeError as error:
        raise RecoveryError("recovery.damaged", str(error)) from error
    if state.epoch != committee.epoch:
        raise RecoveryError("recovery.epoch", f"the safety record is of epoch {state.epoch}")
    if state_bytes is None and archived_tip is not None:
        raise RecoveryError("recovery.amnesia", "an archive without a safety record")
    return Recovered(apply_qc(state, tip.qc), tip, blocks, state_bytes is None)
