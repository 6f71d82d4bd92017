"""Liquidations, as snapshots hold them."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from crypto.types import Digest, Uint
from engine.errors import SnapshotError
from engine.limits import DEBT_MAX_MICROQUOTE
from engine.liquidation.distress import Distress
from engine.receipts import LiquidationStage
from engine.snapshots.checks import require_rising
from engine.state import EngineState


class SnapshotDistress(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The liquidation of one account."""

    account: Digest
    stage: LiquidationStage
    elapsed_ms: Uint
    paused_ms: Uint
    seen_ms: Uint
    due_ms: Uint
    cool_ms: Uint
    debt_microquote: Annotated[int, Meta(ge=0, le=DEBT_MAX_MICROQUOTE)]


def pack_cursor(state: EngineState) -> bytes:
    """The account that was looked at last; zero bytes where there is no liquidation."""
    return bytes(32) if state.liquidations is None else state.liquidations.cursor


def pack_distressed(state: EngineState) -> tuple[SnapshotDistress, ...]:
    """All liquidations, by account."""
    if state.liquidations is None:
        return ()
    return tuple(
        SnapshotDistress(
            account_id,
            record.stage,
            record.elapsed_ms,
            record.paused_ms,
            record.seen_ms,
            record.due_ms,
            record.cool_ms,
            record.debt,
        )
        for account_id, record in sorted(
            state.liquidations.records.items(), key=lambda entry: entry[0]
        )
    )


def unpack_liquidations(
    state: EngineState, cursor: bytes, distressed: Sequence[SnapshotDistress]
) -> None:
    """Go on with these liquidations. Raises `SnapshotError`."""
    require_rising([each.account for each in distressed], "liquidations")
    liquidations = state.liquidations
    if liquidations is None:
        if distressed or any(cursor):
            raise SnapshotError("a liquidation where its genesis has none")
        return
    liquidations.cursor = cursor
    for packed in distressed:
        account = state.accounts.get(packed.account)
        if account is None:
            raise SnapshotError("a liquidation of nobody")
        record = Distress(account, packed.stage, packed.seen_ms)
        record.elapsed_ms = packed.elapsed_ms
        record.paused_ms = packed.paused_ms
        record.due_ms = packed.due_ms
        record.cool_ms = packed.cool_ms
        record.debt = packed.debt_microquote
        liquidations.begin(record)
