"""What an honest member may sign, and when a block is final: the rules written down a second time.

`SigningRules` reads what becomes durable, which precedes everything that leaves, and holds it
against the member's own history in all its lives. `LaneRules` does the same for acknowledgements,
which rest on the batches on disk. `Finality` reads the votes on the wire and what
nodes commit. None of them knows how the product comes to its decisions.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from consensus.effects import Persist, Store
from consensus.messages import Ack, Message, Proposal, StateVote, Vote
from consensus.safety import SafetyState
from consensus.types import QC, Block, TimeoutData, VoteData
from crypto.codec import encode
from localnet.sim.network import World
from localnet.sim.node_world import NodeWorld
from localnet.sim.oracles.certificates import Judge, hash_parts
from localnet.sim.oracles.watchers import Watcher
from node.events import BlockNotice


class _History:
    """What one member has signed, all its lives taken together."""

    def __init__(self) -> None:
        self.voted_view = 0
        self.timed_out_view = 0
        self.proposed_view = 0
        self.lock_view = 0
        """The newest QC inside any block voted for."""
        self.remembered: tuple[int, ...] = (0,) * 5
        """What the newest record says; none of it ever falls."""


class SigningRules(Watcher):
    """Votes, timeouts and proposals only rise; votes are for justified blocks of the current view
    and in time; timeouts name no older QC than the lock."""

    effects = (Persist,)
    messages = (Proposal, StateVote)
    stores = (Store.SAFETY,)

    def __init__(
        self,
        world: World,
        judge: Judge,
        chain_id: bytes,
        clock_drift_ms: int,
        block_age_max_ms: int,
        exempt: Iterable[int] = (),
    ) -> None:
        self._world = world
        self._judge = judge
        self._chain_id = chain_id
        self._clock_drift_ms = clock_drift_ms
        self._block_age_max_ms = block_age_max_ms
        self._evidence: set[tuple[int, bytes]] = set()
        """(host, evidence) that it asked its archive to keep."""
        self.exempt = frozenset(exempt)
        self._histories: dict[int, _History] = {}
        self._durable: set[tuple[int, str, bytes]] = set()
        """(host, table, value) of proposals and state votes."""

    # ---- the moment of the decision ------------------------------------------------------------

    def on_effect(self, index: int, effect: Any) -> None:
        """A block from the future is not voted for, nor one of long ago: only now is the clock
        what it was."""
        if not isinstance(effect, Persist):
            return
        if effect.store is not Store.SAFETY:
            for put in effect.puts:
                if put.table == "evidence":
                    self._evidence.add((index, put.value))
            return
        tables = {put.table: put.value for put in effect.puts}
        if not tables.keys() >= {"vote", "pending_block"}:
            return
        block, _ = self._judge.read_block(tables["pending_block"])
        clock_ms = self._world.now_ms + self._world.hosts[index].clock_offset_ms
        ahead_ms = block.time_ms - clock_ms
        assert ahead_ms <= self._clock_drift_ms, (
            f"node {index} votes for a block that is {ahead_ms} ms ahead of its clock"
        )
        assert -ahead_ms <= self._block_age_max_ms, (
            f"node {index} votes for a block that is {-ahead_ms} ms behind its clock"
        )

    # ---- what is durable -----------------------------------------------------------------------

    def on_durable(self, index: int, persist: Persist) -> None:
        history = self._histories.setdefault(index, _History())
        tables = {put.table: put for put in persist.puts}
        for name in ("proposal", "state_vote"):
            if name in tables:
                self._durable.add((index, name, tables[name].value))
        if "safety" not in tables:
            assert not tables.keys() & {"vote", "timeout", "proposal"}, (
                f"node {index} signs and does not remember its state"
            )
            return
        state = self._judge.read(SafetyState, tables["safety"].value)
        tc_view = state.high_tc.view if state.high_tc is not None else 0
        view = max(state.high_qc.data.view, tc_view) + 1
        remembered = (
            state.high_qc.data.view,
            tc_view,
            state.last_voted_view,
            state.one_chain_view,
            state.last_proposed_view,
        )
        assert all(new >= old for new, old in zip(remembered, history.remembered, strict=True)), (
            f"node {index} remembers {remembered} after {history.remembered}"
        )
        history.remembered = remembered
        if "vote" in tables:
            vote = self._judge.read(VoteData, tables["vote"].value)
            assert "pending_block" in tables, f"node {index} votes and does not keep the block"
            self._check_vote(index, history, view, vote, tables["pending_block"].value)
            assert state.one_chain_view == history.lock_view <= state.high_qc.data.view, (
                f"node {index} votes, and remembers the lock {state.one_chain_view} and the QC of"
                f" view {state.high_qc.data.view}, not {history.lock_view}"
            )
        if "timeout" in tables:
            timeout = self._judge.read(TimeoutData, tables["timeout"].value)
            self._check_timeout(index, history, view, timeout, state)
        if "proposal" in tables:
            proposed = int.from_bytes(tables["proposal"].key, "big")
            assert proposed == view, f"node {index} proposes in view {proposed}, not {view}"
            assert proposed > max(
                history.proposed_view, history.voted_view, history.timed_out_view
            ), f"node {index} proposes in view {proposed}, which it has left"
            history.proposed_view = proposed

    def on_sent(self, index: int, message: Message) -> None:
        """Proposals and state votes, whose records `SignedOnce` does not look for."""
        if isinstance(message, Proposal):
            block_id = hash_parts("rota/block/v1", self._chain_id, encode(message.block))
            assert (index, "proposal", block_id) in self._durable, (
                f"node {index} proposes in view {message.view}: sent, not durable"
            )
            for piece in message.block.evidence:
                assert (index, piece) in self._evidence, (
                    f"node {index} proposes evidence that it does not keep"
                )
        elif isinstance(message, StateVote):
            assert (index, "state_vote", encode(message.header)) in self._durable, (
                f"node {index} signs the state of height {message.header.height}: sent, not durable"
            )

    def _check_vote(
        self, index: int, history: _History, view: int, vote: VoteData, kept: bytes
    ) -> None:
        who = f"node {index} votes in view {vote.view}"
        assert vote.view == view, f"{who}, and is in view {view}"
        assert vote.view > history.voted_view, f"{who} after view {history.voted_view}"
        assert vote.view > history.timed_out_view, (
            f"{who} after giving view {history.timed_out_view} up"
        )
        block, block_id = self._judge.read_block(kept)
        said = (vote.epoch, vote.view, vote.height, vote.block_id)
        held = (block.epoch, block.view, block.height, block_id)
        assert said == held, f"{who} for another block than it keeps"
        self._judge.judge_block(block)
        history.voted_view = vote.view
        history.lock_view = max(history.lock_view, block.qc.data.view)

    def _check_timeout(
        self, index: int, history: _History, view: int, timeout: TimeoutData, state: SafetyState
    ) -> None:
        who = f"node {index} gives view {timeout.view} up"
        assert timeout.view == view, f"{who}, and is in view {view}"
        assert timeout.view > history.timed_out_view, f"{who} after view {history.timed_out_view}"
        assert timeout.high_qc_view == state.high_qc.data.view, f"{who} with another QC than it has"
        assert timeout.high_qc_view >= history.lock_view, (
            f"{who} with the QC of view {timeout.high_qc_view}, locked on {history.lock_view}"
        )
        tip = history.voted_view if history.voted_view > timeout.high_qc_view else 0
        assert timeout.tip_view == tip, f"{who} with tip {timeout.tip_view}, voted in {tip}"
        history.timed_out_view = timeout.view


class LaneRules(Watcher):
    """An acknowledgement covers batches that its signer durably holds, as one chain of parents down
    to what it saw committed; and no member ever acknowledges two batches at one place.

    Who was down goes through its archive again before it knows what is committed, and until then
    may go on in a fork that it had acknowledged before."""

    effects = (BlockNotice,)
    messages = (Ack,)

    def __init__(self, world: NodeWorld, chain_id: bytes, exempt: Iterable[int] = ()) -> None:
        self._world = world
        self._chain_id = chain_id
        self.exempt = frozenset(exempt)
        self._cursors: dict[tuple[int, int], tuple[int, bytes]] = {}
        """(host, lane) to the newest place that the host saw committed."""
        self._seen: set[tuple[int, int]] = set()
        """Those that it saw in this life."""
        self._acked: dict[tuple[int, int, int], bytes] = {}
        self._sound: set[tuple[int, bytes]] = set()
        """(host, batch) found on its disk with all that is below."""

    def on_start(self, index: int) -> None:
        self._seen = {key for key in self._seen if key[0] != index}

    def on_effect(self, index: int, effect: Any) -> None:
        if isinstance(effect, BlockNotice):
            for tip in effect.block.lanes:
                place = (tip.data.sequence, tip.data.batch_id)
                key = (index, tip.data.author)
                cursor = self._cursors[key] = max(self._cursors.get(key, place), place)
                if place == cursor:
                    self._seen.add(key)

    def on_sent(self, index: int, message: Message) -> None:
        if not isinstance(message, Ack):
            return
        data = message.data
        where = f"node {index} acknowledges lane {data.author} up to {data.sequence}"
        held = self._acked.setdefault((index, data.author, data.sequence), data.batch_id)
        assert held == data.batch_id, f"{where}: another batch than before"
        lane = (index, data.author)
        floor, floor_id = self._cursors.get(lane, (0, bytes(32)))
        sequence, batch_id = data.sequence, data.batch_id
        walked = []
        while sequence > floor and (index, batch_id) not in self._sound:
            stored = self._world.disk(index).get(batch_id)
            assert stored is not None, f"{where}: batch {sequence} is not on its disk"
            header = stored[0].header
            assert (header.author, header.sequence) == (data.author, sequence), (
                f"{where}: what lies at {sequence} is batch {header.sequence} of {header.author}"
            )
            packed = hash_parts("rota/batch/v1", self._chain_id, encode(header))
            assert packed == batch_id, f"{where}: another batch under its name"
            walked.append((index, batch_id))
            sequence, batch_id = sequence - 1, header.parent
        is_known = lane in self._seen or lane not in self._cursors
        if sequence == floor and data.sequence > floor and is_known:
            assert batch_id == floor_id, f"{where}: not on top of what was committed"
        self._sound.update(walked)


class Finality(Watcher):
    """A block is committed only if a quorum voted for a child of it in the view right after its
    own certificate's, and with it all its ancestors."""

    effects = (Persist,)
    messages = (Vote,)
    stores = (Store.SAFETY,)

    def __init__(
        self,
        judge: Judge,
        chain_id: bytes,
        hosts: Sequence[int],
        byzantine: Iterable[int] = (),
        exempt: Iterable[int] = (),
    ) -> None:
        """`hosts[i]` is the member that host i speaks for; `byzantine` members may have voted for
        anything without being seen. What `exempt` hosts commit is their own affair, but not which
        blocks they keep and vote for."""
        self._judge = judge
        self._chain_id = chain_id
        self._hosts = tuple(hosts)
        self._byzantine = frozenset(byzantine)
        self._exempt = frozenset(exempt)
        self._voters: dict[tuple[int, bytes], set[int]] = {}
        """By (view, block id)."""
        self._children: dict[bytes, set[tuple[bytes, int]]] = {}
        """Of each parent: (block id, view of the QC in it)."""

    def on_durable(self, index: int, persist: Persist) -> None:
        """Honest voters and proposers keep the blocks: whatever can be certified passes here."""
        for put in persist.puts:
            if put.table == "pending_block":
                block = self._judge.read(Block, put.value)
                known = self._children.setdefault(block.parent_id, set())
                known.add((put.key[8:], block.qc.data.view))

    def on_sent(self, index: int, message: Message) -> None:
        if isinstance(message, Vote):
            data = message.data
            self._voters.setdefault((data.view, data.block_id), set()).add(self._hosts[index])

    def on_effect(self, index: int, effect: Any) -> None:
        if index in self._exempt or not isinstance(effect, Persist):
            return
        if effect.store is not Store.ARCHIVE:
            return
        blocks = [self._judge.read_block(put.value) for put in effect.puts if put.table == "block"]
        if not blocks:
            return
        certificates = [
            self._judge.read(QC, put.value) for put in effect.puts if put.table == "commit"
        ]
        assert len(certificates) == len(blocks), f"node {index} archives a block without its QC"
        heights = [block.height for block, _ in blocks]
        rising = list(range(heights[0], heights[0] + len(heights)))
        assert heights == rising, f"node {index} commits {heights}: not oldest first, without gaps"
        for (_, block_id), certificate in zip(blocks, certificates, strict=True):
            assert certificate.data.block_id == block_id, f"node {index}: another block's QC"
        newest = certificates[-1].data
        assert self._is_final(newest.block_id, newest.view), (
            f"node {index} commits height {newest.height}, certified in view {newest.view}: nobody"
            f" can have certified a child in view {newest.view + 1}"
        )

    def _is_final(self, block_id: bytes, view: int) -> bool:
        return any(
            self._judge.is_quorum(self._voters.get((view + 1, child_id), set()) | self._byzantine)
            for child_id, qc_view in self._children.get(block_id, ())
            if qc_view == view
        )
