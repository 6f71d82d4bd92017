"""Days on which prices crash: what holds after every block, whoever is liquidated."""

from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.codec import encode
from engine.apply import apply_block
from engine.block import BlockInput, Deposit
from engine.genesis import LiquidationParams
from engine.instructions import Bid, CancelAll, MarketOrder, OracleReport, PlaceOrder, Side
from engine.receipts import LiquidationStage
from engine.snapshots.whole import restore, snapshot
from engine.views import view_account
from localnet.splitmix import SplitMix

NAMES = [bytes([value]) * 32 for value in range(1, 6)]
SEEDS = st.integers(0, 2**32)
COUNTS = st.integers(1, 25)
HOSTILE = (0, -1, 1, 1_000_000, 1_000_001, 2**63, 2**64 - 1, -(2**63))


def make(make_world, insurance=20_000):
    params = LiquidationParams(
        insurance_microquote=insurance,
        part_min_microquote=20_000,
        cooldown_ms=300,
        retry_ms=100,
        closing_max_ms=500,
        auction_fast_ms=300,
        auction_slow_ms=700,
        insolvent_ms=800,
    )
    return make_world(
        markets=2,
        balance=100_000,
        maker_fee_ppm=-150,
        taker_fee_ppm=400,
        orders_max=8,
        price_band_ppm=500_000,
        liquidation=params,
    )


class Author:
    """Leveraged accounts, prices that jump by up to a third, and bids of all kinds."""

    def __init__(self, seed):
        self.draw = SplitMix(seed).below
        self.mids = {1: 1_000, 2: 1_000}

    def instruction(self):
        choice, market = self.draw(100), 1 + self.draw(2)
        side = Side.BUY if self.draw(2) else Side.SELL
        mid = self.mids[market]
        if choice < 55:
            price = max(mid + self.draw(31) - 15, 1)
            return PlaceOrder(market, side, price, 1 + self.draw(90), reduce_only=self.draw(6) == 0)
        if choice < 75:
            return MarketOrder(market, side, max(mid + 30 * side, 1), 1 + self.draw(90))
        if choice < 97:
            portion, premium = 1 + self.draw(1_000_000), self.draw(60_000)
            if self.draw(10) == 0:
                portion = HOSTILE[self.draw(len(HOSTILE))]
            if self.draw(10) == 0:
                premium = HOSTILE[self.draw(len(HOSTILE))]
            return Bid(NAMES[self.draw(5)], portion, premium)
        return CancelAll()

    def moves(self):
        if self.draw(3):
            return []
        market = 1 + self.draw(2)
        self.mids[market] = max(self.mids[market] * (70 + self.draw(61)) // 100, 20)
        return [(market, self.mids[market])]

    def bundles(self):
        return [
            (self.draw(5), [self.instruction() for _ in range(1 + self.draw(5))])
            for _ in range(1 + self.draw(5))
        ]


def write(world, author):
    envelopes = [world.envelope(NAMES[sender], *body) for sender, body in author.bundles()]
    for market, price in author.moves():
        report = OracleReport(market, price, world.state.height + 1, world.time_ms)
        envelopes.append(world.envelope(world.REPORTER, report))
    return envelopes


def play(world, seed, count):
    """`World.block` checks conservation and positions over all accounts."""
    author = Author(seed)
    for _ in range(count):
        world.time_ms += 100 * author.draw(3)
        deposits = []
        if author.draw(6) == 0:
            deposits.append(Deposit(NAMES[author.draw(5)], 1 + author.draw(100_000), bytes(32)))
        world.block(write(world, author), deposits)
        check_tables(world.state)


def check_tables(state):
    liquidations = state.liquidations
    assert state.insurance >= 0
    assert liquidations.roster == sorted(state.accounts)
    records = {
        name: account.distress
        for name, account in state.accounts.items()
        if account.distress is not None
    }
    assert liquidations.records == records
    assert liquidations.agenda.entries() == sorted(
        (record.due_ms, name) for name, record in records.items()
    )
    assert liquidations.debts == sum(record.debt for record in records.values())
    for account in state.accounts.values():
        if account.margin_epoch == state.margin_epoch:
            view = view_account(state, account.account_id)
            assert account.equity == view.equity_microquote
            assert account.im == view.initial_margin_microquote


@settings(max_examples=120, deadline=None)
@given(SEEDS, COUNTS)
def test_money_positions_and_tables_hold_through_every_crash(make_world, seed, count):
    world = make(make_world)
    play(world, seed, count)
    # All that is found is looked after: nobody is below the margin for long and not in the table.
    world.time_ms += 1
    world.block()
    for name in NAMES:
        view = view_account(world.state, name)
        account = world.state.accounts[name]
        if view.equity_microquote < view.maintenance_margin_microquote:
            assert account.distress is not None


@settings(max_examples=40, deadline=None)
@given(SEEDS, COUNTS)
def test_an_empty_fund_never_owes_and_never_leaves_a_solvent_account_a_debt(
    make_world, seed, count
):
    world = make(make_world, 0)
    play(world, seed, count)
    assert world.state.insurance >= 0


@settings(max_examples=40, deadline=None)
@given(SEEDS, COUNTS, st.integers(0, 25))
def test_live_replay_and_snapshot_with_tail_agree(make_world, seed, count, cut):
    world = make(make_world)
    play(world, seed, count)
    world.check_replay(cut, check_tables)


@settings(max_examples=40, deadline=None)
@given(SEEDS, COUNTS)
def test_no_order_of_the_envelopes_changes_an_output(make_world, seed, count):
    world = make(make_world)
    play(world, seed, count)
    base = snapshot(world.state)
    author = Author(seed + 1)
    world.time_ms += 300
    envelopes = write(world, author)
    outputs = set()
    for turn in range(len(envelopes)):
        for order in (
            envelopes[turn:] + envelopes[:turn],
            envelopes[turn::-1] + envelopes[turn + 1 :],
        ):
            state = restore(base)
            block = BlockInput(
                state.height + 1, world.time_ms, b"s" * 32, tuple(order), (), world.reporters
            )
            outputs.add(encode(apply_block(state, block)))
    assert len(outputs) == 1


def test_the_streams_come_to_every_stage(make_world):
    """Otherwise the properties above would say little."""
    met = set()
    for seed in range(12):
        world = make(make_world, 20_000)
        author = Author(seed)
        for _ in range(30):
            world.time_ms += 100
            output = world.block(write(world, author))
            met |= {type(event).__name__ for event in output.events}
            met |= {record.stage for record in world.state.liquidations.records.values()}
    kinds = {"LiquidationEvent", "AuctionEvent", "SliceEvent", "DeleverageEvent"}
    assert kinds | set(LiquidationStage) <= met
