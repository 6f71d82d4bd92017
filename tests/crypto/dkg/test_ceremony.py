"""Ceremonies from dealings to keys in use: fresh, and handed on."""

from itertools import combinations

import pytest
from msgspec.structs import replace

from crypto.codec import decode, encode
from crypto.dkg import acknowledgement
from crypto.dkg.acknowledgement import acknowledge, is_acknowledgement_right
from crypto.dkg.dealing import Dealing, deal_again
from crypto.dkg.outcome import form_keys, form_secrets
from crypto.dkg.sharing import Keys, Sharing
from crypto.group import G, decode_g1, encode_g1, encode_g1_wide, multiply, sum_products
from crypto.threshold.beacon import combine_beacon, compute_beacon_shares, is_beacon_right
from crypto.threshold.key import validate_key
from crypto.threshold.opening import BadShare, open_block
from crypto.threshold.sealed import CheckedPoint
from crypto.threshold.shares import compute_shares, is_share_right

SEED = bytes(32)
POINT = CheckedPoint(encode_g1_wide(multiply(G, 12345)))
MESSAGE = b"\x33" * 32


def open_point(members, tickets):
    secrets = members.secrets_by_ticket()
    total = members.sharing.tickets
    shares = {s: compute_shares([secrets[s][0]], total, [POINT])[0] for s in tickets}
    return open_block(members.keys.sealing, [POINT], shares, SEED)


def make_beacon(members, tickets):
    secrets = members.secrets_by_ticket()
    total = members.sharing.tickets
    shares = {s: compute_beacon_shares([secrets[s][1]], total, MESSAGE)[0] for s in tickets}
    return combine_beacon(members.keys.beacon, MESSAGE, shares, SEED)


def test_tickets_of_a_fresh_key_open_together_whichever_they_are(fresh):
    for key in fresh.keys.both:
        validate_key(key)
        assert (key.threshold, key.tickets) == (3, 5)
    opened = {open_point(fresh, tickets).keys for tickets in combinations(range(1, 6), 3)}
    assert len(opened) == 1
    assert opened != {()}
    assert not open_point(fresh, (1, 4)).is_open


def test_both_purposes_have_secrets_of_their_own(fresh):
    assert fresh.keys.sealing.public_key != fresh.keys.beacon.public_key
    (beacon,) = make_beacon(fresh, (2, 3, 5)).keys
    assert is_beacon_right(fresh.keys.beacon, MESSAGE, beacon)
    assert not is_beacon_right(fresh.keys.sealing, MESSAGE, beacon)


def test_a_key_handed_on_keeps_both_public_keys_and_opens_the_same(fresh, again):
    for old, new in zip(fresh.keys.both, again.keys.both, strict=True):
        validate_key(new)
        assert (new.public_key, new.public_key_g2) == (old.public_key, old.public_key_g2)
        assert not set(new.verification_keys) & set(old.verification_keys)
    expected = open_point(fresh, (1, 2, 3)).keys
    for tickets in combinations(range(1, 5), 3):
        assert open_point(again, tickets).keys == expected
    assert make_beacon(again, (1, 3, 4)).keys == make_beacon(fresh, (1, 2, 3)).keys


def test_old_shares_are_useless_with_new_ones(fresh, again):
    """Two of each committee, in whatever way: no three fit together."""
    old, new = fresh.secrets_by_ticket(), again.secrets_by_ticket()
    shares = {s: compute_shares([new[s][0]], 4, [POINT])[0] for s in (1, 2)}
    shares[3] = compute_shares([old[3][0]], 4, [POINT])[0]
    opening = open_block(again.keys.sealing, [POINT], shares, SEED)
    assert not opening.is_open
    assert opening.bad == (BadShare(3, 0),)


def test_any_old_tickets_as_many_as_the_threshold_hand_on_the_same_key(fresh, again):
    secrets = fresh.secrets_by_ticket()
    dealings = [
        deal_again(again.sharing, fresh.owner_of(s), s, secrets[s], bytes([s] * 32))
        for s in (5, 1, 4)
    ]
    keys = form_keys(again.sharing, dealings)
    assert keys.sealing.public_key_g2 == fresh.keys.sealing.public_key_g2
    assert keys.sealing.verification_keys != again.keys.sealing.verification_keys


def test_a_dealing_that_does_not_count_leaves_a_key_of_the_others(fresh):
    others = fresh.dealings[:2] + fresh.dealings[3:]
    keys = form_keys(fresh.sharing, others)
    assert keys.sealing.public_key != fresh.keys.sealing.public_key
    received = [fresh.open(dealing, 0) for dealing in others]
    secrets = form_secrets(fresh.sharing, others, received)
    proof = acknowledge(fresh.sharing, keys, 0, secrets)
    assert is_acknowledgement_right(fresh.sharing, keys, 0, proof)


def test_a_member_without_tickets_receives_nothing_and_need_not_answer(fresh):
    assert fresh.secrets[2] == []
    assert list(fresh.sharing.tickets_of(2)) == []
    assert not is_acknowledgement_right(fresh.sharing, fresh.keys, 2, encode_g1(G))


def test_messages_survive_the_codec(fresh, again):
    for each in (fresh, again):
        assert decode(Sharing, encode(each.sharing)) == each.sharing
        assert decode(Sharing, encode(each.sharing)).context == each.sharing.context
        assert decode(Dealing, encode(each.dealings[0])) == each.dealings[0]
        assert decode(Keys, encode(each.keys)) == each.keys


def test_the_context_binds_everything_about_a_ceremony(fresh, again):
    sharing = fresh.sharing
    others = [
        replace(sharing, terms=b"\x99" * 32),
        replace(sharing, threshold=4),
        replace(sharing, recipients=sharing.recipients[::-1]),
        replace(sharing, previous=fresh.keys),
    ]
    assert len({each.context for each in [*others, sharing]}) == 5


def test_resharing_by_too_few_or_the_same_tickets_is_our_own_mistake(fresh, again):
    other = replace(again.dealings[0], old_ticket=5)
    for dealings in (
        again.dealings[:2],
        [*again.dealings[:2], again.dealings[0]],
        [*again.dealings, other],
    ):
        with pytest.raises(AssertionError):
            form_keys(again.sharing, dealings)
    with pytest.raises(AssertionError):
        form_keys(fresh.sharing, [fresh.dealings[0]] * 2)


def test_a_fresh_public_key_is_the_sum_of_what_the_dealers_showed(fresh):
    for purpose, key in enumerate(fresh.keys.both):
        points = [decode_g1(dealing.public_points[purpose]) for dealing in fresh.dealings]
        assert key.public_key == encode_g1(sum_products(points, [1] * 4))


@pytest.mark.parametrize("recipient", [0, 1, 3])
def test_whoever_holds_its_shares_can_prove_it(fresh, recipient):
    def is_right(proof, sharing=fresh.sharing, keys=fresh.keys, of=recipient):
        return is_acknowledgement_right(sharing, keys, of, proof)

    secrets = fresh.secrets[recipient]
    proof = acknowledge(fresh.sharing, fresh.keys, recipient, secrets)
    assert is_right(proof)
    assert not is_right(proof, of=1 if recipient != 1 else 0)
    assert not is_right(proof, of=2)
    assert not is_right(proof, of=4)
    assert not is_right(proof, of=-1)
    assert not is_right(proof, sharing=replace(fresh.sharing, terms=bytes(32)))
    swapped = Keys(fresh.keys.beacon, fresh.keys.sealing)
    assert not is_right(proof, keys=swapped)
    for malformed in (b"", b"\xc0" + bytes(47), proof + b"\x00", encode_g1(G)):
        assert not is_right(malformed)


def test_no_secret_of_any_ticket_may_be_missing_from_an_acknowledgement(fresh):
    for position in range(2):
        for purpose in range(2):
            secrets = [list(pair) for pair in fresh.secrets[3]]
            secrets[position][purpose] = bytes(31) + b"\x01"
            pairs = [tuple(pair) for pair in secrets]
            proof = acknowledge(fresh.sharing, fresh.keys, 3, pairs)
            assert not is_acknowledgement_right(fresh.sharing, fresh.keys, 3, proof)


def test_each_member_acknowledges_by_a_point_of_its_own(fresh):
    points = [acknowledgement._hash(fresh.sharing, fresh.keys, member) for member in (0, 1)]
    assert points[0] != points[1]


def test_swapped_tickets_are_no_acknowledgement(fresh):
    proof = acknowledge(fresh.sharing, fresh.keys, 3, fresh.secrets[3][::-1])
    assert not is_acknowledgement_right(fresh.sharing, fresh.keys, 3, proof)


def test_a_ticket_whose_secret_was_made_zero_is_held_by_nobody(fresh):
    """The last dealer knows what all others dealt to it and can choose its own to cancel them."""
    key = fresh.keys.sealing
    identity = b"\xc0" + bytes(95)
    zeroed = replace(key, verification_keys=(identity, *key.verification_keys[1:]))
    keys = Keys(zeroed, fresh.keys.beacon)
    assert not is_acknowledgement_right(fresh.sharing, keys, 0, encode_g1(G))
    assert not is_share_right(zeroed, 1, encode_g1(G), encode_g1_wide(G))
    secrets = fresh.secrets_by_ticket()
    shares = {s: compute_shares([secrets[s][0]], 5, [POINT])[0] for s in (2, 3, 4)}
    shares[1] = encode_g1_wide(G)
    opening = open_block(zeroed, [POINT], shares, SEED)
    assert opening.is_open
    assert opening.bad == (BadShare(1, 0),)
