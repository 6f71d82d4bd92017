"""A block's keys: right whoever made the shares, and whoever made a bad one is named."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.group import (
    ORDER,
    G,
    GroupError,
    decode_curve_point_wide,
    decode_g1,
    encode_g1,
    encode_g1_wide,
    multiply,
)
from crypto.threshold.lagrange import compute_share_scale
from crypto.threshold.mock_dealer import deal_test_key
from crypto.threshold.opening import BadShare, open_block, verify_keys
from crypto.threshold.proof import check_headers
from crypto.threshold.sealing import open_body
from crypto.threshold.shares import compute_shares, is_share_right, split_shares

SHARE = 96
WEIGHT_SEED = b"\x55" * 32


def open_with(block, shares):
    return open_block(block.key, block.points, shares, WEIGHT_SEED)


def alter(shares, index, change):
    """A ticket's string with `change` applied to one of its points."""
    pieces = split_shares(shares)
    pieces[index] = encode_g1_wide(change(decode_curve_point_wide(pieces[index])))
    return b"".join(pieces)


@pytest.fixture(scope="session")
def keys(block):
    return tuple(
        encode_g1(multiply(decode_g1(body[:48]), block.secret_key())) for body in block.bodies
    )


@pytest.mark.parametrize("tickets", [*combinations((1, 2, 3, 4), 3), (1, 2, 3, 4)])
def test_any_tickets_that_reach_the_threshold_find_the_keys(block, keys, tickets):
    opening = open_with(block, {each: block.shares[each] for each in tickets})
    assert opening.keys == keys
    assert opening.is_open
    assert opening.bad == ()


def test_the_keys_open_the_bodies(block, keys):
    opened = [open_body(*item, key) for item, key in zip(block.items, keys, strict=True)]
    assert opened == block.messages


@pytest.mark.parametrize("tickets", [(), (4,), (1, 2), (2, 4)])
def test_fewer_tickets_than_the_threshold_open_nothing(block, tickets):
    opening = open_with(block, {each: block.shares[each] for each in tickets})
    assert not opening.is_open
    assert opening.bad == ()


def add_generator(point):
    return point + G


BAD = {
    "of another point": lambda shares, torsion: shares[SHARE : 2 * SHARE] + shares[SHARE:],
    "another point": lambda shares, torsion: alter(shares, 0, add_generator),
    "negated": lambda shares, torsion: alter(shares, 0, lambda point: -point),
    "small order part": lambda shares, torsion: alter(shares, 0, lambda point: point + torsion),
    "identity": lambda shares, torsion: bytes(SHARE) + shares[SHARE:],
    "off the curve": lambda shares, torsion: b"\x01" * SHARE + shares[SHARE:],
    "nothing": lambda shares, torsion: b"",
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("ticket", [1, 3])
def test_a_bad_share_is_named_and_the_block_opens_without_it(
    block, keys, large_torsion, kind, ticket
):
    shares = dict(block.shares)
    shares[ticket] = BAD[kind](shares[ticket], large_torsion)
    opening = open_with(block, shares)
    assert opening.keys == keys
    assert opening.bad == (BadShare(ticket, 0),)
    share = shares[ticket][:SHARE]
    assert not is_share_right(block.key, ticket, block.bodies[0][:48], share)


def test_a_bad_share_that_is_not_needed_is_not_looked_at(block, keys):
    shares = dict(block.shares)
    shares[4] = alter(shares[4], 2, add_generator)
    assert open_with(block, shares).keys == keys
    assert open_with(block, shares).bad == ()


@pytest.mark.parametrize("index", range(5))
def test_the_bad_one_among_a_tickets_shares_is_found(block, keys, index):
    shares = dict(block.shares)
    shares[2] = alter(shares[2], index, add_generator)
    assert open_with(block, shares).bad == (BadShare(2, index),)


def test_swapped_shares_of_one_ticket_are_found(block):
    pieces = split_shares(block.shares[1])
    pieces[3], pieces[4] = pieces[4], pieces[3]
    shares = {**block.shares, 1: b"".join(pieces)}
    assert open_with(block, shares).bad == (BadShare(1, 3),)


@pytest.mark.parametrize("length", [SHARE, 5 * SHARE - 1, 5 * SHARE + 1, 6 * SHARE])
def test_a_string_of_the_wrong_length_is_a_bad_share(block, keys, length):
    shares = dict(block.shares)
    shares[1] = (shares[1] * 2)[:length]
    opening = open_with(block, shares)
    assert opening.keys == keys
    assert opening.bad == (BadShare(1, min(length // SHARE, 4)),)


def test_errors_that_cancel_between_two_bodies_are_found(block):
    shares = dict(block.shares)
    shares[1] = alter(alter(shares[1], 0, add_generator), 1, lambda point: point - G)
    opening = open_with(block, shares)
    assert opening.is_open
    assert opening.bad == (BadShare(1, 0),)


def test_errors_that_cancel_between_two_tickets_leave_the_key_right(block, keys):
    """Nobody is named, for nothing came of it: 3 x_1 - 3 x_2 + x_3 is what counts."""
    shares = dict(block.shares)
    shares[1] = alter(shares[1], 0, add_generator)
    shares[2] = alter(shares[2], 0, add_generator)
    assert open_with(block, shares) == open_with(block, block.shares)


def test_a_small_order_part_that_the_coefficients_take_away_leaves_the_key_right(
    block, keys, torsion
):
    """No evidence, no harm: a share is judged only where the keys come out wrong."""
    shares = dict(block.shares)
    shares[1] = alter(shares[1], 0, lambda point: point + torsion)
    opening = open_with(block, shares)
    assert opening.keys == keys
    assert opening.bad == ()
    assert not is_share_right(block.key, 1, block.bodies[0][:48], shares[1][:SHARE])


def test_two_bad_members_are_both_named_and_too_few_are_left(block):
    shares = {each: alter(block.shares[each], 1, add_generator) for each in (2, 3)}
    opening = open_with(block, {**block.shares, **shares})
    assert not opening.is_open
    assert opening.bad == (BadShare(2, 1), BadShare(3, 1))


def test_a_bad_replacement_is_named_too(block):
    shares = {each: alter(block.shares[each], 1, add_generator) for each in (1, 4)}
    opening = open_with(block, {**block.shares, **shares})
    assert opening.bad == (BadShare(1, 1), BadShare(4, 1))


def test_shares_of_another_committee_with_the_same_secret_do_not_help(block):
    """After resharing, old shares and new ones are of different polynomials."""
    x = block.secret_key()
    coefficients = [x, 5, 6]
    old = [sum(c * s**i for i, c in enumerate(coefficients)) for s in range(1, 5)]
    secrets = [(value % ORDER).to_bytes(32, "big") for value in old]
    foreign = dict(enumerate(compute_shares(secrets, 4, block.points), start=1))
    shares = {1: block.shares[1], 2: block.shares[2], 3: foreign[3]}
    opening = open_with(block, shares)
    assert not opening.is_open
    assert opening.bad == (BadShare(3, 0),)


@settings(max_examples=12)
@given(
    st.dictionaries(st.integers(1, 4), st.integers(0, 4), max_size=4),
    st.binary(min_size=32, max_size=32),
)
def test_whoever_is_named_gave_a_bad_share_and_the_good_suffice(block, keys, spoiled, seed):
    shares = dict(block.shares)
    for ticket, index in spoiled.items():
        change = multiply(G, ticket + 10)
        shares[ticket] = alter(shares[ticket], index, lambda point, add=change: point + add)
    opening = open_block(block.key, block.points, shares, seed)
    assert {each.ticket for each in opening.bad} <= set(spoiled)
    for each in opening.bad:
        first = block.bodies[each.index][:48]
        share = split_shares(shares[each.ticket])[each.index]
        assert not is_share_right(block.key, each.ticket, first, share)
    if len(spoiled) <= 1:
        assert opening.is_open
    assert opening.keys in (keys, ())


def test_recorded_keys_verify_and_every_other_record_fails(block, keys, torsion):
    def verify(recorded):
        return verify_keys(block.key, block.points, recorded, WEIGHT_SEED)

    first = decode_g1(keys[0])
    assert verify(keys)
    assert not verify(keys[:-1])
    assert not verify((*keys, keys[0]))
    assert not verify((keys[1], keys[0], *keys[2:]))
    assert not verify((encode_g1(first + G), *keys[1:]))
    assert not verify((encode_g1(first + torsion), *keys[1:]))
    assert not verify((encode_g1(first + G), encode_g1(decode_g1(keys[1]) - G), *keys[2:]))
    for malformed in (b"", b"\xc0" + bytes(47), b"\xff" * 48, encode_g1_wide(first)):
        assert not verify((malformed, *keys[1:]))
    assert verify_keys(block.key, (), (), WEIGHT_SEED)


def test_recorded_keys_fail_under_another_committee(block, keys):
    other, _ = deal_test_key("another", 3, 4)
    assert not verify_keys(other, block.points, keys, WEIGHT_SEED)


def test_one_share_is_judged_by_ticket_point_and_bytes(block):
    first = block.bodies[0][:48]
    share = block.shares[2][:SHARE]
    assert is_share_right(block.key, 2, first, share)
    assert not is_share_right(block.key, 1, first, share)
    assert not is_share_right(block.key, 0, first, share)
    assert not is_share_right(block.key, 5, first, share)
    assert not is_share_right(block.key, 2, block.bodies[1][:48], share)
    for malformed in (b"", share[:95], share + b"\x00", bytes(SHARE), b"\xff" * SHARE):
        assert not is_share_right(block.key, 2, first, malformed)


def test_nobody_owes_a_share_of_what_is_no_point_of_g1(block, torsion):
    share = block.shares[2][:SHARE]
    for first in (b"\xc0" + bytes(47), encode_g1(torsion), b""):
        with pytest.raises(GroupError):
            is_share_right(block.key, 2, first, share)


def test_a_share_is_the_secret_divided_by_the_scale_times_the_point(block):
    secret = int.from_bytes(block.secrets[0], "big")
    share = decode_curve_point_wide(block.shares[1][:SHARE])
    scaled = multiply(share, compute_share_scale(4))
    assert scaled == multiply(decode_g1(block.bodies[0][:48]), secret)


@pytest.mark.parametrize(("threshold", "tickets"), [(1, 1), (2, 2), (5, 7), (11, 16), (20, 30)])
def test_committees_of_other_sizes_open_what_is_sealed_to_them(block, threshold, tickets):
    key, secrets = deal_test_key(f"{threshold} of {tickets}", threshold, tickets)
    shares = compute_shares(secrets, tickets, block.points[:2])
    late = {each: shares[each - 1] for each in range(tickets - threshold + 1, tickets + 1)}
    opening = open_block(key, block.points[:2], late, WEIGHT_SEED)
    assert opening.is_open
    assert verify_keys(key, block.points[:2], opening.keys, WEIGHT_SEED)


def test_one_body_alone_opens(block, keys):
    one = {ticket: shares[:SHARE] for ticket, shares in block.shares.items()}
    assert open_block(block.key, block.points[:1], one, WEIGHT_SEED).keys == keys[:1]
    assert check_headers(block.items[:1], WEIGHT_SEED) == block.points[:1]
