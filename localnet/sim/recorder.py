"""Writes down what happens in one run, for people: a trace to search and a timeline to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from consensus.chain import ARCHIVE_BLOCK_TABLE
from consensus.effects import Halt, Misbehaviour, Persist, Received, Store
from consensus.messages import Advance, BatchMessage, Message, Proposal, Timeout, Vote
from consensus.types import Block
from crypto.codec import decode
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.watchers import Watcher
from localnet.sim.scenario import Outcome
from localnet.sim.schedule import Schedule
from localnet.sim.violation import Violation
from localnet.verdicts import Verdict
from node.core import NodeCore
from node.events import BlockNotice, ReceiptUpdate

MOMENTS_MAX: Final = 200_000
"""The newest count: a failure stands at the end."""

ACTING_PHASES: Final = ("attack", "heal", "rest")
"""The phases in which hosts run."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened on a host."""

    at_ms: int
    host: int
    view: int
    """The host's view at that time; for what concerns one view, that one."""
    kind: str
    """`start`, `crash`, `enter`, `proposal`, `vote`, `timeout`, `advance`, `commit`, `refused`,
    `halt`, `final`, `receipt`, `sent` or `heard`."""
    text: str
    block_id: bytes = b""
    """Of what was proposed, voted for or committed."""
    number: int = 0
    """Of a proposal the view of the QC that its block carries, of a commit the height, of what is
    refused the member whose it was."""


class Recorder(Watcher):
    """Give it to `run_schedule` as `prepare`."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self.names: dict[int, str] = {}
        self._cluster: NodeCluster | None = None
        self._views: dict[int, int] = {}

    def __call__(self, cluster: NodeCluster) -> None:
        self._cluster = cluster
        count = len(cluster.members)
        for host in cluster.hosts:
            name = f"node{cluster.member_of(host)}"
            self.names[host] = name if host < count else f"{name} twin"
        # First of all: what an oracle objects to has to be in the record.
        cluster.world.observers.insert(0, self)

    # ---- what is told --------------------------------------------------------------------------

    def on_start(self, index: int) -> None:
        self._views[index] = 0
        self._note(index, "start", "starts")
        self._look(index)

    def on_crash(self, index: int) -> None:
        self._note(index, "crash", "is killed")

    def on_effect(self, index: int, effect: Any) -> None:
        self._look(index)
        match effect:
            case BlockNotice(block_id, block):
                text = f"commits height {block.height}, block {_short(block_id)}"
                text += f" of view {block.view}"
                self._note(index, "commit", text, block.view, block_id, block.height)
            case Persist(store=Store.ARCHIVE, puts=puts):
                for put in puts:
                    if put.table == ARCHIVE_BLOCK_TABLE:
                        self._note_final(index, decode(Block, put.value))
            case Misbehaviour(member, code, detail):
                text = f"refuses node{member}: {code} {detail}".rstrip()
                self._note(index, "refused", text, number=member)
            case ReceiptUpdate(envelope_id, _, level, height, code):
                text = f"says {level} at height {height} of envelope {_short(envelope_id)}"
                self._note(index, "receipt", f"{text} {code or ''}".rstrip())
            case Halt(code, detail):
                self._note(index, "halt", f"halts: {code} {detail}".rstrip())
            case _:
                pass

    def _note_final(self, index: int, block: Block) -> None:
        block_id = block.block_id(self._the_cluster.chain_id)
        text = f"takes height {block.height} for final, block {_short(block_id)}"
        text += f" of view {block.view}"
        self._note(index, "final", text, block.view, block_id, block.height)

    def on_sent(self, index: int, message: Message) -> None:
        kind, view, block_id = self._read(message)
        text = f"sends {_describe(message, view, block_id)}"
        number = message.block.qc.view if isinstance(message, Proposal) else 0
        self._note(index, kind, text, view, block_id, number)

    def on_received(self, index: int, event: Received) -> None:
        message = event.message
        if event.sender == self._the_cluster.member_of(index) or isinstance(message, BatchMessage):
            return
        _, view, block_id = self._read(message)
        text = f"hears {_describe(message, view, block_id)} from node{event.sender}"
        self._note(index, "heard", text, view, block_id)

    # ---- details -------------------------------------------------------------------------------

    @property
    def _the_cluster(self) -> NodeCluster:
        assert self._cluster is not None, "a recorder watches one cluster"
        return self._cluster

    def _look(self, index: int) -> None:
        """Has the host entered a view?"""
        machine = self._the_cluster.world.hosts[index].machine
        if not isinstance(machine, NodeCore):
            return
        now = machine.statistics().consensus
        if now.view == self._views.get(index):
            return
        self._views[index] = now.view
        by = "TC" if now.high_tc_view == now.view - 1 > now.high_qc_view else "QC"
        self._note(index, "enter", f"enters view {now.view} by a {by}", now.view)

    def _read(self, message: Message) -> tuple[str, int, bytes]:
        """(kind, view, block id); 0 and nothing for what concerns none."""
        match message:
            case Proposal(block=block, view=view):
                return "proposal", view, block.block_id(self._the_cluster.chain_id)
            case Vote(data=data):
                return "vote", data.view, data.block_id
            case Timeout(data=data):
                return "timeout", data.view, b""
            case Advance(qc=qc, tc=tc):
                return "advance", tc.view if tc is not None else qc.view, b""
            case _:
                return "sent", 0, b""

    def _note(
        self,
        host: int,
        kind: str,
        text: str,
        view: int = 0,
        block_id: bytes = b"",
        number: int = 0,
    ) -> None:
        now_ms = self._the_cluster.world.now_ms
        view = view or self._views.get(host, 0)
        self.moments.append(Moment(now_ms, host, view, kind, text, block_id, number))
        if len(self.moments) > 2 * MOMENTS_MAX:
            del self.moments[:MOMENTS_MAX]


def find_act(moments: Sequence[Moment], violation: Violation | None) -> Moment | None:
    """What a host did when an oracle objected: the last thing on record, since the recorder hears
    of it first. None if nobody did anything, as when there is no progress."""
    if violation is None or violation.verdict is Verdict.LIVENESS or not moments:
        return None
    last = moments[-1]
    return last if last.at_ms == violation.at_ms and violation.phase in ACTING_PHASES else None


def describe_violation(violation: Violation) -> str:
    """A violation in one line."""
    return f"{violation.verdict}: {violation.oracle} ({violation.phase}): {violation.detail}"


def describe_not_asked(outcome: Outcome) -> str:
    """What a run was not held to, in one line; empty if it was held to everything."""
    reasons = dict.fromkeys(outcome.not_asked.values())
    return "; ".join(
        f"{', '.join(name for name, why in outcome.not_asked.items() if why == reason)}: {reason}"
        for reason in reasons
    )


def describe_views(outcome: Outcome, schedule: Schedule) -> str:
    """How many views there were, and how many were asked for if that is more."""
    asked = f" of the {schedule.views:,} asked for" if outcome.views < schedule.views else ""
    return f"{outcome.views:,}{asked}"


def write_trace(recorder: Recorder, outcome: Outcome) -> str:
    """One line for each moment; a violation comes last."""
    lines = [
        f"{moment.at_ms:>9} ms  {recorder.names[moment.host]:<12} view {moment.view:>4}  "
        f"{moment.text}\n"
        for moment in recorder.moments
    ]
    if (violation := outcome.violation) is not None:
        act = find_act(recorder.moments, violation)
        where = "" if act is None else f"{recorder.names[act.host]:<12} view {act.view:>4}  "
        lines.append(f"{violation.at_ms:>9} ms  {where}{describe_violation(violation)}\n")
    return "".join(lines)


def _describe(message: Message, view: int, block_id: bytes) -> str:
    text = str(message.__struct_config__.tag)
    if view:
        text += f" of view {view}"
    if block_id:
        text += f" for block {_short(block_id)}"
    match message:
        case Timeout(data=data):
            text += f" (high QC {data.high_qc_view}, tip {data.tip_view})"
        case Proposal(block=block):
            text += f" (height {block.height} on QC {block.qc.view})"
        case _:
            pass
    return text


def _short(block_id: bytes) -> str:
    return block_id.hex()[:8]
