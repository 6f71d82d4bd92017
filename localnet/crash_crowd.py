"""Those who are caught in a fall, and those who bid for what they had (`localnet.crash`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import trio

from engine.genesis import MarketParams
from engine.receipts import ReasonCode
from localnet.account_views import read_positions
from localnet.courier import Courier
from localnet.crash import Crash, compute_bids, compute_entry, find_market
from node.client_stream import DoorError
from node.config import Endpoint
from node.envelopes import EnvelopeFactory
from node.network import Network

ENTRY_INTERVAL_S: Final = 0.5
"""Between two orders of a leveraged account: the makers quote anew meanwhile."""

BID_INTERVAL_S: Final = 0.5
"""Between two rounds of bids of one bidder."""


class CrashCrowd:
    """The leveraged accounts and the bidders of one market."""

    def __init__(
        self,
        network: Network,
        markets: Sequence[MarketParams],
        crash: Crash,
        prices: Mapping[int, int],
        doors: Sequence[Endpoint],
        note: Callable[[str], None],
    ) -> None:
        """`prices` are those that the makers quote around, in ticks by market."""
        self._crash = crash
        self._prices = prices
        self._params = find_market(markets, crash.market)
        self._base_ticks = prices[self._params.market]
        self._leveraged = _open_factories(network, crash.leveraged_names())
        self._bidders = _open_factories(network, crash.bidder_names())
        accounts = [each.account for each in (*self._leveraged, *self._bidders)]
        self._courier = Courier(doors, accounts, note=note)

    async def run(self) -> None:
        """Act until cancelled, from when the market is quoted."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._courier.run)
            for factory, deposit in zip(self._leveraged, self._crash.leveraged, strict=True):
                nursery.start_soon(self._enter, factory, deposit)
            for factory in self._bidders:
                nursery.start_soon(self._bid, factory)

    async def _enter(self, factory: EnvelopeFactory, deposit: int) -> None:
        """Buy until the account has what it wants, or all that its margin allows. What a fall takes
        away is not bought again."""
        missing = self._crash.target_lots(deposit, self._params, self._base_ticks)
        while missing > 0:
            order = compute_entry(self._params, self._prices[self._params.market], missing)
            ticket = await self._courier.send(factory, [order])
            await ticket.done.wait()
            if any(each.code is ReasonCode.MARGIN_INSUFFICIENT for each in ticket.receipts):
                return
            missing -= sum(each.filled_lots for each in ticket.receipts)
            await trio.sleep(ENTRY_INTERVAL_S)

    async def _bid(self, factory: EnvelopeFactory) -> None:
        accounts = [each.account for each in self._leveraged]
        market = self._params.market
        while True:
            await trio.sleep(BID_INTERVAL_S)
            try:
                positions = read_positions(await self._courier.query("account", factory.account))
            except DoorError:
                continue  # Between two nodes.
            held = positions.get(market, 0)
            bids = compute_bids(self._params, self._prices[market], held, accounts)
            ticket = await self._courier.send(factory, bids)
            await ticket.done.wait()


def _open_factories(network: Network, names: Sequence[str]) -> list[EnvelopeFactory]:
    return [EnvelopeFactory(network.account_secret(name), network.chain_id) for name in names]
