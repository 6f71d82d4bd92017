"""The demo traders of one localnet: reporters, makers and takers, and how they act together.

`localnet.traders` says what they are for and runs them as a process. Everybody acts on one board of
prices with a version number: when it moves, makers replace their quotes and reporters report; a
chunk of the tape is sent once all makers have quoted its price.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from engine.genesis import MarketParams
from engine.instructions import MarketOrder, PlaceOrder
from engine.limits import INSTRUCTIONS_PER_BUNDLE_MAX
from engine.receipts import Status
from localnet.account_views import read_positions
from localnet.courier import Courier, Ticket
from localnet.crash import Crash, apply_factor, find_market
from localnet.crash_crowd import CrashCrowd
from localnet.market_maker import (
    DEMO_PLAN,
    TAPE_PLAN,
    QuotePlan,
    compute_depth_lots,
    compute_quotes,
    pack_requotes,
)
from localnet.milestone import Milestone
from localnet.price_path import PricePath, compute_base_ticks
from localnet.reporters import Reporter, VolWalk, load_reporter, make_surfaces, run_reporter
from localnet.splitmix import SplitMix
from localnet.takers import TakerBook, compute_protective_ticks, compute_random_order
from localnet.tally import Tally, TapeProgress
from localnet.tape import TapeError, compute_price_ticks, count_trades, read_tape
from localnet.tape_player import TapeChunk, convert_trades, play_tape
from node.client_stream import DoorError
from node.envelopes import EnvelopeFactory
from node.network import Network

MAKERS_MAX: Final = 3
"""Trader accounts that quote; the others take."""

PATH_STEP_S: Final = 0.5
"""Generated prices move this often; makers and reporters follow."""

TAKE_INTERVAL_S: Final = 0.5
"""Each taker sends an order this often."""

POSITIONS_INTERVAL_S: Final = 2.0
"""How often positions are read from the cluster."""

TAPE_FLOW_SHARE: Final = 4
"""A chunk of the tape takes at most one part in so many of the depth quoted on each side, so that
quotes which lag a chunk or two behind still fill it."""


class Maker:
    """One account that quotes."""

    def __init__(self, factory: EnvelopeFactory) -> None:
        self.factory = factory
        self.positions: dict[int, int] = {}
        """Lots by market, as last read."""
        self.quoted = Milestone()
        """The newest version of the prices whose quotes are ordered."""


class Traders:
    """All demo traders of one localnet."""

    def __init__(
        self,
        network: Network,
        *,
        seed: int,
        tape: Path | None = None,
        speed: float = 1.0,
        crash: Crash | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`speed` is how many times faster than recorded the tape is replayed; infinity is as fast
        as receipts come back; `crash` is a fall of one market, with whom it hits; `note` hears what
        goes wrong on the way and is mended. Raises `node.exit_codes.OperatorError`."""
        self._seed = seed
        self._tape = tape
        self._speed = speed
        genesis = network.genesis()
        self._markets = genesis.engine.markets
        self._tape_params = self._markets[0] if tape is not None else None
        self._paths = {
            params.market: PricePath(
                seed, params.market, compute_base_ticks(params.symbol, params.tick_size_microquote)
            )
            for params in self._markets
        }
        self._prices = {market: path.price_ticks for market, path in self._paths.items()}
        if tape is not None:
            assert self._tape_params is not None
            # The market opens at the tape's first price.
            for trade in read_tape(tape):
                price = compute_price_ticks(trade, self._tape_params)
                self._prices[self._tape_params.market] = price
                break
        self._prices_version = Milestone()
        self._index_ready = trio.Event()
        self._reported: dict[int, int] = {}
        self._quorum_power = genesis.committee().quorum_power
        factories = [
            EnvelopeFactory(network.account_secret(account.name), network.chain_id)
            for account in network.accounts
            if account.is_trader
        ]
        makers = min(MAKERS_MAX, len(factories) // 2)
        self._makers = [Maker(factory) for factory in factories[:makers]]
        self._takers = factories[makers:]
        doors = [node.door_endpoint() for node in network.nodes]
        self._maker_courier = Courier(
            doors, [each.factory.account for each in self._makers], note=note
        )
        # The takers begin at the node after the makers', so that two lanes carry the flow.
        self._taker_courier = Courier(
            [*doors[1:], doors[0]], [each.account for each in self._takers], note=note
        )
        self._reporters = [load_reporter(network, node, note) for node in network.nodes]
        accounts = [each.account for each in self._takers]
        self._books = {params.market: TakerBook(accounts) for params in self._markets}
        self._factories = {each.account: each for each in self._takers}
        self._two_sided: set[int] = set()
        self.tally = Tally()
        if tape is not None:
            self.tally.tape = TapeProgress(count_trades(tape))
        self._tape_may_start = trio.Event()
        self._crash = crash
        self._crash_market = (
            None if crash is None else find_market(self._markets, crash.market).market
        )
        self._crowd = (
            None
            if crash is None
            else CrashCrowd(network, self._markets, crash, self._prices, doors, note)
        )
        self._started_s: float | None = None

    def start_tape(self) -> None:
        """Let the tape be played, or the clock of a crash begin; until then the others trade
        around the first price."""
        self._tape_may_start.set()

    async def run(self) -> None:
        """Trade until cancelled. Raises `localnet.tape.TapeError`, in an exception group."""
        async with trio.open_nursery() as nursery:
            for courier in (self._maker_courier, self._taker_courier):
                nursery.start_soon(courier.run)
            for index, reporter in enumerate(self._reporters):
                nursery.start_soon(reporter.courier.run)
                nursery.start_soon(self._report, index, reporter)
            nursery.start_soon(self._move_prices)
            if self._crowd is not None:
                nursery.start_soon(self._crowd.run)
            nursery.start_soon(self._read_positions)
            for maker in self._makers:
                nursery.start_soon(self._make, maker, nursery)
            for position, factory in enumerate(self._takers):
                nursery.start_soon(self._take, factory, position, nursery)
            if self._tape is not None:
                nursery.start_soon(self._replay, self._tape)

    async def _follow(self, ticket: Ticket) -> None:
        """Count an envelope when it is done."""
        await ticket.done.wait()
        self.tally.count(ticket)
        self._note_quotes(ticket)

    # ---- prices and the oracle -------------------------------------------------------------

    async def _move_prices(self) -> None:
        self._prices_version.raise_by_one()
        while True:
            await trio.sleep(PATH_STEP_S)
            for market, path in self._paths.items():
                if self._tape_params is None or market != self._tape_params.market:
                    self._prices[market] = self._bend(market, path.step())
            self._prices_version.raise_by_one()

    def _bend(self, market: int, price_ticks: int) -> int:
        """What a crash makes of a price."""
        if self._crash is None or market != self._crash_market:
            return price_ticks
        if self._started_s is None:
            if not self._tape_may_start.is_set():
                return price_ticks
            self._started_s = trio.current_time()
        elapsed_s = trio.current_time() - self._started_s
        return apply_factor(price_ticks, self._crash.factor_ppm(elapsed_s))

    async def _report(self, index: int, reporter: Reporter) -> None:
        version = 0

        async def await_move() -> None:
            nonlocal version
            await self._prices_version.reached(version + 1)
            version = self._prices_version.value

        def on_reported() -> None:
            self._reported[index] = reporter.power
            if sum(self._reported.values()) >= self._quorum_power:
                self._index_ready.set()

        walk = VolWalk(self._seed, index)

        def make_reported() -> dict[int, tuple[int, ...]]:
            return make_surfaces(self._markets, walk.step())

        await run_reporter(reporter, self._prices, make_reported, await_move, on_reported)

    # ---- makers ----------------------------------------------------------------------------

    async def _make(self, maker: Maker, nursery: trio.Nursery) -> None:
        """Replace the maker's quotes in all markets after every move of prices.

        The next replacement waits until this one is ordered: two in one block would both cancel
        first and then both quote.
        """
        await self._index_ready.wait()
        while True:
            await self._prices_version.reached(maker.quoted.value + 1)
            version = self._prices_version.value
            quotes = [
                (
                    params.market,
                    compute_quotes(
                        self._plan(params),
                        params,
                        self._prices[params.market],
                        maker.positions.get(params.market, 0),
                    ),
                )
                for params in self._markets
            ]
            tickets = [
                await self._maker_courier.send(maker.factory, bundle)
                for bundle in pack_requotes(quotes)
            ]
            for ticket in tickets:
                nursery.start_soon(self._follow, ticket)
            for ticket in tickets:
                await ticket.ordered.wait()
            maker.quoted.raise_to(version)

    def _plan(self, params: MarketParams) -> QuotePlan:
        return TAPE_PLAN if params is self._tape_params else DEMO_PLAN

    def _note_quotes(self, ticket: Ticket) -> None:
        sides: dict[int, set[int]] = {}
        for receipt in ticket.receipts:
            order = ticket.instructions[receipt.index]
            if isinstance(order, PlaceOrder) and receipt.status is Status.RESTING:
                sides.setdefault(order.market, set()).add(order.side)
        self._two_sided.update(market for market, both in sides.items() if len(both) == 2)
        self.tally.quoted = len(self._two_sided) == len(self._markets)

    # ---- takers ----------------------------------------------------------------------------

    async def _take(self, factory: EnvelopeFactory, position: int, nursery: trio.Nursery) -> None:
        """Random orders of one taker, in all markets but the tape's."""
        random = SplitMix(self._seed + 1 + position)
        markets = [params for params in self._markets if params is not self._tape_params]
        if not markets:
            return
        for maker in self._makers:
            await maker.quoted.reached(1)
        # Spread over the interval, so that takers do not all send at once.
        await trio.sleep(TAKE_INTERVAL_S * position / len(self._takers))
        while True:
            params = markets[random.below(len(markets))]
            book = self._books[params.market]
            order = compute_random_order(
                random, params, self._prices[params.market], book.positions[factory.account]
            )
            ticket = await self._taker_courier.send(factory, [order])
            nursery.start_soon(self._follow, ticket)
            await trio.sleep(TAKE_INTERVAL_S)

    async def _replay(self, tape: Path) -> None:
        """Send every trade of the tape, chunk by chunk, into quotes at the chunk's price."""
        params = self._tape_params
        assert params is not None
        await self._tape_may_start.wait()
        for maker in self._makers:
            await maker.quoted.reached(1)
        depth_lots = len(self._makers) * compute_depth_lots(
            TAPE_PLAN, params, self._prices[params.market]
        )
        max_lots = max(1, depth_lots // TAPE_FLOW_SHARE)
        orders = convert_trades(read_tape(tape), params, max_lots)
        async with trio.open_nursery() as nursery:
            async for chunk in play_tape(orders, speed=self._speed, max_lots=max_lots):
                self._prices[params.market] = chunk.price_ticks
                self._prices_version.raise_by_one()
                version = self._prices_version.value
                for maker in self._makers:
                    await maker.quoted.reached(version)
                await self._send_chunk(params, chunk, max_lots, nursery)
        progress = self.tally.tape
        assert progress is not None
        if progress.played != progress.trades:
            raise TapeError(
                f"{tape} has other trades than when it was opened",
                advice="leave the file alone while it is played",
                code="tape.changed",
            )
        self.tally.end_tape()

    async def _send_chunk(
        self, params: MarketParams, chunk: TapeChunk, max_lots: int, nursery: trio.Nursery
    ) -> None:
        book = self._books[params.market]
        by_account: dict[bytes, list[MarketOrder]] = {account: [] for account in book.positions}
        for side, lots, price_ticks, _ in chunk.orders:
            limit = compute_protective_ticks(side, price_ticks)
            order = MarketOrder(params.market, side, limit, lots)
            by_account[book.assign(side, lots)].append(order)
        for account, orders in by_account.items():
            for start in range(0, len(orders), INSTRUCTIONS_PER_BUNDLE_MAX):
                part = orders[start : start + INSTRUCTIONS_PER_BUNDLE_MAX]
                ticket = await self._taker_courier.send(self._factories[account], part)
                nursery.start_soon(self._follow_tape, ticket)
        surplus = book.rebalance(params, chunk.price_ticks, max_lots)
        if surplus is not None:
            account, order = surplus
            ticket = await self._taker_courier.send(self._factories[account], [order])
            nursery.start_soon(self._follow, ticket)

    async def _follow_tape(self, ticket: Ticket) -> None:
        await self._follow(ticket)
        self.tally.count_tape(ticket)

    # ---- positions -------------------------------------------------------------------------

    async def _read_positions(self) -> None:
        """Keep positions as the engine has them: makers lean against them, so do takers."""
        while True:
            await trio.sleep(POSITIONS_INTERVAL_S)
            try:
                for maker in self._makers:
                    view = await self._maker_courier.query("account", maker.factory.account)
                    maker.positions = read_positions(view)
                for factory in self._takers:
                    view = await self._taker_courier.query("account", factory.account)
                    positions = read_positions(view)
                    for market, book in self._books.items():
                        book.set_position(factory.account, positions.get(market, 0))
            except DoorError:
                # Between two nodes; the positions of two seconds ago serve as well.
                continue
