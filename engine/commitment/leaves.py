"""What a proven leaf says: the way back from the committed bytes of `engine.commitment.root`.

Whoever proved the leaf of an account, and knows the genesis, needs no node to read it.
"""

from typing import Final

from msgspec import Struct

from crypto.digest import DIGEST_SIZE_BYTES, ZERO_DIGEST
from engine.commitment.root import (
    DISTRESS_MARK,
    OWNER,
    OWNER_MARK,
    PORTFOLIO_MARK,
    POSITION,
    QUOTE,
    SESSIONS_MARK,
    VOLUME_MARK,
    WAITING_MARK,
)
from engine.errors import ProofError
from engine.genesis import EngineGenesis
from engine.instructions import MarginMode
from engine.limits import SERIES_ID_FIRST
from engine.receipts import LiquidationStage

_MARK_SIZE: Final = 4
_FUNDING_INDEX_SIZE: Final = 32
_COST_SIZE: Final = 16
_EPOCH_SIZE: Final = 16
_DISTRESS_SIZE: Final = 49


class LeafPosition(Struct, frozen=True):
    """One position; none is zero."""

    market: int
    size_lots: int
    """Negative for a short."""


class AccountLeaf(Struct, frozen=True):
    """An account as the state root commits to it."""

    quote_microquote: int
    """The balance, without funding that its positions have not settled yet."""
    positions: tuple[LeafPosition, ...]
    """By market id."""
    margin_mode: MarginMode
    has_open_orders: bool
    """Orders that rest in books; the leaf has their digest."""
    has_waiting: bool
    """Something that waits, or a dead man's switch; likewise."""
    has_sessions: bool
    """Session keys; likewise."""
    owner: bytes | None
    """Whose sub-account it is; None for a main account."""
    sub: int
    """Its number among the owner's; 0 for a main account."""
    liquidation: LiquidationStage | None
    """None: it is not under liquidation."""


class _Reader:
    """The rest of a leaf."""

    def __init__(self, value: bytes) -> None:
        self._value = value
        self._place = 0

    def take(self, size: int) -> bytes:
        """The next bytes. Raises `ProofError`."""
        part = self._value[self._place : self._place + size]
        if len(part) != size:
            raise ProofError("proof.malformed", "the leaf of an account ends early")
        self._place += size
        return part

    def take_mark(self, mark: bytes) -> bool:
        """Whether the part of this mark comes next; then it is passed."""
        found = self._value[self._place : self._place + _MARK_SIZE] == mark
        self._place += _MARK_SIZE * found
        return found

    def is_position_next(self) -> bool:
        """Whether what comes next is the id of a market: all are below the marks."""
        return not self.is_over() and self._value[self._place] < WAITING_MARK[0]

    def is_over(self) -> bool:
        return self._place == len(self._value)


def decode_account(value: bytes, genesis: EngineGenesis) -> AccountLeaf:
    """Read the value of an account's leaf. Raises `ProofError` if it is none of this chain's."""
    funded = {each.market: each.funding is not None for each in genesis.markets}
    reader = _Reader(value)
    (quote,) = QUOTE.unpack(reader.take(QUOTE.size))
    has_open_orders = reader.take(DIGEST_SIZE_BYTES) != ZERO_DIGEST
    positions = []
    while reader.is_position_next():
        market, lots = POSITION.unpack(reader.take(POSITION.size))
        if market not in funded and market < SERIES_ID_FIRST:
            raise ProofError("proof.malformed", f"the leaf has a position in no market: {market}")
        is_funded = funded.get(market, False)  # Options never are.
        reader.take(_FUNDING_INDEX_SIZE * is_funded)
        reader.take(_COST_SIZE * (genesis.liquidation is not None))
        positions.append(LeafPosition(market, lots))
    has_waiting = reader.take_mark(WAITING_MARK)
    reader.take(DIGEST_SIZE_BYTES * has_waiting)
    owner, sub = None, 0
    if reader.take_mark(OWNER_MARK):
        owner, sub = OWNER.unpack(reader.take(OWNER.size))
    has_sessions = reader.take_mark(SESSIONS_MARK)
    reader.take(DIGEST_SIZE_BYTES * has_sessions)
    has_volume = reader.take_mark(VOLUME_MARK)
    reader.take((_EPOCH_SIZE + DIGEST_SIZE_BYTES) * has_volume)
    mode = MarginMode.PORTFOLIO if reader.take_mark(PORTFOLIO_MARK) else MarginMode.CROSS
    stage = None
    if reader.take_mark(DISTRESS_MARK):
        number = reader.take(_DISTRESS_SIZE)[0]
        if number not in list(LiquidationStage):
            raise ProofError("proof.malformed", f"the leaf has no stage of a liquidation: {number}")
        stage = LiquidationStage(number)
    if not reader.is_over():
        raise ProofError("proof.malformed", "the leaf of an account goes on behind its end")
    return AccountLeaf(
        quote,
        tuple(positions),
        mode,
        has_open_orders,
        has_waiting,
        has_sessions,
        owner,
        sub,
        stage,
    )
