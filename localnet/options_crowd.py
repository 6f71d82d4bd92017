"""Those who trade on a day of options (`localnet.options_day`). All that they know, a node's door
has told them."""

import time
from collections.abc import Callable, Sequence
from typing import Final

import trio
from msgspec.structs import replace

from engine.instructions import Instruction, MarginMode, PlaceOrder, SetMarginMode, Side
from engine.receipts import ReasonCode
from localnet.courier import Courier, Ticket
from localnet.market_maker import pack_requotes
from localnet.options_day import (
    CROSS_SPREADER,
    PORTFOLIO_SPREADER,
    SPREAD_LEFT_MIN_MS,
    SPREAD_PARTS_OF_BASE,
    OptionsDay,
    Spread,
    SpreadAttempt,
    choose_spread,
    compute_option_quotes,
    compute_random_take,
    compute_take,
    find_open_series,
)
from localnet.splitmix import SplitMix
from node.cli.views import MarketInfo, read_view
from node.client_stream import DoorError
from node.envelopes import EnvelopeFactory
from node.network import Network

LOOK_INTERVAL_S: Final = 0.5
"""The markets are asked for so often."""

QUOTE_INTERVAL_S: Final = 1.0
"""Between two replacements of one quoter's quotes."""

TAKE_INTERVAL_S: Final = 1.5
"""Between two orders of one taker."""

SPREAD_INTERVAL_S: Final = 0.5
"""Between two looks for an expiry in which no spread has been tried."""


class OptionsCrowd:
    """Quoters, takers and spreaders."""

    def __init__(self, network: Network, day: OptionsDay, note: Callable[[str], None]) -> None:
        """`note` hears what goes wrong on the way and is mended."""

        def open_factory(name: str) -> EnvelopeFactory:
            return EnvelopeFactory(network.account_secret(name), network.chain_id)

        self._note = note
        markets = {each.symbol: each for each in network.genesis().engine.markets}
        self._params = markets[day.market]
        self._seed = network.manifest.seed
        self._quoters = [open_factory(name) for name in day.quoter_names()]
        self._takers = [open_factory(name) for name in day.taker_names()]
        self._spreaders = {
            name: open_factory(name) for name in (PORTFOLIO_SPREADER, CROSS_SPREADER)
        }
        doors = [node.door_endpoint() for node in network.nodes]
        others = [*self._takers, *self._spreaders.values()]
        self._quoting = Courier(doors, [each.account for each in self._quoters], note=note)
        # By another node: what one hears from its own door holds at all of them.
        self._taking = Courier([*doors[1:], doors[0]], [each.account for each in others], note=note)
        self._series: list[MarketInfo] = []
        """Those that took orders when the markets were last looked at."""
        self.attempts: list[SpreadAttempt] = []
        """In the order in which they were made."""

    async def run(self) -> None:
        """Act until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._quoting.run)
            nursery.start_soon(self._taking.run)
            nursery.start_soon(self._look)
            for factory in self._quoters:
                nursery.start_soon(self._quote, factory)
            for number, factory in enumerate(self._takers):
                nursery.start_soon(self._take, factory, number)
            nursery.start_soon(self._spread)

    async def _look(self) -> None:
        while True:
            await trio.sleep(LOOK_INTERVAL_S)
            try:
                answer = await self._taking.query("markets")
                markets = read_view(tuple[MarketInfo, ...], answer, "markets")
            except DoorError:
                continue  # Between two nodes, or at a liar's.
            self._series = find_open_series(markets, self._params.market)

    async def _quote(self, factory: EnvelopeFactory) -> None:
        """Replace the quotes of all open series, one bundle after the other; the next replacement
        waits until this one is ordered, or both would cancel first and then both quote."""
        while True:
            await trio.sleep(QUOTE_INTERVAL_S)
            quotes: list[tuple[int, list[PlaceOrder]]] = []
            now_ms = time.time_ns() // 1_000_000
            for each in self._series:
                assert each.option is not None, "only series are here"
                strike = each.option.strike_ticks * self._params.tick_size_microquote
                quotes.append((each.market, compute_option_quotes(each, strike, now_ms)))
            tickets = [
                await self._quoting.send(factory, bundle) for bundle in pack_requotes(quotes)
            ]
            for ticket in tickets:
                await ticket.ordered.wait()

    async def _take(self, factory: EnvelopeFactory, number: int) -> None:
        random = SplitMix(self._seed + number)
        # Spread over the interval, so that not all send at once.
        await trio.sleep(TAKE_INTERVAL_S * number / len(self._takers))
        while True:
            await trio.sleep(TAKE_INTERVAL_S)
            order = compute_random_take(random, self._series)
            if order is not None:
                await self._send(factory, [order])

    async def _spread(self) -> None:
        """Try one spread in each expiry, with both accounts."""
        ticket = await self._send(
            self._spreaders[PORTFOLIO_SPREADER], [SetMarginMode(MarginMode.PORTFOLIO)]
        )
        if [each.code for each in ticket.receipts] != [ReasonCode.OK]:
            # Its spreads will be refused, which is judged in the end.
            self._note(f"portfolio margin was refused: {ticket.refusal or ticket.receipts}")
        spreads: dict[int, Spread] = {}
        done: set[tuple[str, int]] = set()
        while True:
            await trio.sleep(SPREAD_INTERVAL_S)
            least_ms = time.time_ns() // 1_000_000 + SPREAD_LEFT_MIN_MS
            expiries = {each.option.expiry_ms for each in self._series if each.option is not None}
            for expiry_ms in sorted(each for each in expiries if each >= least_ms):
                if expiry_ms not in spreads:
                    spread = choose_spread(self._series, expiry_ms)
                    if spread is None:
                        continue
                    spreads[expiry_ms] = spread
                for name in self._spreaders:
                    if (name, expiry_ms) in done:
                        continue
                    if await self._try_spread(name, spreads[expiry_ms]):
                        done.add((name, expiry_ms))

    async def _try_spread(self, name: str, spread: Spread) -> bool:
        """Buy, and sell as much against it; False if one of them is not quoted now."""
        factory = self._spreaders[name]
        series = {each.market: each for each in self._series}
        bought, sold = series.get(spread.bought), series.get(spread.sold)
        if bought is None or sold is None:
            return False
        lots = self._params.lots_per_base // SPREAD_PARTS_OF_BASE
        buy, sell = compute_take(bought, Side.BUY, lots), compute_take(sold, Side.SELL, lots)
        if buy is None or sell is None:
            return False
        ticket = await self._send(factory, [buy])
        bought_lots = sum(each.filled_lots for each in ticket.receipts)
        if not bought_lots:
            # The quotes may just have been replaced; what else it may be is worth knowing.
            codes = ", ".join(each.code.value for each in ticket.receipts) or ticket.refusal
            self._note(f"{name} could not buy {bought.symbol}: {codes}")
            return False
        ticket = await self._send(factory, [replace(sell, size_lots=bought_lots)])
        self.attempts.append(
            SpreadAttempt(
                name, bought.symbol, sold.symbol, bought_lots, ticket.envelope.envelope_id
            )
        )
        return True

    async def _send(self, factory: EnvelopeFactory, instructions: Sequence[Instruction]) -> Ticket:
        """Send a bundle and wait for its result."""
        ticket = await self._taking.send(factory, instructions)
        await ticket.done.wait()
        return ticket
