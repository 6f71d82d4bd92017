"""A small exchange to test on: readable names for accounts, one call per block."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

import pytest
from hypothesis import settings

from crypto.codec import encode
from crypto.digest import Domain, digest
from engine.apply import apply_block
from engine.block import (
    BlockInput,
    BlockOutput,
    Deposit,
    EngineEnvelope,
    Reporter,
    SessionGrant,
    SessionRevocation,
    WithdrawalSettlement,
)
from engine.commitment.leaves import AccountLeaf, LeafPosition, decode_account
from engine.commitment.root import encode_account
from engine.genesis import EngineGenesis, GenesisDeposit, LiquidationParams, MarketParams, Matching
from engine.instructions import (
    Bundle,
    Instruction,
    MarginMode,
    OracleReport,
    PlaceOrder,
    Side,
    VolatilityReport,
)
from engine.invariants import validate_all
from engine.receipts import Receipt
from engine.snapshots.whole import restore, snapshot
from engine.state import EngineState, create_state
from engine.trading.market import Market
from localnet.sim.streams.check import validate_codes

USDC = 1_000_000

Kind = TypeVar("Kind")


class World:
    """An engine, its next height and an envelope counter."""

    ALICE, BOB, CAROL, DAVE, ERIN = (bytes([value]) * 32 for value in range(1, 6))
    REPORTER = b"r" * 32

    def __init__(self, genesis: EngineGenesis, state: EngineState | None = None) -> None:
        self.genesis = genesis
        self.state = create_state(genesis) if state is None else state
        self.time_ms = 1_000
        self.count = 0
        self.reporters: tuple[Reporter, ...] = (Reporter(self.REPORTER, 1),)
        self.inputs: list[BlockInput] = []
        self.output: BlockOutput | None = None

    def envelope(self, sender: bytes, *instructions: Instruction) -> EngineEnvelope:
        return self.raw(sender, encode(Bundle(instructions)))

    def raw(self, sender: bytes, body: bytes) -> EngineEnvelope:
        self.count += 1
        return EngineEnvelope(self.count.to_bytes(32, "big"), sender, self.count, body)

    def block(
        self,
        envelopes: Iterable[EngineEnvelope] = (),
        deposits: Iterable[Deposit] = (),
        settled: Iterable[WithdrawalSettlement] = (),
        grants: Iterable[SessionGrant] = (),
        revocations: Iterable[SessionRevocation] = (),
    ) -> BlockOutput:
        height = self.state.height + 1
        seed = digest(Domain.SEED, height.to_bytes(8, "big"))
        block = BlockInput(
            height,
            self.time_ms,
            seed,
            tuple(envelopes),
            tuple(deposits),
            self.reporters,
            tuple(settled),
            tuple(grants),
            tuple(revocations),
        )
        self.inputs.append(block)
        self.output = apply_block(self.state, block)
        validate_all(self.state)
        validate_codes(block, self.output)
        return self.output

    def run(self, sender: bytes, *instructions: Instruction) -> tuple[Receipt, ...]:
        """One block with one bundle; its receipts in bundle order."""
        return self.block([self.envelope(sender, *instructions)]).receipts

    def one(self, sender: bytes, instruction: Instruction) -> Receipt:
        """One block with one instruction."""
        (receipt,) = self.run(sender, instruction)
        return receipt

    def wait(self, passed_ms: int = 100) -> BlockOutput:
        """Let time pass, and one block."""
        self.time_ms += passed_ms
        return self.block()

    def events(self, kind: type[Kind]) -> list[Kind]:
        """Those of one kind that the last block has told."""
        assert self.output is not None
        return [event for event in self.output.events if isinstance(event, kind)]

    def set_index(self, price_ticks: int, market: int = 1) -> None:
        self.report(price_ticks, market=market)

    def report(
        self,
        index_ticks: int | None = None,
        vols_ppm: tuple[int, ...] | None = None,
        market: int = 1,
        others: Mapping[int, int] = MappingProxyType({}),
    ) -> BlockOutput:
        """One block with the reporter's index, its surface of volatilities, or both; `others` are
        indices of further markets."""
        now, sequence = self.time_ms, self.state.height + 1
        reports: list[Instruction] = []
        if index_ticks:
            reports.append(OracleReport(market, index_ticks, sequence, now))
        reports += [OracleReport(each, price, sequence, now) for each, price in others.items()]
        if vols_ppm:
            reports.append(VolatilityReport(market, vols_ppm, sequence, now))
        receipts = self.run(self.REPORTER, *reports)
        assert {receipt.code for receipt in receipts} == {"ok"}
        assert self.output is not None
        return self.output

    def find_series(self, strike_ticks: int, *, is_call: bool = True, place: int = 0) -> Market:
        """The market of an option on the first perpetual's index; `place` counts expiries."""
        expiry = list(self.state.chains[1].expiries.values())[place]
        return expiry.strikes[strike_ticks][0 if is_call else 1]

    def trade(
        self, buyer: bytes, seller: bytes, price_ticks: int, lots: int, market: int = 1
    ) -> None:
        """Two blocks: the seller quotes, the buyer takes all of it."""
        assert self.one(seller, PlaceOrder(market, Side.SELL, price_ticks, lots)).code == "ok"
        receipt = self.one(buyer, PlaceOrder(market, Side.BUY, price_ticks, lots))
        assert receipt.filled_lots == lots, receipt

    def deposit(self, account: bytes, amount_microquote: int) -> None:
        self.block(deposits=[Deposit(account, amount_microquote, bytes(32))])

    def quote(self, account: bytes) -> int:
        return self.state.accounts[account].quote

    def check_replay(self, cut: int, check: Callable[[EngineState], object] = validate_all) -> None:
        """Live = replayed = snapshot after `cut` blocks and tail; `check` holds of what was
        restored, before the tail and after it."""
        live = snapshot(self.state)
        replayed = create_state(self.genesis)
        outputs, saved = [], snapshot(replayed)
        cut = min(cut, len(self.inputs) - 1)
        for position, block in enumerate(self.inputs):
            if position == cut:
                saved = snapshot(replayed)
            outputs.append(apply_block(replayed, block))
        assert snapshot(replayed) == live
        restored = restore(saved)
        check(restored)
        tail = [apply_block(restored, block) for block in self.inputs[restored.height :]]
        assert tail == outputs[len(outputs) - len(tail) :]
        assert snapshot(restored) == live
        check(restored)
        self.check_leaves()

    def check_leaves(self) -> None:
        """What is read out of the accounts' leaves is what the accounts have."""
        for account in self.state.accounts.values():
            leaf = decode_account(encode_account(account), self.genesis)
            exposures = sorted(account.exposures.items())
            held = tuple(LeafPosition(market, each.lots) for market, each in exposures if each.lots)
            mode = MarginMode.CROSS if account.portfolio is None else MarginMode.PORTFOLIO
            assert leaf == AccountLeaf(
                account.quote,
                held,
                mode,
                bool(account.orders),
                bool(account.waiting or account.deadline_ms),
                bool(account.sessions),
                account.owner.account_id if account.sub else None,
                account.sub,
                None if account.distress is None else account.distress.stage,
            )

    def position(self, account: bytes, market: int = 1) -> int:
        exposure = self.state.accounts[account].exposures.get(market)
        return 0 if exposure is None else exposure.lots

    def open_lots(self) -> dict[int, int]:
        """Open lots by order id."""
        return {order_id: order.lots for order_id, order in sorted(self.state.orders.items())}


def _market(market: int, **changes: int) -> MarketParams:
    values = {
        "tick_size_microquote": 10_000,
        "lots_per_base": 1_000,
        "initial_margin_ppm": 100_000,
        "maintenance_margin_ppm": 50_000,
        "maker_fee_ppm": 0,
        "taker_fee_ppm": 0,
        "price_band_ppm": 500_000,
        "oracle_max_age_ms": 60_000,
    }
    return MarketParams(market=market, symbol=f"M{market}", **(values | changes))


@pytest.fixture(scope="session")
def make_world() -> Callable[..., World]:
    """Make an exchange with an index of 1,000 ticks; unit: 10 micro-quote per lot and tick.

    Keywords: `markets` (default 1), `balance` of each of the five accounts, `index` (None: no
    index yet), `orders_max` per account, `auctions` (the markets that have them), and any market
    parameter.
    """

    def make(
        markets: int = 1,
        balance: int = 1_000_000 * USDC,
        index: int | None = 1_000,
        orders_max: int = 256,
        auctions: tuple[int, ...] = (),
        liquidation: LiquidationParams | None = None,
        **params: int,
    ) -> World:
        names = (World.ALICE, World.BOB, World.CAROL, World.DAVE, World.ERIN)
        genesis = EngineGenesis(
            tuple(
                _market(
                    market,
                    **params | ({"matching": Matching.AUCTION} if market in auctions else {}),
                )
                for market in range(1, markets + 1)
            ),
            tuple(GenesisDeposit(name, balance) for name in names),
            0,
            orders_max,
            liquidation=liquidation,
        )
        world = World(genesis)
        if index is not None:
            for market in range(1, markets + 1):
                world.set_index(index, market)
        return world

    return make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """The default exchange: one market, rich accounts, no fees."""
    return make_world()


@pytest.fixture(scope="session")
def is_long() -> bool:
    """Whether streams are to be long: `--hypothesis-profile=long`, see `tests/conftest.py`."""
    return settings.get_current_profile_name() == "long"
