"""What must never happen, checked by code that shares nothing with the cores but the types of what
they say and write, and the codec.

Each oracle watches a whole world. Indices in `byzantine` are exempt where only the honest promise.
"""

from typing import Any, ClassVar

from consensus.effects import (
    Alarm,
    Committed,
    EvidenceFound,
    Halt,
    Misbehaviour,
    Persist,
    Store,
)
from consensus.messages import Message, Proposal, Timeout, Vote
from consensus.safety import BLOCK_TABLE, TIMEOUT_TABLE, VOTE_TABLE
from consensus.types import Block, TimeoutData, VoteData
from crypto.codec import encode
from localnet.verdicts import Verdict


class Watcher:
    """An observer that ignores everything; oracles override what they look at."""

    effects: ClassVar[tuple[type, ...]] = ()
    """The kinds of effects that it wants to hear of; none named means all."""
    messages: ClassVar[tuple[type, ...]] = ()
    """The kinds of messages, likewise."""
    stores: ClassVar[tuple[Store, ...]] = ()
    """The stores of whose records it wants to hear once they are durable, likewise."""
    verdict: ClassVar[Verdict] = Verdict.SAFETY
    """On a run in which it raises."""

    def on_start(self, index: int) -> None:
        """A machine starts, for the first time or again."""

    def on_crash(self, index: int) -> None:
        """A machine is dead."""

    def on_effect(self, index: int, effect: Any) -> None:
        """A machine asked for an effect."""

    def on_durable(self, index: int, persist: Persist) -> None:
        """Records became durable."""

    def on_sent(self, index: int, message: Message) -> None:
        """A message left a machine."""

    def at_rest(self) -> None:
        """Everything has come to rest."""


class Agreement(Watcher):
    """One block a height, for ever; each node commits every height once in each of its lives,
    rising without gaps from where its archive ends."""

    effects = (Committed,)

    def __init__(self, byzantine: frozenset[int] = frozenset()) -> None:
        self._byzantine = byzantine
        self.chain: dict[int, bytes] = {}
        self.blocks: dict[int, Block] = {}
        self.heights: dict[int, int] = {}
        """Highest height committed by each machine in any of its lives."""
        self._life: dict[int, int | None] = {}
        self._archived: dict[int, int] = {}

    def on_start(self, index: int) -> None:
        self._life[index] = None

    def forget_archive(self, index: int) -> None:
        """A machine's archive was taken away: its next life starts from genesis."""
        self._archived.pop(index, None)

    def on_effect(self, index: int, effect: Any) -> None:
        if not isinstance(effect, Committed) or index in self._byzantine:
            return
        height = effect.block.height
        previous = self._life[index]
        expected = (self._archived.get(index, 0) if previous is None else previous) + 1
        assert height == expected, f"node {index} committed height {height} after {expected - 1}"
        self._life[index] = height
        held = self.chain.setdefault(height, effect.block_id)
        assert held == effect.block_id, (
            f"node {index} disagrees at height {height}: block {effect.block_id.hex()[:8]}, not"
            f" {held.hex()[:8]}"
        )
        self.blocks.setdefault(height, effect.block)
        assert effect.qc.block_id == effect.block_id, "a commit comes with the block's own QC"
        assert effect.block.parent_id == self.chain.get(height - 1, effect.block.parent_id)
        self.heights[index] = max(self.heights.get(index, 0), height)

    def on_durable(self, index: int, persist: Persist) -> None:
        if persist.store is Store.ARCHIVE:
            heights = [
                int.from_bytes(put.key, "big") for put in persist.puts if put.table == "block"
            ]
            self._archived[index] = max([self._archived.get(index, 0), *heights])


class SignedOnce(Watcher):
    """An honest member's votes, timeouts and proposals never contradict each other, across all
    its lives; and nothing leaves that its disk does not remember."""

    messages = (Vote, Timeout, Proposal)
    stores = (Store.SAFETY,)

    def __init__(self, byzantine: frozenset[int] = frozenset()) -> None:
        self._byzantine = byzantine
        self._sent: dict[tuple[str, int, int], Any] = {}
        self._timed_out: set[tuple[int, int]] = set()
        self._durable: set[tuple[int, str, bytes]] = set()
        """(machine, table, value) of every safety record that was ever durable."""

    def on_durable(self, index: int, persist: Persist) -> None:
        for put in persist.puts:
            view = int.from_bytes(put.key[:8], "big")
            self._durable.add((index, put.table, put.value))
            if put.table == TIMEOUT_TABLE:
                self._timed_out.add((index, view))
            if put.table == VOTE_TABLE and index not in self._byzantine:
                assert (index, view) not in self._timed_out, (
                    f"node {index} voted after timing out in view {view}"
                )

    def on_sent(self, index: int, message: Message) -> None:
        if index in self._byzantine:
            return
        match message:
            case Vote(data=data):
                self._check_durable(index, VOTE_TABLE, encode(data), data.view)
                self._check("vote", index, data.view, data)
                self._check_vote_and_timeout(index, data)
            case Timeout(data=data):
                self._check_durable(index, TIMEOUT_TABLE, encode(data), data.view)
                self._check("timeout", index, data.view, data)
                self._check_vote_and_timeout(index, data)
            case Proposal(view=view, block=block):
                self._check_durable(index, BLOCK_TABLE, encode(block), view)
                self._check("proposal", index, view, block)
            case _:
                pass

    def _check(self, kind: str, index: int, view: int, content: Any) -> None:
        held = self._sent.setdefault((kind, index, view), content)
        assert held == content, (
            f"node {index} signed two {kind}s in view {view}: {_describe(content)} after"
            f" {_describe(held)}"
        )

    def _check_durable(self, index: int, table: str, value: bytes, view: int) -> None:
        assert (index, table, value) in self._durable, (
            f"node {index}, {table} of view {view}: sent, not durable"
        )

    def _check_vote_and_timeout(self, index: int, data: VoteData | TimeoutData) -> None:
        """Whoever votes and then times out says so in the timeout; the reverse never happens."""
        vote = self._sent.get(("vote", index, data.view))
        timeout = self._sent.get(("timeout", index, data.view))
        if vote is not None and timeout is not None:
            assert timeout.tip_view == data.view, (
                f"node {index} voted after timing out in view {data.view}"
            )


def _describe(content: VoteData | TimeoutData | Block) -> str:
    """What was signed, in a few words."""
    match content:
        case VoteData(block_id=block_id):
            return f"block {block_id.hex()[:8]}"
        case TimeoutData(high_qc_view=high_qc_view, tip_view=tip_view):
            return f"high QC {high_qc_view} and tip {tip_view}"
        case Block(height=height, qc=qc):
            return f"height {height} on the QC of view {qc.view}"


class Blame(Watcher):
    """Only the byzantine are ever refused, convicted, or make anybody halt."""

    effects = (Misbehaviour, EvidenceFound, Halt, Alarm)

    def __init__(self, byzantine: frozenset[int] = frozenset()) -> None:
        self._byzantine = byzantine
        self.refusals: list[tuple[int, int, str]] = []
        """(who refused, whom, code)."""
        self.evidence: list[EvidenceFound] = []

    def on_effect(self, index: int, effect: Any) -> None:
        if index in self._byzantine:
            return
        match effect:
            case Misbehaviour(member, code, detail):
                self.refusals.append((index, member, code))
                assert member in self._byzantine, f"{index} blames {member}: {code} {detail}"
            case EvidenceFound(offender, _):
                self.evidence.append(effect)
                assert offender in self._byzantine, f"{index} convicts the honest {offender}"
            case Halt(code, detail):
                raise AssertionError(f"{index} halts: {code} {detail}")
            case Alarm(code, detail):
                raise AssertionError(f"{index} raises an alarm: {code} {detail}")
            case _:
                pass
