"""Orders whose fate is followed one by one: what a node promised must come to a result.

Each honest node has a client that hands it an order now and then and notes the receipts. An order
is acknowledged once a receipt says that it is available: from then on no crash of this node may
lose it. Before that it is acknowledged if the node said that it took it, as long as the node lives:
what it took was in its memory alone. In the end each acknowledged order is executed, or refused
with a reason.
"""

from collections.abc import Callable, Sequence
from typing import Final

import trio
from msgspec import Struct

from engine.instructions import PlaceOrder, Side, TimeInForce
from node.client import DoorClient
from node.client_stream import DoorError
from node.envelopes import EnvelopeFactory
from node.network import Network, NetworkNode
from node.protocol import Channel, ReceiptEvent, ReceiptLevel

ACCOUNT: Final = "alice"
INTERVAL_S: Final = 1.0
"""Between two orders of one client."""
RECONNECT_S: Final = 0.3
TIMEOUT_S: Final = 3.0
EXPIRY_HEIGHT: Final = 1_000_000
"""Beyond every run."""
PRICE_TICKS: Final = 560_000
"""Far below the market: an order that takes at once or not at all, and so leaves nothing behind."""
MARKET: Final = 1

ACKNOWLEDGED: Final = (ReceiptLevel.AVAILABLE, ReceiptLevel.ORDERED, ReceiptLevel.EXECUTED)
FINAL: Final = (ReceiptLevel.EXECUTED, ReceiptLevel.REFUSED)


class OrdersSeen(Struct, frozen=True):
    """What became of the orders."""

    sent: int = 0
    """Signed and handed to a node, whether or not it lived to answer."""
    acknowledged: int = 0
    executed: int = 0
    """Of the acknowledged ones; so below."""
    refused: int = 0
    """With their whole envelope: what the engine refuses is executed."""
    unfinished: tuple[str, ...] = ()
    """Ids (hex) and what was last said of each."""


class Fates:
    """What was promised of each order, and what became of it. Pure."""

    def __init__(self, count_starts: Callable[[str], int] = lambda name: 0) -> None:
        """`count_starts` tells how often a node was started."""
        self._count_starts = count_starts
        self._sent: set[bytes] = set()
        self._taken: dict[bytes, tuple[str, int]] = {}
        """The node that took it, and in which of its lives."""
        self._told: dict[bytes, str] = {}
        """What was last said of each that was available once."""
        self._final: dict[bytes, ReceiptLevel] = {}

    def send(self, envelope_id: bytes) -> None:
        """An order was signed. Its receipt may be here before the answer to its submission, which
        a dying node never gives; so it counts from now on."""
        self._sent.add(envelope_id)

    def take(self, envelope_id: bytes, node: str, starts: int) -> None:
        """A node that was started so many times told its client that it took an order."""
        self._taken[envelope_id] = (node, starts)

    def note(self, envelope_id: bytes, level: ReceiptLevel) -> None:
        """A node said this of an envelope; those of others are none of ours."""
        if envelope_id not in self._sent:
            return
        if level in ACKNOWLEDGED or envelope_id in self._told:
            self._told[envelope_id] = level.value
        # A refusal is of one copy: another one may still be executed.
        if level in FINAL and self._final.get(envelope_id) is not ReceiptLevel.EXECUTED:
            self._final[envelope_id] = level

    def note_unknown(self, envelope_id: bytes, code: str) -> None:
        """A node knows nothing of an acknowledged order."""
        if envelope_id in self._told:
            self._told[envelope_id] = code

    def open(self) -> list[bytes]:
        """The acknowledged ones without a result."""
        return [each for each in self._find_acknowledged() if each not in self._final]

    def seen(self) -> OrdersSeen:
        """What became of them so far."""
        acknowledged = self._find_acknowledged()
        levels = [self._final.get(each) for each in acknowledged]
        return OrdersSeen(
            sent=len(self._sent),
            acknowledged=len(levels),
            executed=levels.count(ReceiptLevel.EXECUTED),
            refused=levels.count(ReceiptLevel.REFUSED),
            unfinished=tuple(f"{each.hex()} {acknowledged[each]}" for each in self.open()),
        )

    def _find_acknowledged(self) -> dict[bytes, str]:
        """What was last said of each acknowledged order."""
        living = {
            envelope_id: f"taken by {node}"
            for envelope_id, (node, starts) in self._taken.items()
            if self._count_starts(node) == starts
        }
        return living | self._told


class FollowedOrders:
    """Sends orders and follows them. `run` as a task; then `settle`."""

    def __init__(
        self, network: Network, nodes: Sequence[str], count_starts: Callable[[str], int]
    ) -> None:
        """`nodes` are those that never lie; `count_starts` tells how often one was started."""
        self._count_starts = count_starts
        self._account = network.account(ACCOUNT).account
        self._factory = EnvelopeFactory(network.account_secret(ACCOUNT), network.chain_id)
        self._nodes = [network.node(name) for name in nodes]
        self._fates = Fates(count_starts)
        self._is_sending = True

    async def run(self) -> None:
        """Until cancelled; after `stop_sending` only receipts are noted."""
        async with trio.open_nursery() as nursery:
            for node in self._nodes:
                nursery.start_soon(self._use, node)

    def stop_sending(self) -> None:
        """No more orders."""
        self._is_sending = False

    async def settle(self) -> bool:
        """Ask what became of the acknowledged orders; True if all have a result."""
        for node in self._nodes:
            open_ = self._fates.open()
            if not open_:
                return True
            try:
                await self._ask(node, open_)
            except DoorError:
                continue  # The others know as well.
        return not self._fates.open()

    def seen(self) -> OrdersSeen:
        """What became of them so far."""
        return self._fates.seen()

    # ---- one node --------------------------------------------------------------------------

    async def _use(self, node: NetworkNode) -> None:
        while True:
            try:
                await self._trade(node)
            except* DoorError:
                await trio.sleep(RECONNECT_S)  # It is down or hangs, as it may.

    async def _trade(self, node: NetworkNode) -> None:
        endpoint = node.door_endpoint()
        # Asked before: whatever comes over this connection is said in this life or a later one.
        starts = self._count_starts(node.name)
        async with DoorClient.connect(endpoint.host, endpoint.port, timeout_s=TIMEOUT_S) as client:
            receipts = await client.subscribe(Channel.RECEIPTS, self._account)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.send_orders, client, node.name, starts)
                while True:
                    event = await receipts.receive()
                    if isinstance(event, ReceiptEvent):
                        self._fates.note(event.envelope_id, event.level)

    async def send_orders(self, client: DoorClient, name: str, starts: int) -> None:
        """One after the other, until `stop_sending`. Raises `DoorError`."""
        while self._is_sending:
            order = PlaceOrder(
                market=MARKET,
                side=Side.BUY,
                size_lots=1,
                price_ticks=PRICE_TICKS,
                tif=TimeInForce.IOC,
            )
            envelope = self._factory.sign([order], EXPIRY_HEIGHT)
            self._fates.send(envelope.envelope_id)
            (result,) = await client.submit([envelope.data])
            if result.code is None:
                self._fates.take(envelope.envelope_id, name, starts)
            await trio.sleep(INTERVAL_S)

    async def _ask(self, node: NetworkNode, envelope_ids: Sequence[bytes]) -> None:
        endpoint = node.door_endpoint()
        async with DoorClient.connect(endpoint.host, endpoint.port, timeout_s=TIMEOUT_S) as client:
            for envelope_id in envelope_ids:
                try:
                    answer = await client.query("envelope", envelope_id)
                    self._fates.note(envelope_id, ReceiptLevel(answer["level"]))
                except DoorError as error:
                    if error.code != "envelope.unknown":
                        raise
                    self._fates.note_unknown(envelope_id, error.code)
