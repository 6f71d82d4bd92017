"""Who goes when: from envelopes to instructions in an order that no proposer can choose.

Senders are ranked by `H(seed | sender)`, with the block's seed drawn after its contents were
fixed; a sender's envelopes follow its nonces (ties: envelope id). That ranking is a function of
contents and seed alone, so every permutation of the same envelopes gives the same block.

Cancels run sender by sender: they touch only the sender's own orders, so their order between
senders cannot matter. Post-only orders, takers, transfers, withdrawals and bids run in turns, one
instruction of each sender in rank order and then round again, so a long bundle cannot take the
whole book before anybody else has had a turn. Sub-accounts wait in their owner's
queue. (More accounts still mean more turns; each must carry its own margin.)
"""

from collections.abc import Sequence
from hashlib import sha256
from operator import itemgetter
from typing import Final, TypeVar

from crypto.codec import DecodeError, decode
from crypto.digest import Domain, digest
from engine.block import EngineEnvelope
from engine.instructions import Bundle, Instruction
from engine.limits import INSTRUCTIONS_PER_BUNDLE_MAX
from engine.receipts import ReasonCode, Receipt, Status
from engine.waiting.orders import Waiting

_RANK: Final = itemgetter(0, 1, 2)

T = TypeVar("T")


class Task:
    """One instruction waiting for its phase."""

    __slots__ = ("envelope_id", "index", "instruction", "sender", "slot", "sub")

    def __init__(
        self,
        sender: bytes,
        envelope_id: bytes,
        index: int,
        instruction: Instruction,
        slot: int,
        sub: int,
    ) -> None:
        self.sender = sender
        self.envelope_id = envelope_id
        self.index = index
        self.instruction = instruction
        self.slot = slot
        """Where its receipt goes."""
        self.sub = sub
        """For which of the sender's sub-accounts; 0 for the sender itself."""

    def answer(self, code: ReasonCode) -> Receipt:
        """The receipt of what is accepted or refused, and leaves no order."""
        status = Status.ACCEPTED if code is ReasonCode.OK else Status.REFUSED
        return Receipt(self.envelope_id, self.index, status, code)


def compute_rank_key(seed: bytes) -> bytes:
    """What a sender's rank is hashed with: `sha256(key | sender)`."""
    return digest(Domain.SEED, seed)


def rank_envelopes(seed: bytes, envelopes: tuple[EngineEnvelope, ...]) -> list[EngineEnvelope]:
    """The envelopes by rank of the sender, then nonce, then id."""
    key = compute_rank_key(seed)
    ranked = [
        (sha256(key + envelope.sender).digest(), envelope.nonce, envelope.envelope_id, envelope)
        for envelope in envelopes
    ]
    ranked.sort(key=_RANK)
    return [entry[3] for entry in ranked]


def decode_bundle(body: bytes) -> tuple[Instruction, ...] | ReasonCode:
    """The instructions of a hostile body, or why it is refused as a whole."""
    try:
        instructions = decode(Bundle, body).instructions
    except DecodeError:
        return ReasonCode.BUNDLE_MALFORMED
    if not instructions:
        return ReasonCode.BUNDLE_EMPTY
    if len(instructions) > INSTRUCTIONS_PER_BUNDLE_MAX:
        return ReasonCode.BUNDLE_TOO_MANY_INSTRUCTIONS
    return instructions


def add_woken(
    seed: bytes, woken: list[Waiting], queues: list[list[Task]]
) -> list[list[Task | Waiting]]:
    """The senders' queues with what has woken of each before its other tasks, in rank order."""
    key = compute_rank_key(seed)
    merged: dict[bytes, list[Task | Waiting]] = {}
    for order in woken:
        merged.setdefault(order.account.owner.account_id, []).append(order)
    for queue in queues:
        merged.setdefault(queue[0].sender, []).extend(queue)
    ranked = sorted((sha256(key + sender).digest(), sender) for sender in merged)
    return [merged[sender] for _, sender in ranked]


def take_turns(queues: Sequence[Sequence[T]]) -> list[T]:
    """One entry of each queue in turn, then round again, until all are empty."""
    entries: list[T] = []
    turn = 0
    while queues:
        entries += [queue[turn] for queue in queues]
        turn += 1
        queues = [queue for queue in queues if len(queue) > turn]
    return entries
