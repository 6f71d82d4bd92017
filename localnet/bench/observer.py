"""Counts what every node announces, over exactly the same window of time."""

import trio
from msgspec import Struct

from localnet.bench.errors import IdleChainError
from node.client import DoorClient
from node.network import Network, NetworkNode
from node.protocol import BlockEvent, Channel, DeliveredEvent, ExecutedEvent


class Counts(Struct):
    """What one node has announced so far."""

    blocks: int = 0
    lane_tips: int = 0
    opaque: int = 0
    """Transactions of other namespaces, committed and delivered."""
    envelopes: int = 0
    refused: int = 0
    instructions: int = 0
    """Executed and certified."""
    fills: int = 0

    def since(self, before: "Counts") -> "Counts":
        """What was added."""
        return Counts(
            self.blocks - before.blocks,
            self.lane_tips - before.lane_tips,
            self.opaque - before.opaque,
            self.envelopes - before.envelopes,
            self.refused - before.refused,
            self.instructions - before.instructions,
            self.fills - before.fills,
        )

    def copy(self) -> "Counts":
        """The counts of this moment."""
        return self.since(Counts())


class Window(Struct, frozen=True):
    """What was announced in a measured window."""

    elapsed_s: float
    nodes: dict[str, Counts]

    def least(self, field: str) -> int:
        """The least of a count over all nodes: what every one of them has announced."""
        return min(int(getattr(counts, field)) for counts in self.nodes.values())

    def least_per_s(self, field: str) -> float:
        """`least` as a rate."""
        return round(self.least(field) / self.elapsed_s, 1)


class Observer:
    """Subscribes to the blocks of every node; `run` is its task and ends when a node does."""

    def __init__(self, network: Network) -> None:
        self._nodes = network.nodes
        self.counts = {node.name: Counts() for node in network.nodes}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Count until cancelled; started once every node has accepted the subscription.

        Raises `DoorError` in a group if a node's connection ends: then no count is complete.
        """
        async with trio.open_nursery() as nursery:
            for node in self._nodes:
                await nursery.start(self._follow, node)
            task_status.started()

    async def _follow(
        self, node: NetworkNode, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        endpoint = node.door_endpoint()
        counts = self.counts[node.name]
        async with DoorClient.connect(endpoint.host, endpoint.port) as client:
            events = await client.subscribe(Channel.BLOCKS)
            task_status.started()
            async for event in events:
                apply_event(counts, event)

    async def measure(self, seconds: float) -> Window:
        """Count for so long. Raises `IdleChainError` if a node announced no block."""
        before = {name: counts.copy() for name, counts in self.counts.items()}
        started_at = trio.current_time()
        await trio.sleep(seconds)
        elapsed_s = trio.current_time() - started_at
        window = Window(
            elapsed_s, {name: each.since(before[name]) for name, each in self.counts.items()}
        )
        validate_busy(window, "blocks")
        return window


def apply_event(counts: Counts, event: object) -> None:
    """Count one event of a node's blocks."""
    match event:
        case BlockEvent():
            counts.blocks += 1
            counts.lane_tips += event.lanes
        case DeliveredEvent():
            counts.envelopes += event.envelopes
            counts.refused += event.refused
            counts.opaque += sum(event.opaque.values())
        case ExecutedEvent():
            counts.instructions += event.instructions
            counts.fills += event.fills


def validate_busy(window: Window, field: str) -> None:
    """Raise `IdleChainError` unless every node has announced something of this in the window."""
    idle = sorted(name for name, counts in window.nodes.items() if not getattr(counts, field))
    if idle:
        raise IdleChainError(
            f"{', '.join(idle)} announced no {field.replace('_', ' ')} in {window.elapsed_s:.1f} s",
            advice="run again with --keep and look into the nodes' logs",
        )
