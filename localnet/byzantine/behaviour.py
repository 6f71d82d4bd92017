"""What every lie is made of: a member's secrets, and a place between its node and the world."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import ClassVar, Final

from committee.committee import Committee
from committee.schedule import LeaderSchedule
from consensus.effects import Send, SetTimer
from consensus.messages import (
    Proposal,
    StateVote,
    Timeout,
    Vote,
    proposal_signing_bytes,
)
from consensus.types import (
    QC,
    TC,
    BatchHeader,
    Block,
    CheckpointHeader,
    SignedBatchHeader,
    TimeoutData,
    VoteData,
)
from crypto.scheme import IdentityScheme, SignatureScheme
from node.events import NodeEffect, NodeEvent

HOLD_TIMER: Final = "byzantine/hold"
"""Releases what a behaviour holds back."""


class Need(Enum):
    """What must come about for a lie to be told at all: random schedules see to it."""

    NOTHING = auto()
    FAILED_VIEWS = auto()
    """Views end without a block, and somebody has missed one."""
    MISSING_BATCHES = auto()
    """Somebody has to ask for batches."""
    MISSING_BLOCKS = auto()
    """Somebody has to ask for blocks, and somebody else for many of them."""
    LONG_ABSENCE = auto()
    """Somebody comes back far behind, and asks the liar first."""
    JOINING = auto()
    """Somebody begins with a snapshot of others, and hears the liar's offers first."""


@dataclass(frozen=True)
class Tools:
    """What a lying member has to work with."""

    member: int
    chain_id: bytes
    committee: Committee
    leaders: LeaderSchedule
    scheme: SignatureScheme
    identity_scheme: IdentityScheme
    secret: bytes
    identity_secret: bytes
    random: Random
    """Seeded, so that a simulated lie is repeated exactly."""

    @property
    def others(self) -> tuple[int, ...]:
        """All members but this one."""
        return tuple(index for index in range(len(self.committee)) if index != self.member)

    def split_own(self, to: Iterable[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Receivers apart: this member, if it is one of them, and the others."""
        mine = tuple(index for index in to if index == self.member)
        return mine, tuple(index for index in to if index != self.member)

    def pick_power(self, power: int) -> tuple[int, ...]:
        """Others, chosen anew each time, just enough of them to have this much power."""
        chosen: list[int] = []
        for index in self.random.sample(self.others, len(self.others)):
            if self.committee.power_of(chosen) >= power:
                break
            chosen.append(index)
        return tuple(sorted(chosen))

    def sign(self, message: bytes) -> bytes:
        """The member's consensus signature."""
        return self.scheme.sign(self.secret, message)

    def sign_proposal(self, block: Block, view: int) -> Proposal:
        """A proposal with a good signature, whatever the block says."""
        block_id = block.block_id(self.chain_id)
        message = proposal_signing_bytes(self.chain_id, block.epoch, view, block_id)
        return Proposal(block, view, self.member, self.sign(message))

    def sign_vote(self, data: VoteData) -> Vote:
        """A vote with a good signature."""
        return Vote(data, self.member, self.sign(data.signing_bytes(self.chain_id)))

    def sign_timeout(self, data: TimeoutData, high_qc: QC, last_tc: TC | None) -> Timeout:
        """A timeout with a good signature."""
        signature = self.sign(data.signing_bytes(self.chain_id))
        return Timeout(data, high_qc, last_tc, self.member, signature)

    def sign_state_vote(self, header: CheckpointHeader) -> StateVote:
        """A state vote with a good signature."""
        return StateVote(header, self.member, self.sign(header.signing_bytes(self.chain_id)))

    def sign_header(self, header: BatchHeader) -> SignedBatchHeader:
        """A batch header with a good signature."""
        message = SignedBatchHeader(header, bytes(64)).author_signing_bytes(self.chain_id)
        signature = self.identity_scheme.sign(self.identity_secret, message)
        return SignedBatchHeader(header, signature)


class Behaviour:
    """One lie. Override what it bends; what is not overridden is honest."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self._held: list[tuple[int, Send]] = []

    name: ClassVar[str]
    """How schedules and commands call it. A class of somebody's own that has none gets its own."""
    needs: ClassVar[Need] = Need.NOTHING

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        """What leaves instead of an honest message. Keep `after` on what should wait as the
        honest message would."""
        del now_ms
        return (send,)

    def bend(self, now_ms: int, effect: NodeEffect) -> Iterable[NodeEffect]:
        """What the host is asked for instead of an effect."""
        return self.send(now_ms, effect) if isinstance(effect, Send) else (effect,)

    def hear(self, now_ms: int, event: NodeEvent) -> NodeEvent | None:
        """What the honest node is told instead of an event; None for nothing."""
        del now_ms
        return event

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[NodeEffect]:
        """What to send besides, whenever a message was heard."""
        del now_ms, event
        return ()

    def hold(self, until_ms: int, send: Send) -> SetTimer:
        """Keep a message back until a time; the effect that this returns must be passed on."""
        self._held.append((until_ms, send))
        return SetTimer(HOLD_TIMER, min(time_ms for time_ms, _ in self._held))

    def release(self, now_ms: int) -> Iterable[NodeEffect]:
        """What was held back until now."""
        due = [send for time_ms, send in self._held if time_ms <= now_ms]
        self._held = [each for each in self._held if each[0] > now_ms]
        deadline_ms = min((time_ms for time_ms, _ in self._held), default=None)
        return (*due, SetTimer(HOLD_TIMER, deadline_ms))
