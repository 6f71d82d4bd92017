"""A reproducible stream of blocks for benchmarks and tests: the same bytes for the same seed.

The mix follows what exchanges see: of a hundred instructions 60 add liquidity, 35 cancel and 5
take. Nothing here depends on the engine's answers: cancels name orders by client id, and now and
then name one that has traded meanwhile, as real clients do.
"""

from typing import Final

from msgspec import Struct

from crypto.codec import encode
from crypto.digest import Domain, digest
from engine.block import BlockInput, EngineEnvelope, Reporter
from engine.genesis import EngineGenesis, GenesisDeposit
from engine.instructions import (
    Bundle,
    Cancel,
    Instruction,
    MarketOrder,
    OracleReport,
    PlaceOrder,
    Side,
    TimeInForce,
)
from engine.limits import INSTRUCTIONS_PER_BUNDLE_MAX
from localnet.markets import make_plain_market
from localnet.splitmix import SplitMix

ADD_PERCENT: Final = 60
CANCEL_PERCENT: Final = 35

_REPORTERS: Final = tuple(
    Reporter(digest(Domain.SEED, b"reporter", bytes([index])), 1) for index in range(4)
)
# Traders quote around a mid that walks, clear enough of it that adds seldom trade.
_BASE_PRICE_TICKS: Final = 100_000
_SPREAD_TICKS: Final = 10
_DEPTH_TICKS: Final = 100
_BLOCK_INTERVAL_MS: Final = 20


class WorkloadConfig(Struct, frozen=True):
    """The size of the market that a workload plays on."""

    seed: int = 1
    markets: int = 20
    accounts: int = 10_000
    positions_per_account: int = 4
    instructions_per_bundle: int = 1
    oracle_interval_blocks: int = 10


class Workload:
    """Makes blocks one after the other; keep one for each state."""

    def __init__(self, config: WorkloadConfig) -> None:
        self.config = config
        self._random = SplitMix(config.seed)
        self._accounts = [
            digest(Domain.SEED, b"account", index.to_bytes(4, "big"))
            for index in range(config.accounts)
        ]
        self._mid = [_BASE_PRICE_TICKS] * config.markets
        self._client_ids = [0] * config.accounts
        self._open_by_trader: list[list[int]] = [[] for _ in range(config.accounts)]
        """Client ids of orders that were placed and not yet cancelled."""
        self._owners: list[int] = []
        """Traders, once for each such order; entries may be out of date."""
        self._height = 0
        self._count = 0

    def genesis(self) -> EngineGenesis:
        """The markets and funded accounts."""
        markets = tuple(
            make_plain_market(index + 1, f"M{index + 1}-PERP")
            for index in range(self.config.markets)
        )
        deposits = tuple(GenesisDeposit(account, 10**12) for account in self._accounts)
        return EngineGenesis(markets, deposits)

    def setup_blocks(self) -> list[BlockInput]:
        """Blocks after which every market has an index and every account its positions.

        Accounts trade in pairs: the even one sells, the odd one buys, the same lots in each of
        their markets.
        """
        config = self.config
        blocks = [self._block(self._reports())]
        stride = max(config.markets // max(config.positions_per_account, 1), 1)
        envelopes: list[EngineEnvelope] = []
        for index in range(config.accounts - config.accounts % 2):
            orders: list[Instruction] = []
            for position in range(config.positions_per_account):
                market = (index // 2 + position * stride) % config.markets
                price = self._mid[market]
                if index % 2 == 0:
                    tif = TimeInForce.POST_ONLY
                    orders.append(PlaceOrder(market + 1, Side.SELL, price, 10, tif))
                else:
                    orders.append(MarketOrder(market + 1, Side.BUY, price, 10))
            envelopes.append(self._envelope(self._accounts[index], orders))
            if len(envelopes) == 2_000:
                blocks.append(self._block(envelopes))
                envelopes = []
        if envelopes:
            blocks.append(self._block(envelopes))
        return blocks

    def block(self, instructions: int) -> BlockInput:
        """The next block, with this many instructions of traders, and oracle reports when due."""
        envelopes: list[EngineEnvelope] = []
        placed: list[tuple[int, int]] = []
        per_bundle = self.config.instructions_per_bundle
        while instructions > 0:
            size = min(per_bundle, instructions)
            instructions -= size
            choice = self._random.below(100)
            sender = None
            if ADD_PERCENT <= choice < ADD_PERCENT + CANCEL_PERCENT:
                sender = self._pick_owner()
            if sender is None:
                # Long bundles come from fewer traders: the market makers.
                sender = self._random.below(max(len(self._accounts) // per_bundle, 1))
            bundle = [self._instruction(sender, choice, placed)]
            for _ in range(size - 1):
                bundle.append(self._instruction(sender, self._random.below(100), placed))
            envelopes.append(self._envelope(self._accounts[sender], bundle))
        for trader, client_id in placed:
            self._open_by_trader[trader].append(client_id)
            self._owners.append(trader)
        if (self._height + 1) % self.config.oracle_interval_blocks == 0:
            self._mid = [mid + self._random.below(11) - 5 for mid in self._mid]
            envelopes.extend(self._reports())
        return self._block(envelopes)

    def resting_block(self, instructions: int) -> BlockInput:
        """The next block, with this many orders that all rest, because no mid moves."""
        envelopes: list[EngineEnvelope] = []
        placed: list[tuple[int, int]] = []
        for _ in range(instructions):
            trader = self._random.below(len(self._accounts))
            order = self._instruction(trader, 0, placed)
            envelopes.append(self._envelope(self._accounts[trader], [order]))
        return self._block(envelopes)

    def _pick_owner(self) -> int | None:
        """Some trader with an open order, or None."""
        owners = self._owners
        while owners:
            position = self._random.below(len(owners))
            owners[position], owners[-1] = owners[-1], owners[position]
            trader = owners.pop()
            if self._open_by_trader[trader]:
                return trader
        return None

    def _instruction(self, trader: int, choice: int, placed: list[tuple[int, int]]) -> Instruction:
        """An add, cancel or take; an add if there is nothing to cancel."""
        market = self._random.below(self.config.markets)
        mid = self._mid[market]
        side = Side.BUY if self._random.below(2) else Side.SELL
        if choice >= ADD_PERCENT + CANCEL_PERCENT:
            limit = mid + side * _DEPTH_TICKS
            return MarketOrder(market + 1, side, limit, 1 + self._random.below(20))
        open_orders = self._open_by_trader[trader]
        if choice >= ADD_PERCENT and open_orders:
            return Cancel(client_id=open_orders.pop(self._random.below(len(open_orders))))
        self._client_ids[trader] += 1
        client_id = self._client_ids[trader]
        placed.append((trader, client_id))
        return PlaceOrder(
            market + 1,
            side,
            mid - side * (_SPREAD_TICKS + self._random.below(_DEPTH_TICKS)),
            1 + self._random.below(20),
            TimeInForce.POST_ONLY if choice % 3 == 0 else TimeInForce.GTC,
            client_id=client_id,
        )

    def _reports(self) -> list[EngineEnvelope]:
        """One envelope of each reporter with the price of every market."""
        source_time_ms = (self._height + 1) * _BLOCK_INTERVAL_MS
        envelopes = []
        for reporter in _REPORTERS:
            for start in range(0, self.config.markets, INSTRUCTIONS_PER_BUNDLE_MAX):
                reports: list[Instruction] = [
                    OracleReport(market + 1, mid, self._height + 1, source_time_ms)
                    for market, mid in enumerate(self._mid)
                ]
                part = reports[start : start + INSTRUCTIONS_PER_BUNDLE_MAX]
                envelopes.append(self._envelope(reporter.key, part))
        return envelopes

    def _envelope(self, sender: bytes, instructions: list[Instruction]) -> EngineEnvelope:
        self._count += 1
        body = encode(Bundle(tuple(instructions)))
        return EngineEnvelope(self._count.to_bytes(32, "big"), sender, self._count, body)

    def _block(self, envelopes: list[EngineEnvelope]) -> BlockInput:
        self._height += 1
        return BlockInput(
            self._height,
            self._height * _BLOCK_INTERVAL_MS,
            digest(Domain.SEED, b"block", self._height.to_bytes(8, "big")),
            tuple(envelopes),
            (),
            _REPORTERS,
        )
