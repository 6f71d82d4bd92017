"""Reading the leaf of an account. That all that accounts can have is read, the property tests
check (`World.check_leaves`)."""

import pytest

from crypto.digest import DIGEST_SIZE_BYTES
from engine.commitment.leaves import decode_account
from engine.commitment.root import OWNER_MARK, QUOTE, encode_account
from engine.errors import ProofError
from engine.genesis import LiquidationParams
from engine.instructions import OnBehalf, PlaceOrder, Side, Transfer


@pytest.fixture
def leaf(make_world):
    """A genesis, and the leaf of a sub-account with a position and an open order."""
    world = make_world(liquidation=LiquidationParams())
    world.one(world.ALICE, Transfer(10**9, sub=2))
    world.one(world.BOB, PlaceOrder(1, Side.SELL, 1_000, 7))
    world.one(world.ALICE, OnBehalf(2, PlaceOrder(1, Side.BUY, 1_000, 7)))
    world.one(world.ALICE, OnBehalf(2, PlaceOrder(1, Side.BUY, 990, 1)))
    world.check_leaves()
    account = world.state.accounts[world.ALICE].subs[2]
    return world.genesis, encode_account(account)


def test_the_leaf_of_a_sub_account_tells_its_owner_and_positions(leaf):
    genesis, value = leaf
    found = decode_account(value, genesis)
    assert (found.owner, found.sub, found.positions[0].size_lots) == (b"\x01" * 32, 2, 7)
    assert found.has_open_orders


def test_what_is_no_leaf_of_this_chain_is_refused(leaf):
    genesis, value = leaf
    positions = QUOTE.size + DIGEST_SIZE_BYTES
    wholes = (positions, value.index(OWNER_MARK))
    wrong = [value[:end] for end in range(len(value)) if end not in wholes]
    wrong += [
        value + b"\0",
        value + OWNER_MARK,
        value[:positions] + bytes(4) + value[positions + 4 :],
    ]
    wrong.append(value + (2**31 + 40).to_bytes(4, "big") + bytes(49))
    for each in wrong:
        with pytest.raises(ProofError) as caught:
            decode_account(each, genesis)
        assert caught.value.code == "proof.malformed"
