"""Writes down what happens in one run, for people: a trace to search and a timeline to look at."""

from dataclasses import dataclass
from typing import Any, Final

from consensus.effects import Halt, Misbehaviour, Received
from consensus.messages import Advance, BatchMessage, Message, Proposal, Timeout, Vote
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles import Watcher
from node.core import NodeCore
from node.events import BlockNotice

MOMENTS_MAX: Final = 200_000
"""The newest count: a failure stands at the end."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened on a host."""

    at_ms: int
    host: int
    view: int
    """The host's view at that time; for what concerns one view, that one."""
    kind: str
    """`start`, `crash`, `enter`, `proposal`, `vote`, `timeout`, `advance`, `commit`, `refused`,
    `halt`, `sent` or `heard`."""
    text: str
    block_id: bytes = b""
    """Of what was proposed, voted for or committed."""


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
        cluster.world.on_received.append(self._on_received)

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
                self._note(index, "commit", f"{text} of view {block.view}", block.view, block_id)
            case Misbehaviour(member, code, detail):
                self._note(index, "refused", f"refuses node{member}: {code} {detail}".rstrip())
            case Halt(code, detail):
                self._note(index, "halt", f"halts: {code} {detail}".rstrip())
            case _:
                pass

    def on_sent(self, index: int, message: Message) -> None:
        kind, view, block_id = self._read(message)
        self._note(index, kind, f"sends {_describe(message, view, block_id)}", view, block_id)

    def _on_received(self, index: int, event: Received) -> None:
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

    def _note(self, host: int, kind: str, text: str, view: int = 0, block_id: bytes = b"") -> None:
        now_ms = self._the_cluster.world.now_ms
        view = view or self._views.get(host, 0)
        self.moments.append(Moment(now_ms, host, view, kind, text, block_id))
        if len(self.moments) > 2 * MOMENTS_MAX:
            del self.moments[:MOMENTS_MAX]


def write_trace(recorder: Recorder) -> str:
    """One line for each moment."""
    return "".join(
        f"{moment.at_ms:>9} ms  {recorder.names[moment.host]:<12} view {moment.view:>4}  "
        f"{moment.text}\n"
        for moment in recorder.moments
    )


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
