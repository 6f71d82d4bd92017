"""What a lying member remembers of what it heard and said, bounded: the material of later lies."""

from collections import OrderedDict
from typing import Final, TypeVar

from consensus.effects import Received
from consensus.messages import (
    Advance,
    BatchMessage,
    BlockResponse,
    CommittedResponse,
    Message,
    Proposal,
    Timeout,
)
from consensus.types import QC, TC, Block
from localnet.byzantine.behaviour import Behaviour, Tools
from node.events import NodeEvent

NOTES_MAX: Final = 64
"""Of each kind; the oldest is forgotten first."""

K = TypeVar("K")
V = TypeVar("V")


class Notebook:
    """Proposals by view, certificates by view, batches by id. Nothing in it is verified."""

    def __init__(self, chain_id: bytes) -> None:
        self._chain_id = chain_id
        self.proposals: OrderedDict[int, Proposal] = OrderedDict()
        """The first one of each view."""
        self.qcs: OrderedDict[int, QC] = OrderedDict()
        self.tcs: OrderedDict[int, TC] = OrderedDict()
        self.batches: OrderedDict[bytes, BatchMessage] = OrderedDict()
        self.view = 0
        """The newest view of which a proposal was seen."""

    def hear(self, event: NodeEvent) -> Proposal | None:
        """Note what a message says; returns a proposal if it is the first of a new view."""
        if not isinstance(event, Received):
            return None
        before = self.view
        self.note(event.message)
        is_new = isinstance(event.message, Proposal) and event.message.view > before
        return event.message if is_new else None  # type: ignore[return-value]  # mypy forgets

    def note(self, message: Message) -> None:
        """Note what an own or foreign message says."""
        match message:
            case Proposal(block=block, view=view):
                _keep(self.proposals, view, message)
                self.view = max(self.view, view)
                self._note_block(block)
            case Timeout(high_qc=qc, last_tc=tc) | Advance(qc=qc, tc=tc):
                self._note_certificates(qc, tc)
            case BatchMessage(signed_header=signed):
                _keep(self.batches, signed.header.batch_id(self._chain_id), message)
            case BlockResponse(blocks=blocks) | CommittedResponse(blocks=blocks):
                for block in blocks:
                    self._note_block(block)
            case _:
                pass

    def _note_block(self, block: Block) -> None:
        self._note_certificates(block.qc, block.tc)

    def _note_certificates(self, qc: QC, tc: TC | None) -> None:
        _keep(self.qcs, qc.view, qc)
        if tc is not None:
            _keep(self.tcs, tc.view, tc)
            _keep(self.qcs, tc.high_qc.view, tc.high_qc)


def _keep(notes: OrderedDict[K, V], key: K, value: V) -> None:
    notes.setdefault(key, value)
    if len(notes) > NOTES_MAX:
        notes.popitem(last=False)


class Listener(Behaviour):
    """Notes what it hears and is honest otherwise: what many liars have in common."""

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self.notes = Notebook(tools.chain_id)
        self.opened: Proposal | None = None
        """What was heard last, if it is a proposal and the first of a new view."""

    def hear(self, now_ms: int, event: NodeEvent) -> NodeEvent | None:
        self.opened = self.notes.hear(event)
        return event
