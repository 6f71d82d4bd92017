"""Solvency: no debt lowers the liabilities, nothing owed is left out, and anybody can check it.

`judge_equity` is written from the docstrings of `crypto.merkle_sum` and
`engine.commitment.solvency` alone.
"""

import struct
from hashlib import sha256

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.merkle_sum import LIABILITY_MAX, SUM_MAX
from engine.commitment.root import compute_state_root
from engine.commitment.solvency import (
    EQUITY_PROOF_MAX_BYTES,
    compute_solvency,
    compute_statement_digest,
    decode_statement,
    encode_statement,
    validate_equity_proof,
    validate_statement,
)
from engine.errors import InvariantViolation, ProofError, SolvencyError
from engine.genesis import FundingParams
from engine.instructions import PlaceOrder, Side
from engine.limits import (
    BALANCE_ABS_MAX_MICROQUOTE,
    MARKETS_MAX,
    POSITION_MAX_LOTS,
    PRICE_MAX_TICKS,
)
from engine.prices.funding import compute_settlement
from engine.snapshots.whole import snapshot
from engine.state import create_state
from engine.views import view_account
from localnet.splitmix import SplitMix

BUY, SELL = Side.BUY, Side.SELL
UNIT = 10
"""Micro-quote per lot and tick in the tests' markets."""


def judge_equity(root: bytes, total: int, account: bytes, data: bytes) -> int | None:
    """What the proof says that the account is owed; None if it does not hold."""
    liability, (count, position, siblings) = msgpack.unpackb(data)
    digest, owed = sha256(b"\x05" + liability + account).digest(), int.from_bytes(liability, "big")
    siblings = list(siblings)
    while count > 1:
        other = siblings.pop(0) if position ^ 1 < count else bytes(64)
        other_sum = int.from_bytes(other[32:], "big")
        mine = digest + owed.to_bytes(32, "big")
        digest = sha256(b"\x06" + (other + mine if position % 2 else mine + other)).digest()
        owed += other_sum
        position, count = position // 2, (count + 1) // 2
    number = msgpack.unpackb(data)[1][0]
    top = digest + owed.to_bytes(32, "big")
    if siblings or sha256(b"\x07" + number.to_bytes(8, "big") + top).digest() != root:
        return None
    return int.from_bytes(liability, "big") if owed == total else None


def trade(world, seed, rounds):
    """Positions in two markets, at prices that walk far enough to ruin somebody."""
    draw = SplitMix(seed).below
    names = sorted(world.state.accounts)
    mids = {1: 1_000, 2: 1_000}
    for _ in range(rounds):
        market = 1 + draw(2)
        mids[market] = max(100, mids[market] + draw(401) - 200)
        world.set_index(mids[market], market)
        for _ in range(1 + draw(4)):
            side = BUY if draw(2) else SELL
            price = mids[market] + draw(7) - 3
            world.one(names[draw(len(names))], PlaceOrder(market, side, price, 1 + draw(80)))
    return world


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rounds=st.integers(0, 25),
    funding=st.none() | st.tuples(*[st.integers(-(10**13), 10**13)] * 2),
)
def test_the_statement_is_what_the_accounts_say_and_every_account_can_check(
    make_world, seed, rounds, funding
):
    params = None if funding is None else FundingParams(1_000_000, rate_max_ppm=40_000)
    world = make_world(markets=2, balance=150_000, taker_fee_ppm=400, funding=params)
    state = trade(world, seed, rounds).state
    for market, move in zip(state.markets.values(), funding or (), strict=False):
        # As if a payment had just fallen due, which nobody has settled.
        market.funding.index += move
        market.dirty = True
    solvency = compute_solvency(state)
    statement = solvency.statement
    equities = {name: view_account(state, name).equity_microquote for name in state.accounts}
    assert statement.liabilities_microquote == sum(max(each, 0) for each in equities.values())
    assert statement.deficit_microquote == sum(max(-each, 0) for each in equities.values())
    assert statement.accounts == len(equities)
    unsettled = sum(map(compute_settlement, state.accounts.values()))
    assert statement.reserved_microquote == state.fees + state.funding_pool - unsettled
    assert 0 <= statement.reserved_microquote - state.fees <= len(equities) * (rounds + 1)
    assert statement.held_microquote == 5 * 150_000
    assert statement.is_covered == all(each >= 0 for each in equities.values())
    assert (statement.height, statement.state_root) == (state.height, compute_state_root(state))
    for name, equity in equities.items():
        data = solvency.prove_equity(name)
        assert validate_equity_proof(statement, name, data) == max(equity, 0)
        total = statement.liabilities_microquote
        assert judge_equity(statement.sum_root, total, name, data) == max(equity, 0)
        assert judge_equity(statement.sum_root, total + 1, name, data) is None
        with pytest.raises(ProofError):
            validate_equity_proof(statement, b"x" * 32, data)


@pytest.fixture
def ruined(make_world):
    """Bob is 100 lots short at 1,000 and the mark is 1,400: he has 200,000 less than that."""
    world = make_world(balance=200_000)
    world.one(world.BOB, PlaceOrder(1, SELL, 1_000, 100))
    world.one(world.ALICE, PlaceOrder(1, BUY, 1_000, 100))
    world.state.markets[1].set_mark(1_400)
    return world


def test_a_debt_is_stated_beside_the_liabilities_not_taken_off_them(ruined):
    state = ruined.state
    solvency = compute_solvency(state)
    statement = solvency.statement
    gain = 400 * 100 * UNIT
    assert statement.liabilities_microquote == 4 * 200_000 + gain
    assert statement.deficit_microquote == gain - 200_000
    assert not statement.is_covered
    assert statement.held_microquote == 5 * 200_000
    assert validate_equity_proof(statement, ruined.BOB, solvency.prove_equity(ruined.BOB)) == 0
    assert (
        validate_equity_proof(statement, ruined.ALICE, solvency.prove_equity(ruined.ALICE))
        == 200_000 + gain
    )


def test_the_insurance_covers_a_deficit_up_to_its_size(ruined):
    state = ruined.state
    deficit = compute_solvency(state).statement.deficit_microquote
    for insurance, is_covered in ((deficit, True), (deficit - 1, False)):
        # As if it had been paid in from outside.
        state.deposits_total += insurance - state.insurance
        state.insurance = insurance
        statement = compute_solvency(state).statement
        assert statement.deficit_microquote == deficit
        assert statement.insurance_microquote == insurance
        assert statement.is_covered == is_covered
        owed = statement.liabilities_microquote + statement.reserved_microquote
        assert (owed <= statement.held_microquote) == is_covered


def test_the_mark_decides_and_the_state_is_left_as_it_was(ruined):
    before = snapshot(ruined.state)
    owed = compute_solvency(ruined.state).statement
    assert snapshot(ruined.state) == before
    market = ruined.state.markets[1]
    market.set_mark(1_000)
    flat = compute_solvency(ruined.state).statement
    assert flat.liabilities_microquote == 5 * 200_000 < owed.liabilities_microquote
    market.set_mark(1_001)
    assert flat.sum_root != compute_solvency(ruined.state).statement.sum_root


def test_a_statement_of_genesis(make_world):
    world = make_world(index=None, balance=7)
    statement = compute_solvency(world.state).statement
    assert statement.liabilities_microquote == statement.held_microquote == 35
    empty = create_state(msgspec.structs.replace(world.genesis, deposits=()))
    statement = compute_solvency(empty).statement
    assert (statement.accounts, statement.held_microquote) == (0, 0)
    assert decode_statement(encode_statement(statement)) == statement


def test_equities_that_do_not_sum_up_halt(world):
    world.state.accounts[world.ALICE].quote += 1
    with pytest.raises(InvariantViolation):
        compute_solvency(world.state)


def test_no_state_exceeds_the_bounds_of_the_tree():
    unit_max = 2**48
    values = MARKETS_MAX * POSITION_MAX_LOTS * PRICE_MAX_TICKS * unit_max
    assert BALANCE_ABS_MAX_MICROQUOTE + values < 2**129 < LIABILITY_MAX


def test_the_bytes_of_a_statement_are_as_documented(ruined):
    statement = compute_solvency(ruined.state).statement
    data = encode_statement(statement)
    assert data == b"".join(
        (
            struct.pack(">Q", statement.height),
            statement.state_root,
            struct.pack(">Q", 5),
            (1_200_000).to_bytes(32, "big"),
            (200_000).to_bytes(32, "big"),
            struct.pack(">q", 0),
            bytes(32),
            struct.pack(">q", 1_000_000),
            statement.sum_root,
        )
    )
    assert decode_statement(data) == statement
    assert len(compute_statement_digest(statement)) == 32


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: {"liabilities_microquote": s.liabilities_microquote - 1}, "unbalanced"),
        (lambda s: {"deficit_microquote": s.deficit_microquote - 1}, "unbalanced"),
        (lambda s: {"held_microquote": s.held_microquote + 1}, "unbalanced"),
        (lambda s: {"insurance_microquote": 1}, "unbalanced"),
        (lambda s: {"reserved_microquote": -1}, "unbalanced"),
        (lambda _: {"liabilities_microquote": -1}, "out_of_range"),
        (lambda _: {"liabilities_microquote": SUM_MAX + 1}, "out_of_range"),
        (lambda _: {"deficit_microquote": -1}, "out_of_range"),
        (lambda _: {"deficit_microquote": SUM_MAX + 1}, "out_of_range"),
    ],
)
def test_impossible_statements_are_refused(ruined, change, code):
    statement = compute_solvency(ruined.state).statement
    changed = msgspec.structs.replace(statement, **change(statement))
    with pytest.raises(SolvencyError) as caught:
        validate_statement(changed)
    assert caught.value.code == f"solvency.{code}"
    amounts = (changed.liabilities_microquote, changed.deficit_microquote)
    if all(0 <= amount < 2**256 for amount in amounts):
        with pytest.raises(SolvencyError):
            decode_statement(encode_statement(changed))


def test_bytes_that_are_no_statement_are_refused(ruined):
    data = encode_statement(compute_solvency(ruined.state).statement)
    for broken in (b"", data[:-1], data + b"\0"):
        with pytest.raises(SolvencyError) as caught:
            decode_statement(broken)
        assert caught.value.code == "solvency.malformed"


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_flipped_byte_of_a_proof_of_equity_is_refused(make_world, data):
    world = make_world(balance=200_000)
    solvency = compute_solvency(world.state)
    name = data.draw(st.sampled_from(sorted(world.state.accounts)))
    proof = bytearray(solvency.prove_equity(name))
    proof[data.draw(st.integers(0, len(proof) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ProofError) as caught:
        validate_equity_proof(solvency.statement, name, bytes(proof))
    assert caught.value.code in ("proof.malformed", "proof.invalid")


@pytest.mark.parametrize(
    ("change", "value"),
    [("sum_root", bytes(32)), ("liabilities_microquote", 1_000_001), ("accounts", 6)],
)
def test_a_proof_holds_under_its_own_statement_only(make_world, change, value):
    world = make_world(balance=200_000)
    solvency = compute_solvency(world.state)
    other = msgspec.structs.replace(solvency.statement, **{change: value})
    with pytest.raises(ProofError) as caught:
        validate_equity_proof(other, world.ALICE, solvency.prove_equity(world.ALICE))
    assert caught.value.code == "proof.invalid"


def test_hostile_proofs_of_equity_have_stable_codes(world):
    solvency = compute_solvency(world.state)
    for data, code in (
        (b"", "proof.malformed"),
        (bytes(EQUITY_PROOF_MAX_BYTES + 1), "proof.too_large"),
        (b"\x91" * 1_000, "proof.malformed"),
    ):
        with pytest.raises(ProofError) as caught:
            validate_equity_proof(solvency.statement, world.ALICE, data)
        assert caught.value.code == code
    with pytest.raises(KeyError):
        solvency.prove_equity(b"x" * 32)
