"""What all nodes of a localnet say at one moment, and whether it fits together.

Nodes answer at different heights, so that the newest state roots of a healthy localnet differ.
What is compared is the root of one height: the highest checkpoint that all of them have executed.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import trio
from msgspec import Struct

from localnet.control import call_supervisor
from node.cli.output import WholeTable, show_cell, table
from node.client import DoorClient
from node.client_stream import DoorError
from node.exit_codes import OperatorError
from node.network import Network, NetworkNode

STATUS_TIMEOUT_S: Final = 2.0
"""For a node, or the supervisor, to answer."""

STARTING_MAX_S: Final = 10.0
"""A process older than this should answer."""

CHECKPOINT_POLL_S: Final = 0.02
"""Between two questions for a checkpoint that a node has executed and not yet stored."""


class NodeStatus(Struct, frozen=True):
    """What a node's `status` view says that is of use here; it may say more."""

    committed_height: int
    view: int = 0
    leader: str | None = None
    executed_height: int = 0
    state_root: bytes = b""
    state_root_height: int = 0
    is_following: bool = False


class _Checkpoint(Struct, frozen=True):
    """What a node's `certificate` view says that is of use here."""

    own: bool
    """The node has executed to this height itself."""
    state_root: bytes


class NodeAnswer(NamedTuple):
    """What became of the question how a node is."""

    status: NodeStatus | None
    is_listening: bool
    """Its port takes connections: a node without a status is frozen or hangs, not down."""


class RootComparison(NamedTuple):
    """The state roots of one height."""

    height: int | None
    """None if no two nodes have executed a checkpoint in common."""
    roots: Mapping[str, bytes]
    """By the node's name; only of those that answered."""

    @property
    def root(self) -> bytes | None:
        """The root that all nodes report; None if they differ or cannot be compared."""
        return next(iter(self.roots.values())) if self.agree else None

    @property
    def agree(self) -> bool | None:
        """Do all nodes report the same root? None where fewer than two can be compared."""
        return None if len(self.roots) < 2 else len(set(self.roots.values())) == 1


def read_status(answer: object) -> NodeStatus:
    """Read the answer to a `status` query; raises `DoorError`."""
    try:
        return msgspec.convert(answer, NodeStatus)
    except msgspec.ValidationError as error:
        raise DoorError("door.malformed", f"status: {error}") from error


async def query_statuses(network: Network, *, timeout_s: float) -> dict[str, NodeAnswer]:
    """Ask every node once, all at the same time."""
    answers: dict[str, NodeAnswer] = {}

    async def ask(node: NetworkNode) -> None:
        endpoint = node.door_endpoint()
        try:
            async with DoorClient.connect(
                endpoint.host, endpoint.port, timeout_s=timeout_s
            ) as client:
                answers[node.name] = NodeAnswer(read_status(await client.query("status")), True)
        except DoorError as error:
            answers[node.name] = NodeAnswer(None, error.code != "door.unreachable")

    async with trio.open_nursery() as nursery:
        for node in network.nodes:
            nursery.start_soon(ask, node)
    return answers


def compute_committed_height(answers: Mapping[str, NodeAnswer]) -> int | None:
    """Of the node that has committed most; None if none answers."""
    statuses = [answer.status for answer in answers.values()]
    return max((each.committed_height for each in statuses if each is not None), default=None)


async def compare_roots(
    network: Network, statuses: Mapping[str, NodeStatus | None], *, timeout_s: float
) -> RootComparison:
    """Ask all nodes that have executed anything for their roots of the highest common height."""
    reached = {
        name: status.state_root_height
        for name, status in statuses.items()
        if status is not None and status.state_root_height > 0
    }
    if len(reached) < 2:
        return RootComparison(None, {})
    height = min(reached.values())
    roots: dict[str, bytes] = {}

    async def ask(node: NetworkNode) -> None:
        try:
            roots[node.name] = await _query_root(node, height, timeout_s)
        except DoorError:
            # It went away, or came by a snapshot from above this height: it says nothing about it.
            return

    async with trio.open_nursery() as nursery:
        for node in network.nodes:
            if node.name in reached:
                nursery.start_soon(ask, node)
    return RootComparison(height, dict(sorted(roots.items())))


async def _query_root(node: NetworkNode, height: int, timeout_s: float) -> bytes:
    """The root that the node computed for a height; raises `DoorError`."""
    endpoint = node.door_endpoint()
    deadline = trio.current_time() + timeout_s
    async with DoorClient.connect(endpoint.host, endpoint.port, timeout_s=timeout_s) as client:
        while True:
            try:
                answer = await client.query("certificate", height)
                checkpoint = msgspec.convert(answer, _Checkpoint)
                if checkpoint.own:
                    return checkpoint.state_root
            except msgspec.ValidationError as error:
                raise DoorError("door.malformed", f"certificate: {error}") from error
            except DoorError as error:
                if error.code != "checkpoint.unknown":
                    raise
            # Its status is a moment ahead of its archive.
            if trio.current_time() > deadline:
                raise DoorError("door.timeout", f"no own result of height {height}")
            await trio.sleep(CHECKPOINT_POLL_S)


def describe_status(node: NetworkNode, status: NodeStatus | None) -> dict[str, Any]:
    """One node for `localnet status --json` and for reports."""
    return {
        "name": node.name,
        "up": status is not None,
        "view": status.view if status else None,
        "committed_height": status.committed_height if status else None,
        "executed_height": status.executed_height if status else None,
        "state_root": status.state_root.hex() if status else None,
        "state_root_height": status.state_root_height if status else None,
        "peer": node.peer,
        "door": node.door,
    }


async def compute_status(network: Network) -> dict[str, Any]:
    """The document of `localnet status --json`; works whatever is up."""
    answers = await query_statuses(network, timeout_s=STATUS_TIMEOUT_S)
    statuses = {name: answer.status for name, answer in answers.items()}
    comparison = await compare_roots(network, statuses, timeout_s=STATUS_TIMEOUT_S)
    try:
        supervisor = await call_supervisor(network.run_dir, "status", timeout_s=STATUS_TIMEOUT_S)
    except OperatorError:
        supervisor = None
    processes = {each["name"]: each for each in supervisor["processes"]} if supervisor else {}
    nodes = []
    for node in network.nodes:
        process = processes.get(node.name, {})
        nodes.append(
            {
                **describe_status(node, statuses[node.name]),
                "condition": _describe_condition(answers[node.name], process),
                "pid": process.get("pid"),
                "state": process.get("state"),
                "exit_code": process.get("exit_code"),
                "failure": process.get("failure"),
                "log": str(network.home(node.name).log_path),
            }
        )
    return {
        "dir": str(network.path),
        "chain_id": network.chain_id.hex(),
        "supervised": supervisor is not None,
        "ready": bool(supervisor and supervisor["ready"]),
        "committed_height": compute_committed_height(answers),
        "state_roots_agree": comparison.agree,
        "state_roots_height": comparison.height,
        "state_root": comparison.root.hex() if comparison.root else None,
        "state_roots": {name: root.hex() for name, root in comparison.roots.items()},
        "contradictions": supervisor["contradictions"] if supervisor else [],
        "nodes": nodes,
    }


def _describe_condition(answer: NodeAnswer, process: Mapping[str, Any]) -> str:
    """`up`, `follows` (up, and signing nothing), `starting`, `not answering` (frozen or hanging) or
    `down`.

    `process` is what the supervisor says of it; empty without one.
    """
    if answer.status is not None:
        return "follows" if answer.status.is_following else "up"
    if process.get("pid") is None:
        return "not answering" if answer.is_listening else "down"
    return "starting" if process["uptime_s"] < STARTING_MAX_S else "not answering"


# ---- for people ----------------------------------------------------------------------------


def status_table(document: dict[str, Any]) -> WholeTable:
    """The nodes of `compute_status`."""
    rows = [
        (
            node["name"],
            node["condition"],
            show_cell(node["pid"]),
            show_cell(node["view"]),
            show_cell(node["committed_height"]),
            show_cell(node["executed_height"]),
            f"{node['state_root'][:16]} @ {node['state_root_height']}" if node["up"] else "-",
            node["door"],
        )
        for node in document["nodes"]
    ]
    columns = ["node", "state", "pid>", "view>", "committed>", "executed>", "root @ height", "door"]
    return table(columns, rows)


def describe_failures(document: dict[str, Any]) -> list[str]:
    """What ended liars, a line each."""
    return [
        f"{node['name']} failed: {node['failure']}" for node in document["nodes"] if node["failure"]
    ]


def describe_roots(document: dict[str, Any]) -> str:
    """The comparison of the state roots in one line."""
    height, roots = document["state_roots_height"], document["state_roots"]
    match document["state_roots_agree"]:
        case True:
            root = document["state_root"][:16]
            return f"state roots of {len(roots)} nodes agree at height {height}: {root}"
        case False:
            said = ", ".join(f"{name} {root[:16]}" for name, root in roots.items())
            return f"STATE ROOTS DISAGREE at height {height}: {said}"
        case _:
            return "state roots: fewer than two nodes to compare"
