"""Whatever an honest node asks its signer for, whether it leaves the node or not.

A signature that exists can leave: by a bug, a core dump, a worker's log. So two contents for one
place are a fault as soon as both are asked for, and so is a signature over anything that no record
of the node explains. The digests of all contents are computed here, from the documented formats.
"""

from collections.abc import Iterable
from typing import Any, Final

from consensus.effects import Persist, Put, Sign, SignIdentity, Store, StoreBatch
from consensus.messages import BatchMessage, Message, Proposal, Timeout, Vote
from consensus.safety import BLOCK_TABLE, TIMEOUT_TABLE, VOTE_TABLE
from consensus.types import BatchHeader, Block, CheckpointHeader, TimeoutData, VoteData
from crypto.codec import decode_lenient, encode
from localnet.sim.oracles.certificates import hash_parts, lay_out_checkpoint, pack
from localnet.sim.oracles.watchers import Watcher

Slot = tuple[str, int, int]
"""Where one content may be signed: its kind, the lane (0 where there is none), and the view, height
or sequence."""

_RECORDS: Final = frozenset(("vote", "timeout", "proposal", "state_vote"))
"""Safety tables that each guard one kind of signature."""


class SignatureRequests(Watcher):
    """One content a place: votes, timeouts, proposals, results and acknowledgements in all lives of
    a member together, as far as their records were durable; lane headers likewise, as far as they
    were sent. A lane header is stored before the next one is signed."""

    effects = (Persist, Sign, SignIdentity, StoreBatch)
    messages = (BatchMessage,)
    stores = (Store.SAFETY,)

    def __init__(self, chain_id: bytes, epoch: int = 0, exempt: Iterable[int] = ()) -> None:
        self._chain_id = chain_id
        self._epoch = epoch
        self.exempt = frozenset(exempt)
        self._explained: dict[int, dict[bytes, Slot]] = {}
        """By host: what its records allow it to sign."""
        self._asked: dict[int, dict[Slot, bytes]] = {}
        """By host: what it had signed in this life."""
        self._bound: dict[tuple[int, Slot], bytes] = {}
        """What a durable record holds it to, for ever."""
        self._header: dict[int, bytes | None] = {}
        """By host: the lane header that it had signed and has not stored yet."""
        self._headers: dict[tuple[int, int], BatchHeader] = {}
        """By host and sequence: what it sent of its own lane."""
        self._contents: dict[tuple[str, bytes, bytes], tuple[Slot, bytes]] = {}
        """Records are alike on many nodes: each is hashed once."""
        self._acks: dict[bytes, tuple[Slot, bytes]] = {}

    def on_start(self, index: int) -> None:
        # What was not durable explains nothing any more. Batches are looked for on the disk when
        # their acknowledgement is sent (`LaneRules`).
        self._explained[index] = {
            content: slot
            for content, slot in self._explained.get(index, {}).items()
            if slot[0] == "ack" or self._bound.get((index, slot)) == content
        }
        self._asked[index] = {}
        self._header[index] = None

    def on_effect(self, index: int, effect: Any) -> None:
        match effect:
            case Persist(store=Store.SAFETY, puts=puts):
                for put in puts:
                    if put.table in _RECORDS:
                        slot, content = self._read(put)
                        self._explained[index][content] = slot
            case Sign(message=content):
                self._judge(index, content)
            case StoreBatch(batch_id=batch_id, signed_header=signed):
                self._on_stored(index, batch_id, signed.header)
            case SignIdentity(message=content):
                assert self._header[index] is None, (
                    f"node {index} signs a batch of its lane before it stores the last one"
                )
                self._header[index] = content
            case _:
                pass

    def on_durable(self, index: int, persist: Persist) -> None:
        for put in persist.puts:
            if put.table in _RECORDS:
                slot, content = self._read(put)
                self._bind(index, slot, content)

    def on_sent(self, index: int, message: Message) -> None:
        """A batch that was signed and not stored before a crash never left: only what was sent
        binds the next life."""
        if isinstance(message, BatchMessage):
            header = message.signed_header.header
            if header.author == index:
                held = self._headers.setdefault((index, header.sequence), header)
                assert held is header or held == header, (
                    f"node {index} sends two batches at {header.sequence} of its lane"
                )

    # ---- parts ---------------------------------------------------------------------------------

    def _judge(self, index: int, content: bytes) -> None:
        slot = self._explained[index].get(content)
        assert slot is not None, (
            f"node {index} has {content.hex()[:16]} signed, which none of its records explains"
        )
        asked = self._asked[index].setdefault(slot, content)
        assert asked == content, f"node {index} has two contents signed for {_describe(slot)}"
        if slot[0] == "ack":
            # The stored batch is the record.
            self._bind(index, slot, content)
        else:
            bound = self._bound.get((index, slot), content)
            assert bound == content, f"node {index} is held to another {_describe(slot)}"

    def _bind(self, index: int, slot: Slot, content: bytes) -> None:
        held = self._bound.setdefault((index, slot), content)
        assert held == content, f"node {index} is held to another {_describe(slot)}"

    def _on_stored(self, index: int, batch_id: bytes, header: BatchHeader) -> None:
        known = self._acks.get(batch_id)
        if known is None:
            packed = pack(header.epoch, header.author, header.sequence, batch_id)
            content = hash_parts("rota/availability/v1", self._chain_id, packed)
            known = self._acks[batch_id] = ("ack", header.author, header.sequence), content
        slot, content = known
        self._explained[index][content] = slot
        if header.author == index and self._header[index] is not None:
            signed = hash_parts("rota/batch-author/v1", self._chain_id, encode(header))
            if signed == self._header[index]:
                self._header[index] = None

    def _read(self, put: Put) -> tuple[Slot, bytes]:
        """The place of a record, and the digest that is signed for it."""
        table, key, value = put
        found = self._contents.get(put)
        if found is None:
            chain_id = self._chain_id
            if table == "vote":
                content = hash_parts("rota/vote/v1", chain_id, value)
            elif table == "timeout":
                content = hash_parts("rota/timeout/v1", chain_id, value)
            elif table == "proposal":
                epoch = self._epoch.to_bytes(8, "big")
                content = hash_parts("rota/proposal/v1", chain_id, epoch, key, value)
            else:
                header = decode_lenient(CheckpointHeader, value)
                content = hash_parts("rota/checkpoint/v1", lay_out_checkpoint(chain_id, header))
            found = (table, 0, int.from_bytes(key, "big")), content
            self._contents[put] = found
        return found


def _describe(slot: Slot) -> str:
    kind, lane, number = slot
    return f"{kind} {number} of lane {lane}" if kind == "ack" else f"{kind} {number}"


class SignedOnce(Watcher):
    """An honest member's votes, timeouts and proposals never contradict each other, across all
    its lives; and nothing leaves that its disk does not remember."""

    messages = (Vote, Timeout, Proposal)
    stores = (Store.SAFETY,)

    def __init__(self, exempt: Iterable[int] = ()) -> None:
        self.exempt = frozenset(exempt)
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
            if put.table == VOTE_TABLE:
                assert (index, view) not in self._timed_out, (
                    f"node {index} voted after timing out in view {view}"
                )

    def on_sent(self, index: int, message: Message) -> None:
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
            f"node {index} signed two {kind}s in view {view}: {_describe_content(content)} after"
            f" {_describe_content(held)}"
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


def _describe_content(content: VoteData | TimeoutData | Block) -> str:
    """What was signed, in a few words."""
    match content:
        case VoteData(block_id=block_id):
            return f"block {block_id.hex()[:8]}"
        case TimeoutData(high_qc_view=high_qc_view, tip_view=tip_view):
            return f"high QC {high_qc_view} and tip {tip_view}"
        case Block(height=height, qc=qc):
            return f"height {height} on the QC of view {qc.view}"
