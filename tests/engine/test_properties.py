"""Streams of everything at once: what holds after every block, and that replays agree."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from crypto.codec import encode
from crypto.merkle import compute_merkle_root, verify_inclusion
from engine.accounts.withdrawals import encode_withdrawal
from engine.block import WithdrawalSettlement
from engine.commitment.records import encode_order
from engine.commitment.root import (
    SYSTEM_KEY,
    account_key,
    encode_account,
    encode_market,
    encode_system,
    market_key,
    withdrawal_key,
)
from engine.genesis import FeeTier, FeeTiers, MarkParams, OpenInterestParams
from engine.instructions import (
    Amend,
    Cancel,
    CancelAll,
    MarketOrder,
    OnBehalf,
    OracleReport,
    PlaceOrder,
    SelfTradeMode,
    Side,
    TimeInForce,
    Transfer,
    Withdraw,
)
from engine.views import view_account, view_book, view_order
from localnet.splitmix import SplitMix

NAMES = [bytes([value]) * 32 for value in range(1, 6)]
SEEDS = st.integers(0, 2**32)
COUNTS = st.integers(1, 25)
HOSTILE = (0, -1, 2**31, 2**56, 2**63, 2**64 - 1, -(2**63))
TIFS = (*TimeInForce, TimeInForce.GTC, TimeInForce.GTC, TimeInForce.POST_ONLY)


def _instruction(draw, mids):
    """One instruction out of a mix in which most orders are plausible and close to the mid.

    Drawn from a seed, not by strategies: those favour small and simple values so strongly that
    positions, margin calls and reduce-only orders hardly ever come together.
    """
    if draw(14) == 0:
        return _collateral(draw)
    if draw(10) == 0:
        return OnBehalf(draw(4), _own(draw, mids))
    return _own(draw, mids)


def _own(draw, mids):
    choice, market = draw(100), 1 + draw(2)
    side = Side.BUY if draw(2) else Side.SELL
    price, lots = mids[market] + draw(25) - 12, 1 + draw(60)
    client_id = draw(5) if draw(3) == 0 else 0
    mode = SelfTradeMode(draw(4))
    if choice < 60:
        tif = TIFS[draw(len(TIFS))]
        rests = tif in (TimeInForce.GTC, TimeInForce.POST_ONLY)
        good_til_ms = 1_000 + draw(5_000) if rests and draw(8) == 0 else 0
        reduce_only = draw(3) == 0
        return PlaceOrder(market, side, price, lots, tif, reduce_only, mode, client_id, good_til_ms)
    if choice < 75:
        return MarketOrder(market, side, price + 10 * side, lots, draw(4) == 0, mode, client_id)
    if choice < 85:
        return Cancel(client_id=client_id) if client_id else Cancel(1 + draw(150))
    if choice < 87:
        return CancelAll((None, 1, 2)[draw(3)])
    return Amend(0 if client_id else 1 + draw(150), client_id, price, lots)


def _collateral(draw):
    """A withdrawal or a transfer, now and then of an amount or to a place that there is not."""
    amount = HOSTILE[draw(len(HOSTILE))] if draw(6) == 0 else 1 + draw(60_000)
    if draw(2):
        return Withdraw(amount, b"" if draw(8) == 0 else b"d" * 20)
    if draw(2):
        return Transfer(amount, sub=draw(4))
    return Transfer(amount, b"x" * 32 if draw(8) == 0 else NAMES[draw(5)])


def _settle(state):
    """L1 pays or rejects some of what is pending, and now and then a number that is not."""
    height = state.height
    numbers = [number for number in state.withdrawals if (number + height) % 3 == 0]
    numbers += [state.next_withdrawal_id + 1] if height % 7 == 0 else []
    return [WithdrawalSettlement(number, number % 2 == 0) for number in numbers]


def _stream(seed, count):
    """Blocks as (index move or None, bundles by sender)."""
    draw = SplitMix(seed).below
    mids = {1: 1_000, 2: 1_000}
    blocks = []
    for _ in range(count):
        move = None
        if draw(5) == 0:
            market = 1 + draw(2)
            mids[market] += draw(101) - 50
            move = (market, mids[market])
        bundles = [
            (draw(5), [_instruction(draw, mids) for _ in range(1 + draw(5))])
            for _ in range(draw(6))
        ]
        blocks.append((move, bundles))
    return blocks


def _is_healthy(state, name):
    account = view_account(state, name)
    return account.equity_microquote >= account.initial_margin_microquote


def _is_covered(state, name):
    """Whether equity covers the IM of the positions alone.

    An account may drop below its whole IM by closing at a loss while orders are open: those are
    checked again before they trade.
    """
    account = view_account(state, name)
    rates = {number: market.im_rate for number, market in state.markets.items()}
    return account.equity_microquote >= sum(
        -(-abs(position.size_lots) * rates[position.market] // 1_000_000)
        for position in account.positions
    )


def _check_tables(state):
    """Every sum and index kept beside the orders says what the orders say."""
    for market in state.markets.values():
        for side in (market.book.bids, market.book.asks):
            assert side.keys == sorted(side.levels)
            for key, level in side.levels.items():
                queue, order = [], level.head
                while order is not None:
                    queue.append(order)
                    order = order.newer
                ids = [order.order_id for order in queue]
                assert ids == sorted(ids)
                assert queue[-1] is level.tail
                assert (level.count, level.lots) == (len(queue), sum(o.lots for o in queue))
                assert all(o.side == side.sign and o.price * o.side == key for o in queue)
        open_orders = [o for o in state.orders.values() if o.exposure.market is market]
        assert market.book.order_count == len(open_orders)
    for account in state.accounts.values():
        for exposure in account.exposures.values():
            orders = [o for o in account.orders.values() if o.exposure is exposure]
            reduce_only = [o for o in orders if o.reduce_only]
            assert exposure.order_count == len(orders)
            assert exposure.open_buy == sum(o.lots for o in orders if o.side > 0)
            assert exposure.open_sell == sum(o.lots for o in orders if o.side < 0)
            assert list(exposure.reduce_orders.values()) == reduce_only
            assert exposure.reduce_only_lots == sum(o.lots for o in reduce_only)
            assert exposure.reduce_only_lots <= abs(exposure.lots)
            assert all(o.side * exposure.lots < 0 for o in reduce_only)
        assert account.clients == {o.client_id: o for o in account.orders.values() if o.client_id}
        own = [each for each in state.withdrawals.values() if each.account is account]
        assert list(account.withdrawals.values()) == own
        records = b"".join(encode_order(o) for o in account.orders.values())
        assert account.order_records.collect() == records
        if account.margin_epoch == state.margin_epoch:
            view = view_account(state, account.account_id)
            assert account.equity == view.equity_microquote
            assert account.im == view.initial_margin_microquote


def _check_receipts(world, output, bundles):
    assert len(output.receipts) == sum(len(body) for _, body in bundles)
    taken = {}
    for fill in output.fills:
        sides = [(fill.taker_order_id, fill.taker_fee_microquote)]
        if world.state.markets[fill.market].has_call_auctions:
            sides.append((fill.maker_order_id, fill.maker_fee_microquote))
        for order_id, charged in sides:
            lots, notional, fee = taken.get(order_id, (0, 0, 0))
            taken[order_id] = (
                lots + fill.size_lots,
                notional + fill.size_lots * fill.price_ticks * 10,
                fee + charged,
            )
        assert fill.maker != fill.taker
    for receipt in output.receipts:
        expected = taken.get(receipt.order_id, (0, 0, 0)) if receipt.filled_lots else (0, 0, 0)
        assert expected == (
            receipt.filled_lots,
            receipt.filled_notional_microquote,
            receipt.fee_microquote,
        )
    kept = (*output.receipts, *output.fills, *output.events)
    assert output.receipts_root == compute_merkle_root(encode(entry) for entry in kept)


def _play(world, blocks):
    """Run the blocks, checking what must hold after each; return all outputs."""
    outputs = []
    for index, bundles in blocks:
        world.time_ms += 110
        # After this block neither index nor mark moves in the next one, which has the same time.
        outputs.append(world.block() if index is None else _report(world, *index))
        healthy = [name for name in NAMES if _is_healthy(world.state, name)]
        envelopes = [world.envelope(NAMES[sender], *body) for sender, body in bundles]
        output = world.block(envelopes, settled=_settle(world.state))
        outputs.append(output)
        _check_tables(world.state)
        _check_receipts(world, output, bundles)
        assert all(_is_covered(world.state, name) for name in healthy)
        foks = {
            (envelope.envelope_id, position): instruction
            for envelope, (_, body) in zip(envelopes, bundles, strict=True)
            for position, instruction in enumerate(body)
            if isinstance(instruction, PlaceOrder) and instruction.tif is TimeInForce.FOK
        }
        for receipt in output.receipts:
            if (receipt.envelope_id, receipt.index) in foks:
                assert receipt.status.name == "FILLED" or receipt.filled_lots == 0
                assert receipt.resting_lots == 0
    return outputs


def _report(world, market, price):
    report = OracleReport(market, price, world.state.height + 1, world.time_ms)
    return world.block([world.envelope(world.REPORTER, report)])


def _make(make_world):
    # 60 lots at 1,000 ticks need 60,000 of margin: poor enough to be refused now and then.
    world = make_world(
        markets=2,
        auctions=(2,),
        balance=150_000,
        maker_fee_ppm=-150,
        taker_fee_ppm=400,
        orders_max=8,
        mark=MarkParams(100_000, 30_000, average_ms=200, interval_ms=100),
        open_interest=OpenInterestParams(500_000, 10_000_000),
    )
    fees = FeeTiers((FeeTier(10**5, 50, 0), FeeTier(10**6, 100, 50)), 1_000, 2)
    world = type(world)(replace(world.genesis, fee_tiers=fees))
    for market in (1, 2):
        world.set_index(1_000, market)
    return world


@settings(max_examples=200, deadline=None)
@given(SEEDS, COUNTS)
def test_tables_margin_receipts_and_money_hold_after_every_block(make_world, seed, count):
    _play(_make(make_world), _stream(seed, count))


@settings(max_examples=60, deadline=None)
@given(SEEDS, COUNTS, st.integers(0, 25))
def test_live_replay_and_snapshot_with_tail_agree(make_world, seed, count, cut):
    world = _make(make_world)
    _play(world, _stream(seed, count))
    world.check_replay(cut, _check_tables)


@settings(max_examples=60, deadline=None)
@given(SEEDS, COUNTS)
def test_the_root_proves_every_account_market_and_the_totals(make_world, seed, count):
    world = _make(make_world)
    root = _play(world, _stream(seed, count))[-1].state_root
    state = world.state
    leaves = {account_key(name): encode_account(a) for name, a in state.accounts.items()}
    leaves |= {market_key(number): encode_market(m) for number, m in state.markets.items()}
    leaves |= {
        withdrawal_key(number): encode_withdrawal(each)
        for number, each in state.withdrawals.items()
    }
    leaves[SYSTEM_KEY] = encode_system(state)
    for key, value in leaves.items():
        assert verify_inclusion(root, key, value, state.tree.prove(key))
        assert not verify_inclusion(root, key, value + b"\x00", state.tree.prove(key))
    assert len(state.tree) == len(leaves)


def test_views_show_orders_levels_and_positions(world):
    world.run(
        world.ALICE,
        PlaceOrder(1, Side.BUY, 990, 5, client_id=4),
        PlaceOrder(1, Side.BUY, 990, 2),
        PlaceOrder(1, Side.BUY, 991, 1),
    )
    world.one(world.BOB, PlaceOrder(1, Side.SELL, 990, 3))
    book = view_book(world.state, 1, 1)
    assert [(level.price_ticks, level.size_lots, level.orders) for level in book.bids] == [
        (990, 5, 2)
    ]
    assert book.asks == ()
    assert view_book(world.state, 2, 1) is None
    order = view_order(world.state, 1)
    assert (order.owner, order.size_lots, order.client_id) == (world.ALICE, 3, 4)
    assert view_order(world.state, 3) is None
    account = view_account(world.state, world.ALICE)
    assert [(p.market, p.size_lots, p.open_buy_lots) for p in account.positions] == [(1, 3, 5)]
    assert account.positions[0].initial_margin_microquote == 8 * 1_000
    assert [o.order_id for o in account.orders] == [1, 2]
    assert view_account(world.state, b"x" * 32) is None
