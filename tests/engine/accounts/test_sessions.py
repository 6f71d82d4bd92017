"""Session keys in the engine: what they may ask for, what they have spent, and how they end."""

from itertools import permutations

import msgspec
import pytest
from msgspec.structs import replace

from crypto.codec import decode, encode
from engine.apply import apply_block
from engine.block import BlockInput, SessionGrant, SessionRevocation, SessionScope
from engine.commitment.proofs import (
    prove_leaf,
    validate_proof,
)
from engine.commitment.root import (
    account_key,
)
from engine.errors import SnapshotError
from engine.instructions import (
    Amend,
    ArmDeadMan,
    Cancel,
    CancelAll,
    ConditionalOrder,
    MarketOrder,
    OnBehalf,
    OneCancelsOther,
    OracleReport,
    PlaceOrder,
    Side,
    TimeInForce,
    TrailingStop,
    Transfer,
    TriggerKind,
    TriggerSource,
    TwapOrder,
    Withdraw,
)
from engine.receipts import SessionEvent, SessionState
from engine.snapshots.whole import EngineSnapshot, restore, snapshot
from engine.views import view_account

BUY, SELL = Side.BUY, Side.SELL
KEY, OTHER = b"k" * 32, b"o" * 32
FAR_MS = 10**9
ALICE = bytes([1]) * 32

LIMIT = PlaceOrder(1, BUY, 900, 10)
STOP = ConditionalOrder(1, SELL, TriggerKind.STOP, TriggerSource.INDEX, 900, 800, 10)
TRAILING = TrailingStop(1, SELL, TriggerSource.INDEX, 50, 50, 10)
TWAP = TwapOrder(1, BUY, 900, 10, 10_000, 1_000)
PAIR = OneCancelsOther(replace(LIMIT, tif=TimeInForce.POST_ONLY), STOP)
ORDERS = (LIMIT, MarketOrder(1, BUY, 1_000, 10), STOP, TRAILING, TWAP, PAIR)
CANCELS = (Cancel(client_id=1), CancelAll())


@pytest.fixture
def world(make_world):
    return make_world(markets=2)


def grant(world, scope=SessionScope.TRADE, key=KEY, expires_ms=FAR_MS, **confined):
    world.block(grants=[SessionGrant(world.ALICE, key, scope, expires_ms, **confined)])


def ask(world, *instructions, key=KEY, owner=ALICE):
    envelope = replace(world.envelope(owner, *instructions), signer=key)
    return [receipt.code for receipt in world.block([envelope]).receipts]


def test_a_key_that_nobody_authorised_asks_for_nothing(world):
    assert ask(world, *ORDERS) == ["bundle.session_unknown"]
    grant(world)
    assert world.output.events == (SessionEvent(world.ALICE, KEY, SessionState.AUTHORISED),)
    assert ask(world, LIMIT, key=OTHER) == ["bundle.session_unknown"]
    assert ask(world, LIMIT, owner=world.BOB) == ["bundle.session_unknown"]
    assert ask(world, LIMIT) == ["ok"]


def test_a_key_ends_at_its_time_and_at_its_revocation(world):
    grant(world, expires_ms=1_500)
    assert ask(world, LIMIT) == ["ok"]
    world.time_ms = 1_499
    assert ask(world, LIMIT) == ["ok"]
    world.time_ms = 1_500
    assert ask(world, LIMIT) == ["bundle.session_unknown"]
    assert world.output.events == (SessionEvent(world.ALICE, KEY, SessionState.EXPIRED),)
    assert view_account(world.state, world.ALICE).sessions == ()
    assert world.state.accounts[world.ALICE].sessions == {}
    grant(world, key=OTHER)
    envelope = replace(world.envelope(world.ALICE, LIMIT), signer=OTHER)
    output = world.block([envelope], revocations=[SessionRevocation(world.ALICE, OTHER)])
    assert [receipt.code for receipt in output.receipts] == ["bundle.session_unknown"]
    assert output.events == (SessionEvent(world.ALICE, OTHER, SessionState.REVOKED),)


def test_an_expiry_is_told_once_in_the_first_block_of_its_time_after_a_restart_too(world):
    keys = [(key, SessionState.EXPIRED) for key in (KEY, OTHER)]
    for key, _ in keys:
        grant(world, key=key, expires_ms=1_500)
    grant(world, key=b"r" * 32, expires_ms=1_500)
    world.block(revocations=[SessionRevocation(world.ALICE, b"r" * 32)])
    restored = restore(snapshot(world.state))
    world.time_ms = 1_600
    output = world.block()
    assert [(each.key, each.state) for each in output.events] == keys
    assert apply_block(restored, world.inputs[-1]) == output
    assert world.block().events == ()


def test_a_key_that_has_expired_when_it_comes_ends_in_the_next_block(world):
    grant(world, expires_ms=world.time_ms)
    assert ask(world, LIMIT) == ["bundle.session_unknown"]
    assert [each.state for each in world.output.events] == [SessionState.EXPIRED]


def test_a_key_that_is_authorised_anew_lives_until_its_new_expiry(world):
    grant(world, expires_ms=1_500)
    grant(world, expires_ms=1_700)
    world.time_ms = 1_600
    assert ask(world, LIMIT) == ["ok"]
    world.time_ms = 1_700
    assert ask(world, LIMIT) == ["bundle.session_unknown"]


def test_of_a_key_that_comes_and_goes_in_one_block_nothing_is_left(world):
    world.block(
        grants=[SessionGrant(world.ALICE, KEY, SessionScope.FULL, FAR_MS)],
        revocations=[SessionRevocation(world.ALICE, KEY), SessionRevocation(b"n" * 32, KEY)],
    )
    assert world.state.accounts[world.ALICE].sessions == {}
    assert ask(world, LIMIT) == ["bundle.session_unknown"]


def test_a_revocation_by_an_account_that_the_engine_does_not_know_opens_none(world):
    world.block(revocations=[SessionRevocation(b"n" * 32, KEY)])
    assert b"n" * 32 not in world.state.accounts
    assert snapshot(restore(snapshot(world.state))) == snapshot(world.state)


@pytest.mark.parametrize("scope", SessionScope)
def test_scopes(world, scope):
    world.run(world.ALICE, Transfer(10**9, sub=1))
    grant(world, scope)
    due = {"session.scope"} if scope is SessionScope.CANCEL else {"ok", "order.ioc_remainder"}
    for each in (*ORDERS, replace(LIMIT, client_id=1), Amend(0, 1, 900, 5)):
        assert set(ask(world, each, OnBehalf(1, each))) <= due
    if scope is SessionScope.CANCEL:
        world.one(world.ALICE, replace(LIMIT, client_id=1))
    assert ask(world, *CANCELS) == ["ok"] * 2
    for timeout_ms in (1_000, 0):
        code = "session.scope" if scope is SessionScope.CANCEL else "ok"
        assert ask(world, ArmDeadMan(timeout_ms)) == [code]
    own = ["ok"] if scope is SessionScope.FULL else ["session.scope"]
    assert ask(world, Transfer(1, sub=1)) == own
    assert ask(world, OnBehalf(1, Transfer(1))) == own
    for never in (Withdraw(1, b"d" * 20), Transfer(1, world.BOB), OracleReport(1, 1, 1, 1)):
        assert ask(world, never) == ["session.scope"]
    assert ask(world, OnBehalf(1, Withdraw(1, b"d" * 20))) == ["session.scope"]


def test_a_key_for_one_market_touches_no_other(world):
    two = replace(LIMIT, market=2, client_id=2)
    world.run(world.ALICE, two, replace(STOP, market=2, client_id=3))
    grant(world, markets=(1,))
    assert ask(world, LIMIT, replace(LIMIT, client_id=1), CancelAll(1)) == ["ok"] * 3
    assert ask(world, Amend(0, 1, 901, 5)) == ["ok"]
    assert ask(world, Cancel(client_id=1)) == ["ok"]
    for each in (
        two,
        replace(STOP, market=2),
        OneCancelsOther(STOP, replace(STOP, market=2)),
        Cancel(client_id=2),
        Cancel(client_id=3),
        Amend(0, 2, 900, 5),
        Cancel(client_id=9),
        CancelAll(2),
        CancelAll(),
        ArmDeadMan(1_000),
    ):
        assert ask(world, each) == ["session.market"]
    assert ask(world, OnBehalf(1, Cancel(client_id=2))) == ["session.market"]


def test_a_key_for_some_accounts_touches_no_other(world):
    world.run(world.ALICE, *[Transfer(10**9, sub=number) for number in (1, 2)])
    grant(world, SessionScope.FULL, subs=(0, 1))
    assert ask(world, LIMIT, OnBehalf(1, LIMIT), Transfer(1, sub=1)) == ["ok"] * 3
    assert ask(world, OnBehalf(2, LIMIT), Transfer(1, sub=2)) == ["session.sub_account"] * 2
    assert ask(world, OnBehalf(2, Transfer(1))) == ["session.sub_account"]


def test_a_cap_counts_accepted_orders_at_their_limit_and_nothing_else(world):
    value = 900 * 10 * 10
    grant(world, spend_max_microquote=3 * value)

    def spent():
        (view,) = view_account(world.state, world.ALICE).sessions
        return view.spent_microquote

    assert ask(world, replace(LIMIT, client_id=1), Cancel(client_id=9)) == ["ok", "order.unknown"]
    assert spent() == value
    assert ask(world, replace(LIMIT, client_id=1)) == ["order.duplicate_client_id"]
    assert ask(world, replace(LIMIT, market=9)) == ["order.unknown_market"]
    assert spent() == value, "what is refused costs nothing"
    assert ask(world, Amend(0, 1, 900, 5), Cancel(client_id=1)) == ["ok", "ok"]
    assert spent() == value, "neither do smaller orders and cancels, but nothing comes back"
    assert ask(world, LIMIT, LIMIT, LIMIT) == ["ok", "ok", "session.spent"]
    assert ask(world, replace(LIMIT, size_lots=1)) == ["session.spent"]
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 5))
    world.one(world.ALICE, MarketOrder(1, BUY, 1_000, 5))
    assert ask(world, PlaceOrder(1, SELL, 1_000, 5, reduce_only=True)) == ["ok"]
    assert spent() == 3 * value


@pytest.mark.parametrize(
    ("order", "value"),
    [
        (LIMIT, 90_000),
        (MarketOrder(1, BUY, 1_100, 10), 110_000),
        (PlaceOrder(1, SELL, 950, 10), 100_000),
        (MarketOrder(1, SELL, 950, 10), 100_000),
        (STOP, 100_000),
        (replace(STOP, kind=TriggerKind.TAKE_PROFIT, trigger_ticks=4_000), 400_000),
        (
            replace(
                STOP, kind=TriggerKind.TAKE_PROFIT, side=BUY, trigger_ticks=400, price_ticks=900
            ),
            90_000,
        ),
        (TRAILING, 100_000),
        (replace(TRAILING, side=BUY), 110_000),
        (TWAP, 90_000),
        (PAIR, 100_000),
    ],
)
def test_what_each_kind_of_order_is_worth(world, order, value):
    world.run(world.BOB, PlaceOrder(1, SELL, 1_050, 10), PlaceOrder(1, BUY, 950, 10))
    grant(world, spend_max_microquote=value - 1)
    assert ask(world, order) == ["session.spent"]
    grant(world, key=OTHER, spend_max_microquote=value)
    assert ask(world, order, key=OTHER) == ["ok"]
    assert ask(world, replace(LIMIT, size_lots=1), key=OTHER) == ["session.spent"]


@pytest.mark.parametrize(
    ("order", "value"),
    [
        (PlaceOrder(1, SELL, 1_000, 10), 0),
        (PlaceOrder(1, SELL, 1_100, 10), 0),
        (PlaceOrder(1, SELL, 900, 10), 10_000),
        (MarketOrder(1, SELL, 900, 10), 10_000),
        (replace(TWAP, side=SELL), 10_000),
        (replace(STOP, trigger_ticks=950, price_ticks=900), 5_000),
        (replace(STOP, trigger_ticks=950, price_ticks=900, source=TriggerSource.LAST), 10_000),
        # It is reached already, and not by a price of 600.
        (
            replace(
                STOP, kind=TriggerKind.TAKE_PROFIT, side=SELL, trigger_ticks=600, price_ticks=600
            ),
            40_000,
        ),
        (
            replace(
                STOP,
                kind=TriggerKind.TAKE_PROFIT,
                side=SELL,
                trigger_ticks=1_100,
                price_ticks=1_050,
            ),
            5_000,
        ),
        (replace(TRAILING, side=SELL, source=TriggerSource.INDEX, slack_ticks=7), 700),
        (replace(TRAILING, side=SELL, source=TriggerSource.LAST, slack_ticks=7), 5_700),
    ],
)
def test_closing_counts_what_it_may_give_away(world, order, value):
    """Within a cap of nothing a key sold all of a position at the edge of the band to a friend."""
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 100))
    world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 100))
    closing = replace(order, reduce_only=True)
    grant(world, spend_max_microquote=max(value - 1, 0))
    assert ask(world, closing) == ["session.spent" if value else "ok"]
    grant(world, key=OTHER, spend_max_microquote=value)
    assert ask(world, closing, key=OTHER) in (["ok"], ["order.ioc_remainder"])


def test_closing_that_is_amended_counts_what_it_may_give_away(world):
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 100))
    world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 100))
    grant(world, spend_max_microquote=9_999)
    order = PlaceOrder(1, SELL, 1_050, 10, reduce_only=True, client_id=1)
    assert ask(world, order) == ["ok"]
    assert ask(world, Amend(0, 1, 900, 10)) == ["session.spent"]
    assert ask(world, Amend(0, 1, 901, 10)) == ["ok"]


def test_an_amend_that_is_a_new_order_counts_as_one(world):
    grant(world, spend_max_microquote=200_000)
    assert ask(world, replace(LIMIT, client_id=1)) == ["ok"]
    assert ask(world, Amend(0, 1, 900, 13)) == ["session.spent"]
    assert ask(world, Amend(0, 1, 900, 12)) == ["ok"]
    (view,) = view_account(world.state, world.ALICE).sessions
    assert view.spent_microquote == 90_000 + 108_000


def test_a_sell_that_is_amended_downwards_counts_as_it_may_trade(world):
    grant(world, spend_max_microquote=220_000)
    assert ask(world, PlaceOrder(1, SELL, 1_050, 10, client_id=1)) == ["ok"]
    assert ask(world, Amend(0, 1, 950, 12)) == ["session.spent"]
    assert ask(world, Amend(0, 1, 950, 11)) == ["ok"]
    (view,) = view_account(world.state, world.ALICE).sessions
    assert view.spent_microquote == 105_000 + 110_000


def test_hostile_sizes_are_refused_within_a_cap_and_change_nothing(world):
    grant(world, spend_max_microquote=10**6)
    before = prove_leaf(world.state, account_key(world.ALICE))
    for value in (0, -1, 2**63, 2**64 - 1, -(2**63)):
        for each in (replace(LIMIT, size_lots=value), replace(LIMIT, price_ticks=value)):
            (code,) = ask(world, each)
            assert code.startswith(("order.", "session.spent"))
    root = world.output.state_root
    value = validate_proof(
        root, account_key(world.ALICE), prove_leaf(world.state, account_key(world.ALICE))
    )
    assert value is not None
    assert value in before


def test_the_leaf_commits_to_keys_and_snapshots_keep_them(world):
    grant(world, markets=(1, 2), subs=(0,), spend_max_microquote=10**9)
    grant(world, SessionScope.CANCEL, OTHER)
    ask(world, LIMIT)
    key = account_key(world.ALICE)
    value = validate_proof(
        world.output.state_root, key, prove_leaf(world.state, account_key(world.ALICE))
    )
    mark = (2**31 + 3).to_bytes(4, "big")
    assert value[-36:-32] == mark
    twin = restore(snapshot(world.state))
    assert snapshot(twin) == snapshot(world.state)
    assert view_account(twin, world.ALICE) == view_account(world.state, world.ALICE)


@pytest.mark.parametrize(
    "change",
    [
        lambda each: (),
        lambda each: each[::-1],
        lambda each: (replace(each[0], spent_microquote=each[0].spent_microquote + 1), each[1]),
        lambda each: (replace(each[0], grant=replace(each[0].grant, markets=())), each[1]),
        lambda each: (replace(each[0], grant=replace(each[0].grant, account=b"n" * 32)), each[1]),
        lambda each: (
            replace(each[0], grant=replace(each[0].grant, scope=SessionScope.FULL)),
            each[1],
        ),
    ],
)
def test_a_snapshot_that_lies_about_keys_is_refused(world, change):
    grant(world, markets=(1, 2), spend_max_microquote=10**9)
    grant(world, key=OTHER)
    packed = decode(EngineSnapshot, snapshot(world.state))
    changed = msgspec.structs.replace(packed, sessions=change(packed.sessions))
    with pytest.raises(SnapshotError):
        restore(encode(changed))


def test_no_order_of_envelopes_or_changes_changes_an_output(world):
    """Two keys share an account, and one of them a cap that does not suffice for both bundles."""
    grant(world, spend_max_microquote=250_000)
    grant(world, SessionScope.CANCEL, OTHER)
    base = snapshot(world.state)
    envelopes = [
        replace(world.envelope(world.ALICE, LIMIT, LIMIT, Transfer(1, sub=1)), signer=KEY),
        replace(world.envelope(world.ALICE, LIMIT, CancelAll()), signer=KEY),
        replace(world.envelope(world.ALICE, CancelAll(), LIMIT), signer=OTHER),
        world.envelope(world.ALICE, LIMIT, Transfer(1, sub=1)),
        world.envelope(world.BOB, MarketOrder(1, SELL, 900, 15)),
    ]
    third = SessionGrant(world.ALICE, b"t" * 32, SessionScope.FULL, FAR_MS)
    fourth = replace(third, key=b"u" * 32)
    outputs = set()
    for order in permutations(envelopes):
        state = restore(base)
        grants = (third, fourth) if order[0] is envelopes[0] else (fourth, third)
        block = BlockInput(
            state.height + 1,
            world.time_ms,
            b"s" * 32,
            order,
            (),
            world.reporters,
            (),
            grants,
            (SessionRevocation(world.ALICE, b"t" * 32),),
        )
        outputs.add(encode(apply_block(state, block)))
    assert len(outputs) == 1
