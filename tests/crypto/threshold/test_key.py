"""A committee's public key: what cannot belong together is refused."""

import pytest
from msgspec.structs import replace

from crypto.codec import decode, encode
from crypto.group import G, H, encode_g1, encode_g2
from crypto.threshold.key import ThresholdKey, ThresholdKeyError, validate_key


def test_a_dealt_key_is_valid_and_survives_the_codec(block):
    validate_key(block.key)
    assert decode(ThresholdKey, encode(block.key)) == block.key
    assert block.key.tickets == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"public_key": encode_g1(G)},
        {"public_key_g2": encode_g2(H)},
        {"public_key": b"\xc0" + bytes(47)},
        {"public_key_g2": b"\xc0" + bytes(95)},
        {"threshold": 5},
        {"verification_keys": (encode_g2(H), bytes(96), encode_g2(H))},
        {"verification_keys": (encode_g2(H), encode_g2(H), b"\xc0" + bytes(95))},
        {"verification_keys": (encode_g2(H), encode_g2(H), b"\x80" + bytes(94) + b"\x02")},
    ],
)
def test_keys_whose_parts_do_not_fit_are_refused(block, changes):
    with pytest.raises(ThresholdKeyError) as caught:
        validate_key(replace(block.key, **changes))
    assert caught.value.code == "threshold.key_invalid"


def test_a_key_is_named_by_chain_and_public_key_alone(block):
    resharing = replace(block.key, verification_keys=(encode_g2(H),), threshold=1)
    assert resharing.key_id(block.chain_id) == block.key.key_id(block.chain_id)
    assert block.key.key_id(bytes(32)) != block.key.key_id(block.chain_id)
    other = replace(block.key, public_key=encode_g1(G))
    assert other.key_id(block.chain_id) != block.key.key_id(block.chain_id)
