"""`localnet status` compares roots of one height, though nodes answer at different heights."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from crypto.codec import encode
from localnet import status as module
from localnet.network import create_network
from localnet.status import (
    NodeStatus,
    compare_roots,
    compute_status,
    describe_failures,
    describe_roots,
    query_statuses,
)
from node.cli.main import run
from node.door import Door, QueryError
from node.exit_codes import ExitCode
from node.network import Network
from node.protocol import Welcome

TIMEOUT_S = 2.0


def root_of(height: int) -> bytes:
    return height.to_bytes(32, "big")


class StandIn:
    """A node's door: it has executed to a height, and may lie about one root."""

    def __init__(self, name: str, height: int, lie_at: int = 0, late: int = 0) -> None:
        self.name = name
        self.height = height
        self.lie_at = lie_at
        self.late = late
        """So many questions for a checkpoint come before the archive has it."""

    def welcome(self) -> Welcome:
        return Welcome(1, self.name, bytes(32), self.height, 0)

    def submit(self, *_: object) -> Any:
        raise AssertionError("nobody trades here")

    submit_opaque = submit

    async def query(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        if name == "status":
            return encode(
                {
                    "committed_height": self.height + 2,
                    "view": self.height + 3,
                    "state_root": root_of(self.height),
                    "state_root_height": self.height,
                }
            )
        (height,) = arguments
        self.late -= 1
        if height > self.height or self.late >= 0:
            raise QueryError("checkpoint.unknown", "not here")
        root = bytes(32) if height == self.lie_at else root_of(height)
        return encode({"own": True, "state_root": root})


@asynccontextmanager
async def serving(path: Path, *nodes: StandIn) -> AsyncIterator[Network]:
    """A network whose doors are these."""
    network = create_network(path / "net", port_first=15_500)
    async with trio.open_nursery() as nursery:
        found = []
        for node, entry in zip(nodes, network.nodes, strict=False):
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            door = Door(node, connections_max=10, send_queue_max_bytes=1 << 20, idle_timeout_s=60)
            nursery.start_soon(door.serve, listeners)
            found.append(msgspec.structs.replace(entry, door=f"127.0.0.1:{port}"))
        manifest = msgspec.structs.replace(network.manifest, nodes=tuple(found))
        yield Network(network.path, manifest)
        nursery.cancel_scope.cancel()


async def statuses_of(network: Network) -> Mapping[str, NodeStatus | None]:
    answers = await query_statuses(network, timeout_s=TIMEOUT_S)
    return {name: answer.status for name, answer in answers.items()}


async def test_roots_are_compared_at_the_highest_height_that_all_have_executed(
    tmp_path: Path,
) -> None:
    nodes = [StandIn("node0", 90), StandIn("node1", 80, late=2), StandIn("node2", 85)]
    async with serving(tmp_path, *nodes) as network:
        document = await compute_status(network)
    assert len({node["state_root"] for node in document["nodes"]}) == 3
    assert document["state_roots_agree"] is True
    assert (document["committed_height"], document["state_roots_height"]) == (92, 80)
    assert document["state_root"] == root_of(80).hex()
    assert "3 nodes agree at height 80" in describe_roots(document)


async def test_a_root_that_differs_is_named_with_its_node(tmp_path: Path) -> None:
    nodes = [StandIn("node0", 90), StandIn("node1", 80, lie_at=80), StandIn("node2", 85)]
    async with serving(tmp_path, *nodes) as network:
        document = await compute_status(network)
    assert document["state_roots_agree"] is False
    assert document["state_root"] is None
    assert "DISAGREE at height 80" in describe_roots(document)
    assert "node1 0000000000000000" in describe_roots(document)


async def test_one_node_alone_cannot_be_compared(tmp_path: Path) -> None:
    async with serving(tmp_path, StandIn("node0", 90), StandIn("node1", 0)) as network:
        comparison = await compare_roots(network, await statuses_of(network), timeout_s=TIMEOUT_S)
    assert (comparison.agree, comparison.height) == (None, None)


async def test_a_node_that_never_shows_its_checkpoint_is_left_out(tmp_path: Path) -> None:
    nodes = [StandIn("node0", 90), StandIn("node1", 80), StandIn("node2", 85, late=10**6)]
    async with serving(tmp_path, *nodes) as network:
        comparison = await compare_roots(network, await statuses_of(network), timeout_s=0.2)
    assert comparison.agree is True
    assert list(comparison.roots) == ["node0", "node1"]


def test_disagreement_ends_status_with_the_code_for_safety(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = create_network(tmp_path / "net", port_first=15_500)

    async def compare(*_: object, **__: object) -> module.RootComparison:
        return module.RootComparison(7, {"node0": bytes(32), "node1": root_of(7)})

    monkeypatch.setattr(module, "compare_roots", compare)
    assert run(["localnet", "status", "--dir", str(network.path)]) == ExitCode.SAFETY
    assert "STATE ROOTS DISAGREE at height 7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("process", "is_listening", "condition"),
    [
        ({"pid": 5, "uptime_s": 0.1}, False, "starting"),
        ({"pid": 5, "uptime_s": 0.1}, True, "starting"),
        ({"pid": 5, "uptime_s": module.STARTING_MAX_S}, False, "not answering"),
        ({"pid": None, "uptime_s": 0.0}, False, "down"),
        ({}, True, "not answering"),
        ({}, False, "down"),
    ],
)
def test_a_node_that_does_not_answer_is_starting_silent_or_down(
    process: dict[str, Any], is_listening: bool, condition: str
) -> None:
    answer = module.NodeAnswer(None, is_listening)
    assert module._describe_condition(answer, process) == condition


def test_a_liar_that_its_behaviour_ended_is_named_with_the_reason() -> None:
    nodes = [{"name": "node1", "failure": None}, {"name": "node3", "failure": "mine.py:18: no"}]
    assert describe_failures({"nodes": nodes}) == ["node3 failed: mine.py:18: no"]
