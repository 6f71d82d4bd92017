"""One beacon a message, whoever of the committee makes it."""

from itertools import combinations

import pytest

from crypto.group import G, decode_g1, encode_g1, hash_to_g1, multiply
from crypto.threshold.beacon import (
    BEACON_TAG,
    combine_beacon,
    compute_beacon_shares,
    compute_block_message,
    compute_epoch_message,
    derive_seed,
    is_beacon_right,
    is_beacon_share_right,
)
from crypto.threshold.mock_dealer import deal_test_key
from crypto.threshold.opening import BadShare

MESSAGE = compute_epoch_message(b"\x11" * 32, 5)
SEED = bytes(32)


@pytest.fixture(scope="module")
def shares(block):
    return dict(enumerate(compute_beacon_shares(block.secrets, 4, MESSAGE), start=1))


@pytest.fixture(scope="module")
def beacon(block):
    return encode_g1(multiply(hash_to_g1(MESSAGE, BEACON_TAG), block.secret_key()))


def test_any_tickets_that_reach_the_threshold_make_the_same_beacon(block, shares, beacon):
    for tickets in combinations(shares, 3):
        chosen = {ticket: shares[ticket] for ticket in tickets}
        assert combine_beacon(block.key, MESSAGE, chosen, SEED).keys == (beacon,)
    assert is_beacon_right(block.key, MESSAGE, beacon)


def test_too_few_tickets_make_none(block, shares):
    chosen = {ticket: shares[ticket] for ticket in (1, 4)}
    assert combine_beacon(block.key, MESSAGE, chosen, SEED).keys == ()


def test_shares_of_another_message_are_named(block, shares, beacon):
    other = compute_beacon_shares(block.secrets, 4, compute_epoch_message(b"\x11" * 32, 6))
    combined = combine_beacon(block.key, MESSAGE, {**shares, 2: other[1]}, SEED)
    assert combined.keys == (beacon,)
    assert combined.bad == (BadShare(2, 0),)
    assert not is_beacon_share_right(block.key, 2, MESSAGE, other[1])
    assert is_beacon_share_right(block.key, 2, MESSAGE, shares[2])
    assert not is_beacon_share_right(block.key, 3, MESSAGE, shares[2])


def test_every_other_beacon_is_refused(block, beacon, large_torsion):
    other_key, _ = deal_test_key("another", 3, 4)
    sigma = decode_g1(beacon)
    assert not is_beacon_right(other_key, MESSAGE, beacon)
    assert not is_beacon_right(block.key, b"another", beacon)
    for point in (sigma + G, -sigma, sigma + large_torsion):
        assert not is_beacon_right(block.key, MESSAGE, encode_g1(point))
    for malformed in (b"", b"\xc0" + bytes(47), b"\xff" * 48, beacon + b"\x00"):
        assert not is_beacon_right(block.key, MESSAGE, malformed)


def test_messages_bind_chain_epoch_height_and_block():
    chain, block_id = b"\x11" * 32, b"\x22" * 32
    messages = {
        compute_epoch_message(chain, 5),
        compute_epoch_message(chain, 6),
        compute_epoch_message(block_id, 5),
        compute_block_message(chain, 5, 9, block_id),
        compute_block_message(chain, 6, 9, block_id),
        compute_block_message(chain, 5, 8, block_id),
        compute_block_message(chain, 5, 9, chain),
        compute_block_message(block_id, 5, 9, block_id),
    }
    assert len(messages) == 8


def test_the_seed_is_32_bytes_of_the_beacon(beacon):
    assert len(derive_seed(beacon)) == 32
    assert derive_seed(beacon) != derive_seed(beacon[:-1] + b"\x00")
