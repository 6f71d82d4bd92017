"""An honest node behind a behaviour."""

from collections.abc import Sequence
from random import Random

from committee.schedule import LeaderSchedule
from consensus.effects import Received, TimerFired
from crypto.scheme import IdentityScheme, SignatureScheme
from localnet.byzantine.behaviour import HOLD_TIMER, Behaviour, Tools
from localnet.byzantine.guard import create, guard
from node.core import CoreFactory, NodeCore
from node.core_config import NodeCoreConfig
from node.events import NodeEffect, NodeEvent
from node.genesis import Genesis
from node.recovery import RecoveredNode


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
        self.behaviour = behaviour
        self.lies = 0
        """How often something other was heard, asked for or sent than an honest node would have."""
        self._lie = guard(behaviour)

    def start(self, now_ms: int) -> list[NodeEffect]:
        """Begin, bending what leaves."""
        return self._bend(now_ms, super().start(now_ms))

    def step(self, now_ms: int, event: NodeEvent) -> list[NodeEffect]:
        """Take one event, bending what is heard and what leaves."""
        if isinstance(event, TimerFired) and event.name == HOLD_TIMER:
            return list(self._lie.release(now_ms))
        heard = self._lie.hear(now_ms, event)
        self.lies += heard is not event
        effects = [] if heard is None else self._bend(now_ms, super().step(now_ms, heard))
        if isinstance(event, Received):
            volunteered = tuple(self._lie.volunteer(now_ms, event))
            self.lies += len(volunteered)
            effects.extend(volunteered)
        return effects

    def _bend(self, now_ms: int, effects: Sequence[NodeEffect]) -> list[NodeEffect]:
        bent: list[NodeEffect] = []
        for effect in effects:
            instead = tuple(self._lie.bend(now_ms, effect))
            self.lies += len(instead) != 1 or instead[0] is not effect
            bent.extend(instead)
        return bent


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
        return LyingNode(config, genesis, me, recovered, create(behaviour, tools))

    return make
