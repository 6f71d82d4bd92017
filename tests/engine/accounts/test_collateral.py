"""Collateral that leaves: withdrawals from request to settlement, and transfers."""

from hashlib import sha256
from itertools import permutations

import msgspec
import pytest

from crypto.codec import decode, encode
from engine.apply import apply_block
from engine.block import BlockInput, WithdrawalSettlement
from engine.commitment.proofs import (
    prove_leaf,
    validate_proof,
)
from engine.commitment.root import (
    encode_system,
    withdrawal_key,
)
from engine.errors import InvariantViolation, ProofError, SnapshotError
from engine.instructions import Cancel, MarketOrder, PlaceOrder, Side, Transfer, Withdraw
from engine.invariants import validate_all
from engine.limits import (
    BALANCE_ABS_MAX_MICROQUOTE,
    DEPOSITS_TOTAL_MAX_MICROQUOTE,
    WITHDRAWAL_DESTINATION_BYTES,
    WITHDRAWALS_PER_ACCOUNT_MAX,
)
from engine.liquidation.phase import is_withdrawal_gated
from engine.receipts import TransferEvent, WithdrawalEvent, WithdrawalState
from engine.snapshots.whole import EngineSnapshot, restore, snapshot
from engine.views import view_account

BUY, SELL = Side.BUY, Side.SELL
ADDRESS = b"d" * WITHDRAWAL_DESTINATION_BYTES
BALANCE = 100_000


@pytest.fixture
def world(make_world):
    """Balances of 100,000 micro-quote: an index of 1,000 asks 1,000 of margin for a lot."""
    return make_world(balance=BALANCE)


def test_a_withdrawal_leaves_the_balance_at_once_and_stays_pending(world):
    receipt = world.one(world.ALICE, Withdraw(30_000, ADDRESS))
    assert (receipt.code, receipt.status.name, receipt.order_id) == ("ok", "ACCEPTED", 1)
    assert world.quote(world.ALICE) == BALANCE - 30_000
    state = world.state
    assert (state.pending_withdrawals, state.withdrawals_total) == (30_000, 0)
    event = WithdrawalEvent(1, world.ALICE, ADDRESS, 30_000, WithdrawalState.PENDING)
    assert world.output.events == (event,)
    (view,) = view_account(state, world.ALICE).withdrawals
    assert (view.withdrawal_id, view.destination, view.amount_microquote, view.height) == (
        1,
        ADDRESS,
        30_000,
        state.height,
    )


def test_what_l1_paid_is_gone_and_what_it_rejected_comes_back(world):
    world.run(world.ALICE, Withdraw(30_000, ADDRESS), Withdraw(20_000, ADDRESS))
    world.block(settled=[WithdrawalSettlement(1, True), WithdrawalSettlement(2, False)])
    states = [event.state for event in world.output.events]
    assert states == [WithdrawalState.PAID, WithdrawalState.REFUNDED]
    assert world.quote(world.ALICE) == BALANCE - 30_000
    state = world.state
    assert (state.pending_withdrawals, state.withdrawals_total) == (0, 30_000)
    assert not state.withdrawals
    assert world.one(world.ALICE, Withdraw(1, ADDRESS)).order_id == 3, "numbers are not used again"


def test_a_settlement_of_what_is_not_pending_changes_nothing_and_is_told(world):
    world.one(world.ALICE, Withdraw(30_000, ADDRESS))
    settled = WithdrawalSettlement(1, True)
    world.block(settled=[settled, settled, WithdrawalSettlement(9, False)])
    states = [event.state.name for event in world.output.events]
    assert states == ["PAID", "UNKNOWN", "UNKNOWN"]
    assert (world.state.pending_withdrawals, world.state.withdrawals_total) == (0, 30_000)


@pytest.mark.parametrize(
    ("amount", "destination", "code"),
    [
        (0, ADDRESS, "withdraw.too_small"),
        (-1, ADDRESS, "withdraw.too_small"),
        (-(2**63), ADDRESS, "withdraw.too_small"),
        (2**64 - 1, ADDRESS, "collateral.amount_invalid"),
        (DEPOSITS_TOTAL_MAX_MICROQUOTE + 1, ADDRESS, "collateral.amount_invalid"),
        (DEPOSITS_TOTAL_MAX_MICROQUOTE, ADDRESS, "collateral.insufficient"),
        (BALANCE + 1, ADDRESS, "collateral.insufficient"),
        (BALANCE, ADDRESS, "ok"),
        (1, b"", "withdraw.destination_invalid"),
        (1, bytes(20), "withdraw.destination_invalid"),
        (1, ADDRESS + b"d", "withdraw.destination_invalid"),
    ],
)
def test_refusals_of_a_withdrawal(world, amount, destination, code):
    assert world.one(world.ALICE, Withdraw(amount, destination)).code == code
    assert world.one(b"n" * 32, Withdraw(1, ADDRESS)).code == "account.unknown"


def test_the_smallest_withdrawal_is_a_parameter_of_the_chain(world):
    genesis = msgspec.structs.replace(world.genesis, withdrawal_min_microquote=500)
    world = type(world)(genesis)
    assert world.one(world.ALICE, Withdraw(499, ADDRESS)).code == "withdraw.too_small"
    assert world.one(world.ALICE, Withdraw(500, ADDRESS)).code == "ok"


def test_initial_margin_of_positions_and_orders_stays(world):
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 10))
    world.one(world.ALICE, MarketOrder(1, BUY, 1_000, 10))
    world.one(world.ALICE, PlaceOrder(1, BUY, 900, 20))
    free = BALANCE - 30 * 1_000
    assert world.one(world.ALICE, Withdraw(free + 1, ADDRESS)).code == "collateral.insufficient"
    assert world.one(world.ALICE, Transfer(free + 1, world.BOB)).code == "collateral.insufficient"
    assert world.one(world.ALICE, Withdraw(free, ADDRESS)).code == "ok"


def test_unrealised_gains_may_leave_as_far_as_no_margin_needs_them(world):
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 50))
    world.one(world.ALICE, MarketOrder(1, BUY, 1_000, 50))
    world.set_index(1_100)
    gain, margin = 50 * 100 * 10, 50 * 1_100
    assert world.one(world.ALICE, Withdraw(BALANCE + gain - margin, ADDRESS)).code == "ok"
    assert world.one(world.ALICE, Withdraw(1, ADDRESS)).code == "collateral.insufficient"


def test_nothing_leaves_by_a_price_that_nobody_vouches_for(world):
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 1))
    world.time_ms += 10**6
    assert world.one(world.BOB, Withdraw(1, ADDRESS)).code == "collateral.oracle_stale"
    assert world.one(world.BOB, Transfer(1, world.ALICE)).code == "collateral.oracle_stale"
    assert world.one(world.ALICE, Withdraw(1, ADDRESS)).code == "ok", "no market of hers is stale"


def test_an_account_has_only_so_many_withdrawals_pending(world):
    receipts = world.run(world.ALICE, *[Withdraw(1, ADDRESS)] * (WITHDRAWALS_PER_ACCOUNT_MAX + 1))
    codes = [receipt.code for receipt in receipts]
    assert codes == ["ok"] * WITHDRAWALS_PER_ACCOUNT_MAX + ["withdraw.too_many"]
    assert world.one(world.BOB, Withdraw(1, ADDRESS)).code == "ok"
    world.block(settled=[WithdrawalSettlement(1, True)])
    assert world.one(world.ALICE, Withdraw(1, ADDRESS)).code == "ok"


def test_all_accounts_together_have_only_so_many_pending_and_take_turns(world, monkeypatch):
    monkeypatch.setattr("engine.accounts.withdrawals.WITHDRAWALS_MAX", 3)
    three = [Withdraw(1, ADDRESS)] * 3
    codes = {}
    output = world.block([world.envelope(name, *three) for name in (world.ALICE, world.BOB)])
    for receipt in output.receipts:
        codes.setdefault(receipt.code, []).append(receipt.index)
    assert codes == {"ok": [0, 1, 0], "withdraw.full": [2, 1, 2]}


def test_nobody_withdraws_while_an_account_is_worth_less_than_nothing(world):
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 90))
    world.one(world.ALICE, MarketOrder(1, BUY, 1_000, 90))
    assert not is_withdrawal_gated(world.state)
    for index in (1_100, 1_112):
        world.set_index(index)
    assert is_withdrawal_gated(world.state)
    assert world.one(world.CAROL, Withdraw(1, ADDRESS)).code == "withdraw.gated"
    assert world.one(world.CAROL, Transfer(50_000, world.BOB)).code == "ok"
    assert world.one(world.CAROL, Withdraw(1, ADDRESS)).code == "ok"


def test_withdrawals_run_after_all_trades_of_their_block_and_transfers_before(world):
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 100))
    receipts = world.run(world.ALICE, Withdraw(BALANCE, ADDRESS), MarketOrder(1, BUY, 1_000, 10))
    assert [receipt.code for receipt in receipts] == ["collateral.insufficient", "ok"]
    receipts = world.run(world.CAROL, MarketOrder(1, BUY, 1_000, 10), Transfer(BALANCE, world.DAVE))
    assert [receipt.code for receipt in receipts] == ["margin.insufficient", "ok"]


def test_a_cancel_of_the_same_block_frees_what_is_transferred(world):
    world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 100, client_id=1))
    receipts = world.run(world.ALICE, Transfer(BALANCE, world.BOB), Cancel(client_id=1))
    assert [receipt.code for receipt in receipts] == ["ok", "ok"]
    assert world.output.events == (TransferEvent(world.ALICE, world.BOB, BALANCE),)
    assert (world.quote(world.ALICE), world.quote(world.BOB)) == (0, 2 * BALANCE)


@pytest.mark.parametrize(
    ("amount", "account", "code"),
    [
        (1, b"n" * 32, "transfer.account_unknown"),
        (1, b"n", "transfer.account_unknown"),
        (1, b"", "transfer.to_itself"),
        (1, bytes([1]) * 32, "transfer.to_itself"),
        (0, bytes([2]) * 32, "collateral.amount_invalid"),
        (-5, bytes([2]) * 32, "collateral.amount_invalid"),
        (2**64 - 1, bytes([2]) * 32, "collateral.amount_invalid"),
        (BALANCE + 1, bytes([2]) * 32, "collateral.insufficient"),
        (BALANCE, bytes([2]) * 32, "ok"),
    ],
)
def test_refusals_of_a_transfer(world, amount, account, code):
    assert world.one(world.ALICE, Transfer(amount, account)).code == code
    assert b"n" * 32 not in world.state.accounts


def test_no_transfer_takes_a_balance_beyond_its_bound(world):
    bob = world.state.accounts[world.BOB]
    bob.quote = BALANCE_ABS_MAX_MICROQUOTE
    world.state.funding_pool -= BALANCE_ABS_MAX_MICROQUOTE - BALANCE
    world.state.mark_dirty(bob)
    assert world.one(world.ALICE, Transfer(1, world.BOB)).code == "collateral.out_of_range"


def test_a_proof_shows_a_pending_withdrawal_and_later_that_it_is_settled(world):
    world.one(world.ALICE, Withdraw(30_000, ADDRESS))
    root, proof = world.output.state_root, prove_leaf(world.state, withdrawal_key(1))
    value = validate_proof(root, withdrawal_key(1), proof)
    height = world.state.height.to_bytes(8, "big")
    assert value == world.ALICE + ADDRESS + (30_000).to_bytes(8, "big") + height
    assert withdrawal_key(1) == b"w" + bytes(7) + b"\x01"
    with pytest.raises(ProofError):
        validate_proof(root, withdrawal_key(2), proof)
    world.block(settled=[WithdrawalSettlement(1, False)])
    proof = prove_leaf(world.state, withdrawal_key(1))
    assert validate_proof(world.output.state_root, withdrawal_key(1), proof) is None
    assert encode_system(world.state).endswith(bytes([128, 0, 0, 0]) + (2).to_bytes(8, "big"))


def test_snapshots_keep_what_is_pending_and_the_next_number(world):
    world.run(world.ALICE, Withdraw(30_000, ADDRESS), Withdraw(20_000, ADDRESS))
    world.block(settled=[WithdrawalSettlement(1, True)])
    twin = restore(snapshot(world.state))
    assert snapshot(twin) == snapshot(world.state)
    world.state = twin
    world.block(settled=[WithdrawalSettlement(2, False)])
    assert world.quote(world.ALICE) == BALANCE - 30_000
    assert world.one(world.ALICE, Withdraw(1, ADDRESS)).order_id == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda each: {"withdrawals": ()},
        lambda each: {"withdrawals": each[::-1]},
        lambda each: {"withdrawals": (each[0], each[0])},
        lambda each: {"next_withdrawal_id": 2},
        lambda each: {"next_withdrawal_id": 9},
        lambda each: {"withdrawals": (msgspec.structs.replace(each[0], height=9), each[1])},
        lambda each: {
            "withdrawals": (msgspec.structs.replace(each[0], account=b"n" * 32), each[1])
        },
        lambda each: {
            "withdrawals": (
                msgspec.structs.replace(each[0], amount_microquote=30_001),
                msgspec.structs.replace(each[1], amount_microquote=19_999),
            )
        },
    ],
)
def test_a_snapshot_that_lies_about_withdrawals_is_refused(world, change):
    world.run(world.ALICE, Withdraw(30_000, ADDRESS), Withdraw(20_000, ADDRESS))
    packed = decode(EngineSnapshot, snapshot(world.state))
    changed = msgspec.structs.replace(packed, **change(packed.withdrawals))
    with pytest.raises(SnapshotError):
        restore(encode(changed))


def test_a_pending_sum_that_is_not_that_of_the_withdrawals_halts(world):
    world.one(world.ALICE, Withdraw(30_000, ADDRESS))
    world.state.withdrawals[1].amount += 1
    with pytest.raises(InvariantViolation):
        validate_all(world.state)


def test_no_order_of_the_envelopes_changes_what_leaves_and_what_arrives(world):
    """A chain of transfers in which each sender needs what the one before may send in time."""
    chain = [
        (world.ALICE, [Transfer(BALANCE, world.BOB), Withdraw(5, ADDRESS)]),
        (world.BOB, [Transfer(2 * BALANCE, world.CAROL), Withdraw(BALANCE, ADDRESS)]),
        (world.CAROL, [Transfer(3 * BALANCE, world.ALICE), Transfer(7, world.BOB)]),
        (world.DAVE, [MarketOrder(1, BUY, 1_000, 90), Withdraw(BALANCE, ADDRESS)]),
    ]
    base = snapshot(world.state)
    envelopes = [world.envelope(name, *body) for name, body in chain]
    outputs, results = set(), set()
    for seed in (sha256(bytes([number])).digest() for number in range(6)):
        found = set()
        for order in permutations(envelopes):
            state = restore(base)
            block = BlockInput(state.height + 1, world.time_ms, seed, order, (), world.reporters)
            found.add(encode(apply_block(state, block)))
        assert len(found) == 1
        outputs |= found
        results.add(tuple(account.quote for account in state.accounts.values()))
    assert len(outputs) == 6
    assert len(results) > 1, "the seed decides who is in time"
