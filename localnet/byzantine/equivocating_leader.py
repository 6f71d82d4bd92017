"""Proposes two blocks in one view, both well signed, to different or to the same members."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send
from consensus.messages import Proposal
from consensus.types import Block, VoteData
from localnet.byzantine.behaviour import Behaviour


class EquivocatingLeader(Behaviour):
    """Proposes two blocks in a view, and divides the others among them in another way each time."""

    name: ClassVar[str] = "equivocating_leader"

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        if not isinstance(send.message, Proposal):
            return (send,)
        rival = self.tools.sign_proposal(self._make_rival(send.message.block), send.message.view)
        others = list(self.tools.split_own(send.to)[1])
        self.tools.random.shuffle(others)
        first, second = self.split(others)
        return (
            replace(send, to=tuple(sorted(first))),
            replace(send, to=tuple(sorted(second)), message=rival),
        )

    def split(self, others: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Who hears of which block."""
        return self.tools.random.choice((split_halves, split_one, split_both, split_overlapping))(
            others
        )

    def _make_rival(self, block: Block) -> Block:
        """Another block that every rule allows: a little later, or without what it could order."""
        if block.lanes and self.tools.random.random() < 0.5:
            return replace(block, lanes=())
        return replace(block, time_ms=block.time_ms + 1)


class EquivocatingLeaderHalves(EquivocatingLeader):
    """Proposes one block to half of the others and another one to the rest: nobody holds both."""

    name: ClassVar[str] = "equivocating_leader_halves"

    def split(self, others: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        return split_halves(others)


class EquivocatingLeaderOne(EquivocatingLeader):
    """Proposes one block to one member and another one, which a quorum then certifies, to the
    rest: nobody holds both."""

    name: ClassVar[str] = "equivocating_leader_one"

    def split(self, others: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        one, rest = split_one(others)
        return rest, one


class EquivocatingLeaderBoth(EquivocatingLeader):
    """Proposes two blocks in a view, both to everybody."""

    name: ClassVar[str] = "equivocating_leader_both"

    def split(self, others: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        return split_both(others)


class EquivocatingLeaderVoting(EquivocatingLeader):
    """Proposes two blocks in a view to overlapping halves, and votes for both."""

    name: ClassVar[str] = "equivocating_leader_voting"

    def split(self, others: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        return split_overlapping(others)

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        for each in super().send(now_ms, send):
            yield each
            if isinstance(each.message, Proposal):
                block, view = each.message.block, each.message.view
                block_id = block.block_id(self.tools.chain_id)
                vote = self.tools.sign_vote(VoteData(block.epoch, view, block.height, block_id))
                yield Send(self.tools.leaders.collectors(view), vote)


def split_halves(others: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Half and half."""
    half = len(others) // 2
    return others[:half], others[half:]


def split_one(others: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """One against the rest."""
    return others[:1], others[1:]


def split_both(others: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Everybody hears everything."""
    return others, others


def split_overlapping(others: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Two halves that share one member."""
    half = len(others) // 2
    return others[: half + 1], others[half:]
