"""Streams full of what waits: hostile numbers, crossing triggers, pairs, slices, silent owners."""

from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.codec import encode
from crypto.merkle import verify_inclusion
from engine.apply import apply_block
from engine.block import BlockInput
from engine.commitment.root import account_key, encode_account
from engine.genesis import MarkParams, OpenInterestParams
from engine.instructions import (
    Amend,
    ArmDeadMan,
    Cancel,
    CancelAll,
    ConditionalOrder,
    MarketOrder,
    OneCancelsOther,
    OracleReport,
    PlaceOrder,
    SelfTradeMode,
    Side,
    TimeInForce,
    TrailingStop,
    Transfer,
    TriggerKind,
    TriggerSource,
    TwapOrder,
    Withdraw,
)
from engine.receipts import Status
from engine.snapshots.whole import restore, snapshot
from engine.views import view_account
from engine.waiting.orders import Conditional
from localnet.splitmix import SplitMix

NAMES = [bytes([value]) * 32 for value in range(1, 6)]
SEEDS = st.integers(0, 2**32)
COUNTS = st.integers(1, 20)
HOSTILE = (0, -1, 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -(2**63))


class Author:
    """Writes instructions from a seed: mostly plausible, some with a field out of all bounds."""

    def __init__(self, seed):
        self.draw = SplitMix(seed).below
        self.mid = 1_000
        self.now_ms = 1_000

    def side(self):
        return Side.BUY if self.draw(2) else Side.SELL

    def price(self, plausible):
        return HOSTILE[self.draw(len(HOSTILE))] if self.draw(25) == 0 else plausible

    def lots(self):
        return self.price(1 + self.draw(40))

    def market(self):
        return 9 if self.draw(40) == 0 else 1 + self.draw(2)

    def common(self):
        tif = (TimeInForce.IOC, TimeInForce.GTC, TimeInForce.FOK, TimeInForce.POST_ONLY)
        return (
            tif[self.draw(3 + (self.draw(20) == 0))],
            self.draw(4) == 0,
            SelfTradeMode(self.draw(4)),
            self.price(self.draw(6) if self.draw(3) == 0 else 0),
            self.price(self.now_ms + self.draw(3_000) if self.draw(4) == 0 else 0),
        )

    def near(self):
        return self.price(self.mid + self.draw(41) - 20)

    def conditional(self, market):
        side, source = self.side(), TriggerSource(self.draw(3))
        if self.draw(3) == 0:
            offset, slack = self.price(1 + self.draw(15)), self.price(self.draw(30))
            common = self.common()
            return TrailingStop(market, side, source, offset, slack, self.lots(), *common)
        kind = TriggerKind(self.draw(2))
        limit = self.price(self.mid + side * self.draw(30))
        common = self.common()
        return ConditionalOrder(
            market, side, kind, source, self.near(), limit, self.lots(), *common
        )

    def limit(self, market, tif):
        common = self.common()
        return PlaceOrder(market, self.side(), self.near(), self.lots(), tif, *common[1:4])

    def instruction(self):
        choice, market = self.draw(108), self.market()
        if choice < 25:
            return self.limit(market, TimeInForce(self.draw(4)))
        if choice < 35:
            side = self.side()
            return MarketOrder(market, side, self.mid + 20 * side, self.lots())
        if choice < 60:
            return self.conditional(market)
        if choice < 75:
            resting = self.limit(market, TimeInForce.POST_ONLY)
            one = resting if self.draw(2) else self.conditional(market)
            return OneCancelsOther(one, self.conditional(market))
        if choice < 83:
            interval = self.price(1_000)
            duration = self.price(1_000 * (1 + self.draw(4)))
            return TwapOrder(
                market, self.side(), self.near(), self.lots(), duration, interval, self.draw(4) == 0
            )
        if choice < 88:
            return ArmDeadMan(self.price(self.draw(2_000)))
        if choice < 94:
            return Cancel(*((0, 1 + self.draw(5)) if self.draw(2) else (1 + self.draw(150), 0)))
        if choice < 96:
            return CancelAll((None, 1, 2)[self.draw(3)])
        if choice < 100:
            return Amend(1 + self.draw(150), 0, self.near(), self.lots())
        if choice < 104:
            return Withdraw(self.price(1 + self.draw(50_000)), b"d" * (20 - (self.draw(8) == 0)))
        return Transfer(self.price(1 + self.draw(50_000)), NAMES[self.draw(5)])

    def blocks(self, count):
        """(milliseconds that pass, index moves, bundles by sender)."""
        for _ in range(count):
            moves = []
            if self.draw(2):
                self.mid += self.draw(31) - 15
                moves.append((1 + self.draw(2), self.mid))
            bundles = [
                (self.draw(5), [self.instruction() for _ in range(1 + self.draw(5))])
                for _ in range(1 + self.draw(5))
            ]
            passed_ms = self.draw(3) * 400
            self.now_ms += passed_ms
            yield passed_ms, moves, bundles


def make(make_world):
    return make_world(
        markets=2,
        auctions=(2,),
        balance=150_000,
        maker_fee_ppm=-150,
        taker_fee_ppm=400,
        orders_max=8,
        mark=MarkParams(100_000, 30_000, average_ms=2_000, interval_ms=400),
        open_interest=OpenInterestParams(300_000, 3_000_000),
    )


def play(world, seed, count):
    """Run a stream; `World.block` checks conservation and positions over all accounts."""
    for passed_ms, moves, bundles in Author(seed).blocks(count):
        world.time_ms += passed_ms
        envelopes = [world.envelope(NAMES[sender], *body) for sender, body in bundles]
        for market, price in moves:
            report = OracleReport(market, price, world.state.height + 1, world.time_ms)
            envelopes.append(world.envelope(world.REPORTER, report))
        output = world.block(envelopes)
        assert len(output.receipts) == sum(len(body) for _, body in bundles) + len(moves)
        check_tables(world.state)


def check_tables(state):
    """Every table of what waits says what the orders say."""
    waiting = {}
    for account in state.accounts.values():
        waiting |= account.waiting
        assert list(account.waiting) == sorted(account.waiting)
        both = (*account.orders.values(), *account.waiting.values())
        assert account.clients == {each.client_id: each for each in both if each.client_id}
    assert state.waiting == waiting
    conditionals = {i: each for i, each in waiting.items() if isinstance(each, Conditional)}
    twaps = {i: each for i, each in waiting.items() if i not in conditionals}
    far = 2**64
    assert sorted(state.waiting_expiries.due(far)) == sorted(
        i for i, each in conditionals.items() if each.good_til_ms
    )
    assert sorted(state.slices.due(far)) == sorted(twaps)
    assert sorted(state.deadlines.due(far)) == sorted(
        name for name, account in state.accounts.items() if account.deadline_ms
    )
    pairs = {}
    for order_id, each in conditionals.items():
        if each.partner in conditionals:
            assert conditionals[each.partner].partner == order_id
        elif each.partner:
            pairs[each.partner] = order_id
            assert state.orders[each.partner].exposure.account is each.account
    assert state.pairs == pairs
    for market in state.markets.values():
        mine = [each for each in waiting.values() if each.market is market]
        watch = market.watch
        if watch is None:
            assert not mine
            continue
        assert watch.count == len(mine)
        own = [each for each in mine if isinstance(each, Conditional)]
        assert watch.fired == {each.order_id: each for each in own if each.is_fired}
        unfired = [each for each in own if not each.is_fired]
        assert watch.last_count == sum(each.source == TriggerSource.LAST for each in unfired)
        assert watch.trailing == {each.order_id: each for each in unfired if each.offset}
        listed = [entry for entries in watch.standing for entry in entries]
        assert sorted(entry[1] for entry in listed) == sorted(
            each.order_id for each in unfired if not each.offset
        )
        assert all(entries == sorted(entries) for entries in watch.standing)
        assert all(entry[0] == entry[2].sense * entry[2].trigger for entry in listed)


@settings(max_examples=120, deadline=None)
@given(SEEDS, COUNTS)
def test_tables_money_and_positions_hold_after_every_block(make_world, seed, count):
    play(make(make_world), seed, count)


@settings(max_examples=40, deadline=None)
@given(SEEDS, COUNTS, st.integers(0, 20))
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
    (_, _, bundles), *_ = author.blocks(1)
    envelopes = [world.envelope(NAMES[sender], *body) for sender, body in bundles]
    report = OracleReport(1, author.mid, world.state.height + 1, world.time_ms + 900)
    envelopes.append(world.envelope(world.REPORTER, report))
    outputs = set()
    for turn in range(len(envelopes)):
        for order in (
            envelopes[turn:] + envelopes[:turn],
            envelopes[turn::-1] + envelopes[turn + 1 :],
        ):
            state = restore(base)
            block = BlockInput(
                state.height + 1, world.time_ms + 900, b"s" * 32, tuple(order), (), world.reporters
            )
            outputs.add(encode(apply_block(state, block)))
    assert len(outputs) == 1


@settings(max_examples=60, deadline=None)
@given(SEEDS, COUNTS)
def test_a_refused_instruction_changes_no_account(make_world, seed, count):
    """Of a block of one instruction that is refused, at a time at which nothing else happens."""
    world = make(make_world)
    play(world, seed, count)
    world.block()
    author = Author(seed + 1)
    for _ in range(20):
        before = {name: encode_account(world.state.accounts[name]) for name in NAMES}
        sender = NAMES[author.draw(5)]
        envelope = world.envelope(sender, author.instruction())
        output = world.block([envelope])
        (receipt,) = output.receipts
        after = {name: encode_account(world.state.accounts[name]) for name in NAMES}
        if receipt.status is Status.REFUSED and not output.events and not output.fills:
            assert after == before
        for name in NAMES:
            proof = world.state.tree.prove(account_key(name))
            assert verify_inclusion(output.state_root, account_key(name), after[name], proof)


@settings(max_examples=30, deadline=None)
@given(SEEDS, COUNTS)
def test_what_waits_needs_no_margin(make_world, seed, count):
    world = make(make_world)
    play(world, seed, count)
    for name in NAMES:
        view = view_account(world.state, name)
        assert view.initial_margin_microquote == sum(
            position.initial_margin_microquote for position in view.positions
        )
        account = world.state.accounts[name]
        if account.margin_epoch == world.state.margin_epoch:
            assert (account.im, account.equity) == (
                view.initial_margin_microquote,
                view.equity_microquote,
            )
