"""What a restart owes the past: to go on where the disk says, and to say again what may not have
left.

Read from the disk at the moment of the start, by code of its own.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from consensus.block_tree import CommittedTip
from consensus.effects import Persist, Store
from consensus.messages import Message, Proposal, Timeout, Vote
from consensus.safety import SafetyState
from consensus.types import Block
from crypto.codec import decode_lenient
from localnet.sim.node_world import NodeWorld
from localnet.sim.oracles.watchers import Watcher

Said = tuple[type, int]
"""The kind of a message and its view."""


class Restarts(Watcher):
    """Nobody starts with a chain and without the memory of its signatures; commits go on where the
    archive ends, with nothing dropped that is not in it; and what was signed last for a view that
    has not ended is said again."""

    effects = (Persist,)
    messages = (Vote, Timeout, Proposal)

    def __init__(self, world: NodeWorld, exempt: Iterable[int] = ()) -> None:
        """`exempt` hosts need only remember."""
        self._world = world
        self.exempt = frozenset(exempt)
        self._archived: dict[int, int] = {}
        """The newest height of each host's archive, as far as was asked for."""
        self._remembering: set[int] = set()
        """Hosts that have, or asked for, a safety record in this life."""
        self._due: dict[int, set[Said]] = {}
        """What each host has still to say again in this life."""

    def on_start(self, index: int) -> None:
        stores = self._world.disk(index).stores
        safety, archive = stores[Store.SAFETY], stores[Store.ARCHIVE]
        record = safety.get("safety", {}).get(b"state")
        tip_record = archive.get("tip", {}).get(b"tip")
        may_sign = not self._world.disk(index).is_following
        assert record is not None or tip_record is None or not may_sign, (
            f"host {index} starts with a chain and without its safety record"
        )
        heights = [int.from_bytes(key, "big") for key in archive.get("block", {})]
        self._archived[index] = max(heights, default=0)
        self._due[index] = set()
        self._remembering.discard(index)
        if record is not None:
            self._remembering.add(index)
        if record is not None and index not in self.exempt:
            tip = None if tip_record is None else decode_lenient(CommittedTip, tip_record)
            self._due[index] = find_due(decode_lenient(SafetyState, record), tip, safety)

    def on_crash(self, index: int) -> None:
        self._due.pop(index, None)

    def on_effect(self, index: int, effect: Any) -> None:
        if not isinstance(effect, Persist):
            return
        if effect.store is Store.ARCHIVE:
            heights = [
                int.from_bytes(put.key, "big") for put in effect.puts if put.table == "block"
            ]
            if heights:
                may_sign = not self._world.disk(index).is_following
                assert index in self._remembering or not may_sign, (
                    f"node {index} commits without its safety record"
                )
                end = self._archived[index]
                assert heights[0] == end + 1, f"node {index} commits {heights[0]} after {end}"
                self._archived[index] = heights[-1]
        elif any(put.table == "safety" for put in effect.puts):
            self._remembering.add(index)
        for delete in effect.deletes:
            if delete.table == "pending_block":
                below = int.from_bytes(delete.below[:8], "big")
                assert below <= self._archived[index] + 1, (
                    f"node {index} drops blocks below {below}, archived {self._archived[index]}"
                )

    def on_sent(self, index: int, message: Message) -> None:
        due = self._due.get(index)
        if not due:
            return
        match message:
            case Vote(data=data) | Timeout(data=data):
                due.discard((type(message), data.view))
            case Proposal(view=view):
                due.discard((Proposal, view))
            case _:
                pass

    def at_rest(self) -> None:
        """By now everybody who runs has spoken."""
        for index, due in sorted(self._due.items()):
            missing = sorted(f"{kind.__name__} of view {view}" for kind, view in due)
            assert not missing, f"node {index} was started again and never repeats {missing}"


def find_due(
    state: SafetyState, tip: CommittedTip | None, safety: Mapping[str, Mapping[bytes, bytes]]
) -> set[Said]:
    """What was signed last, of the view in which the node goes on, and votes of the one before."""
    views = [state.high_qc.data.view]
    if state.high_tc is not None:
        views.append(state.high_tc.view)
    if tip is not None:
        views.append(tip.qc.data.view)
    blocks = (decode_lenient(Block, value) for value in safety.get("pending_block", {}).values())
    views += [block.qc.data.view for block in blocks]
    view = max(views) + 1
    due: set[Said] = set()
    if state.last_vote is not None and state.last_vote.view >= view - 1:
        due.add((Vote, state.last_vote.view))
    if state.last_timeout is not None and state.last_timeout.data.view == view:
        due.add((Timeout, view))
    if state.last_proposed_view == view:
        due.add((Proposal, view))
    return due
