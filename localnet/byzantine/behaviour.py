"""What every lie is made of: an honest node, its secrets, and a place between it and the world."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from committee.committee import Committee
from committee.schedule import LeaderSchedule
from consensus.effects import Received, Send
from consensus.messages import Proposal, Timeout, Vote, proposal_signing_bytes
from consensus.types import Block, TimeoutData, VoteData
from crypto.scheme import IdentityScheme, SignatureScheme
from node.core import NodeCore, NodeCoreConfig
from node.events import NodeEffect, NodeEvent
from node.genesis import Genesis
from node.recovery import RecoveredNode


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

    def sign_proposal(self, block: Block, view: int) -> Proposal:
        """A proposal with a good signature, whatever the block says."""
        block_id = block.block_id(self.chain_id)
        message = proposal_signing_bytes(self.chain_id, block.epoch, view, block_id)
        return Proposal(block, view, self.member, self.scheme.sign(self.secret, message))

    def sign_vote(self, data: VoteData) -> Vote:
        """A vote with a good signature."""
        signature = self.scheme.sign(self.secret, data.signing_bytes(self.chain_id))
        return Vote(data, self.member, signature)

    def sign_timeout(self, timeout: Timeout, data: TimeoutData) -> Timeout:
        """A timeout that says something else, with a good signature."""
        signature = self.scheme.sign(self.secret, data.signing_bytes(self.chain_id))
        return Timeout(data, timeout.high_qc, timeout.last_tc, self.member, signature)


class Behaviour:
    """One lie. Override what it bends; what is not overridden is honest."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools

    name: ClassVar[str]
    """How schedules and commands call it."""

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

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[Send]:
        """What to send besides, whenever something happened."""
        del now_ms, event
        return ()


class LyingNode(NodeCore):
    """A node core behind a behaviour; hosts cannot tell it from an honest one."""

    def __init__(
        self,
        config: NodeCoreConfig,
        genesis: Genesis,
        me: int,
        recovered: RecoveredNode,
        behaviour: Behaviour,
    ) -> None:
        super().__init__(config, genesis, me, recovered)
        self._behaviour = behaviour

    def start(self, now_ms: int) -> list[NodeEffect]:
        """Begin, bending what leaves."""
        return self._bend(now_ms, super().start(now_ms))

    def step(self, now_ms: int, event: NodeEvent) -> list[NodeEffect]:
        """Take one event, bending what is heard and what leaves."""
        heard = self._behaviour.hear(now_ms, event)
        effects = [] if heard is None else self._bend(now_ms, super().step(now_ms, heard))
        if isinstance(event, Received):
            effects.extend(self._behaviour.volunteer(now_ms, event))
        return effects

    def _bend(self, now_ms: int, effects: Sequence[NodeEffect]) -> list[NodeEffect]:
        bent: list[NodeEffect] = []
        for effect in effects:
            bent.extend(self._behaviour.bend(now_ms, effect))
        return bent


CoreFactory = Callable[[NodeCoreConfig, Genesis, int, RecoveredNode], NodeCore]
"""Builds a node core; `NodeCore` itself is the honest one."""


def make_liar(
    behaviour: type[Behaviour],
    *,
    scheme: SignatureScheme,
    identity_scheme: IdentityScheme,
    secret: bytes,
    identity_secret: bytes,
    seed: int,
) -> CoreFactory:
    """A factory of nodes that lie as `behaviour` does."""

    def make(
        config: NodeCoreConfig, genesis: Genesis, me: int, recovered: RecoveredNode
    ) -> LyingNode:
        committee = genesis.committee()
        tools = Tools(
            member=me,
            chain_id=genesis.chain_id(),
            committee=committee,
            leaders=LeaderSchedule(committee, config.consensus.leader_seed),
            scheme=scheme,
            identity_scheme=identity_scheme,
            secret=secret,
            identity_secret=identity_secret,
            random=Random(seed * 1_000 + me),
        )
        return LyingNode(config, genesis, me, recovered, behaviour(tools))

    return make


def map_messages(
    sends: Iterable[Send], kind: type[Any], change: Callable[[Any], Any]
) -> Iterable[Send]:
    """Change every message of one kind, leaving receivers and conditions as they are."""
    for send in sends:
        if isinstance(send.message, kind):
            yield Send(send.to, change(send.message), send.after)
        else:
            yield send
