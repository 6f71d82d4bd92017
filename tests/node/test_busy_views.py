"""Whatever a node's engine can hold is shown, and proven, to whoever asks for it."""

from itertools import count

import pytest
from msgspec import msgpack

from crypto.codec import encode
from engine.accounts.withdrawals import encode_withdrawal
from engine.apply import apply_block
from engine.commitment.proofs import validate_proof
from engine.commitment.root import (
    SYSTEM_KEY,
    account_key,
    chain_key,
    compute_state_root,
    encode_account,
    encode_market,
    encode_system,
    market_key,
    withdrawal_key,
)
from engine.options.chains import encode_chain
from engine.state import EngineState, create_state
from localnet.sim.streams.draw import Draw
from node.protocol import QUERIES
from node.workers.errors import WorkerQueryError
from node.workers.views import Views

BLOCKS_MAX = 60


def holds_everything(state: EngineState) -> bool:
    liquidations = state.liquidations
    parts = (state.chains, state.withdrawals, state.waiting, state.orders)
    has_series = any(market.series is not None for market in state.markets.values())
    return all(parts) and has_series and liquidations is not None and bool(liquidations.records)


@pytest.fixture(scope="module")
def state() -> EngineState:
    """One with options, withdrawals, waiting and open orders, and a liquidation."""
    for seed in count():
        draw = Draw(seed)
        made = create_state(draw.genesis)
        for _ in range(BLOCKS_MAX):
            apply_block(made, draw.next_block(made))
            if holds_everything(made):
                return made
    raise AssertionError("seeds do not end")


def ask(state: EngineState, name: str, *arguments):
    return msgpack.decode(Views(state).answer(name, encode(arguments)))


def test_every_leaf_is_proven_to_hold_what_the_engine_holds(state):
    leaves = [
        (("system",), SYSTEM_KEY, encode_system(state)),
        *(
            (("account", each), account_key(each), encode_account(account))
            for each, account in state.accounts.items()
        ),
        *(
            (("market", each), market_key(each), encode_market(market))
            for each, market in state.markets.items()
        ),
        *(
            (("options", each), chain_key(each), encode_chain(chain))
            for each, chain in state.chains.items()
        ),
        *(
            (("withdrawal", each), withdrawal_key(each), encode_withdrawal(withdrawal))
            for each, withdrawal in state.withdrawals.items()
        ),
    ]
    assert len(leaves) == len(state.tree)
    root = compute_state_root(state)
    for question, key, value in leaves:
        answer = ask(state, "proof", *question)
        assert (answer["key"], answer["market_root"]) == (key, root)
        assert answer["height"] == state.height
        assert validate_proof(root, key, answer["proof"]) == value


@pytest.mark.parametrize(
    ("kind", "make_key"),
    [("options", chain_key), ("market", market_key), ("withdrawal", withdrawal_key)],
)
def test_of_what_there_is_not_it_is_proven_that_there_is_none(state, kind, make_key):
    """Neighbours of every kind stand in for what is absent."""
    root = compute_state_root(state)
    absent = [number for number in range(60, 100) if make_key(number) not in state.tree]
    assert len(absent) > 30
    for number in absent:
        answer = ask(state, "proof", kind, number)
        assert validate_proof(root, make_key(number), answer["proof"]) is None


def test_every_view_shows_whatever_there_is(state):
    markets = {each["market"]: each for each in ask(state, "markets")}
    assert markets.keys() == state.markets.keys()
    for number, market in markets.items():
        assert ask(state, "book", number) == ask(state, "book", market["symbol"])
    everybody = [each["account"] for each in ask(state, "accounts")]
    assert everybody == sorted(state.accounts)
    shown = []
    for account in everybody:
        view = ask(state, "account", account)
        assert ask(state, "orders", account) == view["orders"]
        placed = (*view["orders"], *view["conditionals"], *view["twaps"])
        shown += [each["order_id"] for each in placed]
    assert sorted(shown) == sorted((*state.orders, *state.waiting))
    for order_id in shown:
        assert ask(state, "order", order_id)["order_id"] == order_id
    under_way = ask(state, "liquidations")
    assert [each["account"] for each in under_way] == sorted(state.liquidations.records)
    assert ask(state, "liquidations", None, 1) == under_way[:1]
    assert ask(state, "liquidations", under_way[-1]["account"]) == []
    fund = ask(state, "insurance")
    assert fund["is_liquidating"]
    assert fund["closing"] + fund["auctions"] + fund["insolvent"] >= len(under_way)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("insurance", (1,)),
        ("liquidations", (b"short",)),
        ("liquidations", (None, 0)),
        ("liquidations", (None, 101)),
        ("liquidations", (None, 1, 1)),
        ("proof", ("options", -1)),
        ("proof", ("options", 2**32)),
        ("proof", ("options", b"1")),
        ("proof", ("withdrawal", -1)),
        ("proof", ("system", 1)),
    ],
)
def test_what_makes_no_question_is_malformed(state, name, arguments):
    assert name in QUERIES
    with pytest.raises(WorkerQueryError) as caught:
        ask(state, name, *arguments)
    assert caught.value.code == "query.malformed"


def test_a_withdrawal_of_any_number_is_a_question_with_an_answer(state):
    for number in (2**63 - 1, 2**64 - 1):
        answer = ask(state, "proof", "withdrawal", number)
        key = withdrawal_key(number)
        assert validate_proof(compute_state_root(state), key, answer["proof"]) is None
