"""Proposes to some members only, so that the others must learn of the block from them."""

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send
from consensus.messages import Proposal
from localnet.byzantine.behaviour import Behaviour


class WithholdingLeader(Behaviour):
    """Proposes to just so many members that one of them is honest."""

    name: ClassVar[str] = "withholding_leader"

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        if not isinstance(send.message, Proposal):
            return (send,)
        return (replace(send, to=self.choose()),)

    def choose(self) -> tuple[int, ...]:
        """Who may know."""
        return self.tools.pick_power(self.tools.committee.honest_power)


class WithholdingLeaderFew(WithholdingLeader):
    """Proposes to so few members that all of them might be liars: too few for a QC."""

    name: ClassVar[str] = "withholding_leader_few"

    def choose(self) -> tuple[int, ...]:
        committee = self.tools.committee
        chosen = self.tools.pick_power(committee.honest_power)
        while chosen and committee.power_of(chosen) >= committee.honest_power:
            chosen = chosen[:-1]
        return chosen


class WithholdingLeaderOne(WithholdingLeader):
    """Proposes to one member only."""

    name: ClassVar[str] = "withholding_leader_one"

    def choose(self) -> tuple[int, ...]:
        return self.tools.pick_power(1)
