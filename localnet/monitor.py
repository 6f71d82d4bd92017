"""Watches all nodes of a localnet through their order doors, as any client could.

One task a node keeps a connection: it reads the node's blocks and certified results as they come,
and asks for its status. A node that does not answer is down; the task tries again until it does.
"""

from collections import deque
from typing import Final

import trio

from localnet.agreement import Agreement
from localnet.status import NodeStatus, read_status
from node.client import DoorClient, Subscription
from node.client_stream import DoorError
from node.network import Network, NetworkNode
from node.protocol import BlockEvent, Channel, DeliveredEvent, ExecutedEvent

STATUS_INTERVAL_S: Final = 0.5
RECONNECT_DELAY_S: Final = 0.2
ANSWER_TIMEOUT_S: Final = 5.0
RATE_WINDOW_S: Final = 5.0
"""Rates are averages over this long."""


class Monitor:
    """The picture of the whole localnet, kept up to date by `run`."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.statuses: dict[str, NodeStatus | None] = {node.name: None for node in network.nodes}
        """None while the node does not answer."""
        self.agreement = Agreement()
        self.blocks = 0
        """Heights committed since the start, counted once however many nodes tell."""
        self.instructions = 0
        """Engine instructions in certified heights."""
        self.fills = 0
        self.refused = 0
        """Envelopes in committed blocks that the header ledger refused."""
        self.last_progress_at = trio.current_time()
        """When a new height was last committed, by trio's clock."""
        self._committed_height = 0
        self._executed_height = 0
        self._delivered_height = 0
        self._rates: deque[tuple[float, int, int]] = deque()

    async def run(self) -> None:
        """Watch until cancelled."""
        async with trio.open_nursery() as nursery:
            for node in self._network.nodes:
                nursery.start_soon(self._watch_node, node, name=f"monitor {node.name}")

    def begin_measuring(self) -> None:
        """Count from here."""
        self.blocks = self.instructions = self.fills = self.refused = 0
        self.last_progress_at = trio.current_time()
        self._rates.clear()

    def up(self) -> list[str]:
        """Nodes that answer."""
        return [name for name, status in self.statuses.items() if status is not None]

    def newest(self) -> NodeStatus | None:
        """The status of the node that has committed most."""
        known = [status for status in self.statuses.values() if status is not None]
        return max(known, key=lambda status: status.committed_height, default=None)

    def rates(self) -> tuple[float, float]:
        """Blocks and fills a second, over the last few seconds."""
        now = trio.current_time()
        self._rates.append((now, self.blocks, self.fills))
        while len(self._rates) > 2 and now - self._rates[0][0] > RATE_WINDOW_S:
            self._rates.popleft()
        then, blocks, fills = self._rates[0]
        elapsed = max(now - then, 0.001)
        return (self.blocks - blocks) / elapsed, (self.fills - fills) / elapsed

    async def _watch_node(self, node: NetworkNode) -> None:
        endpoint = node.door_endpoint()
        while True:
            try:
                async with DoorClient.connect(
                    endpoint.host, endpoint.port, timeout_s=ANSWER_TIMEOUT_S
                ) as client:
                    blocks = await client.subscribe(Channel.BLOCKS)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._read_events, node.name, blocks)
                        nursery.start_soon(self._poll_status, node.name, client)
            except* DoorError:
                self.statuses[node.name] = None
            await trio.sleep(RECONNECT_DELAY_S)

    async def _poll_status(self, name: str, client: DoorClient) -> None:
        while True:
            self.statuses[name] = read_status(await client.query("status"))
            await trio.sleep(STATUS_INTERVAL_S)

    async def _read_events(self, name: str, events: Subscription) -> None:
        async for event in events:
            if isinstance(event, BlockEvent):
                self.agreement.observe(name, "block", event.height, event.block_id)
                if event.height > self._committed_height:
                    self._committed_height = event.height
                    self.last_progress_at = trio.current_time()
                    self.blocks += 1
            elif isinstance(event, DeliveredEvent):
                if event.height > self._delivered_height:
                    self._delivered_height = event.height
                    self.refused += event.refused
            elif isinstance(event, ExecutedEvent):
                self.agreement.observe(name, "state_root", event.height, event.state_root)
                if event.height > self._executed_height:
                    self._executed_height = event.height
                    self.instructions += event.instructions
                    self.fills += event.fills
