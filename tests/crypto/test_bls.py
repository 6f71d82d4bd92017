"""The production scheme against an independent implementation, and the points it must refuse."""

import pytest
from py_ecc.bls import G2ProofOfPossession as Oracle
from py_ecc.bls.g2_primitives import G1_to_pubkey, pubkey_to_G1
from py_ecc.bls.point_compression import decompress_G1
from py_ecc.optimized_bls12_381 import add, curve_order, field_modulus, is_inf, multiply, neg

from crypto import bls
from crypto.bls import BLS, GROUP_ORDER, PUBLIC_KEY_CACHE_SIZE, generate_secret
from crypto.mock import derive_test_secret
from crypto.scheme import SchemeError

SECRET = derive_test_secret("one")
OTHER_SECRET = derive_test_secret("two")
MESSAGE = b"checkpoint"
IDENTITY_KEY = b"\xc0" + bytes(47)
IDENTITY_SIGNATURE = b"\xc0" + bytes(95)


def make_point_outside_the_subgroup() -> bytes:
    """Return a compressed point on the curve that is not in G1."""
    x = 1
    while True:
        candidate = (x | 1 << 383).to_bytes(48, "big")
        try:
            point = decompress_G1(int.from_bytes(candidate, "big"))
        except ValueError:
            x += 1
            continue
        if not is_inf(multiply(point, curve_order)):
            return candidate
        x += 1


def test_keys_signatures_aggregates_and_proofs_equal_those_of_py_ecc():
    numbers = [int.from_bytes(secret, "big") for secret in (SECRET, OTHER_SECRET)]
    keys = [BLS.public_key(secret) for secret in (SECRET, OTHER_SECRET)]
    signatures = [BLS.sign(secret, MESSAGE) for secret in (SECRET, OTHER_SECRET)]
    assert keys == [Oracle.SkToPk(number) for number in numbers]
    assert signatures == [Oracle.Sign(number, MESSAGE) for number in numbers]
    aggregate = BLS.aggregate(signatures)
    assert aggregate == Oracle.Aggregate(signatures)
    assert Oracle.FastAggregateVerify(keys, MESSAGE, aggregate)
    assert BLS.verify_aggregate(keys, MESSAGE, aggregate)
    proof = BLS.prove_possession(SECRET)
    assert proof == Oracle.PopProve(numbers[0])
    assert Oracle.PopVerify(keys[0], proof)


def test_an_empty_message_signs_as_in_py_ecc():
    assert BLS.sign(SECRET, b"") == Oracle.Sign(int.from_bytes(SECRET, "big"), b"")


@pytest.mark.parametrize("seed", [bytes(32), b"\xff" * 32, bytes(range(32))])
def test_secrets_derive_from_seeds_as_in_py_ecc(seed):
    assert int.from_bytes(generate_secret(seed), "big") == Oracle.KeyGen(seed)


def test_the_published_ethereum_signing_vector_holds():
    secret = bytes.fromhex("263dbd792f5b1be47ed85f8938c0f29586af0d3ac7b977f21c278fe1462040e3")
    assert BLS.public_key(secret).hex() == (
        "a491d1b0ecd9bb917989f0e74f0dea0422eac4a873e5e2644f368dffb9a6e20f"
        "d6e10c1b77654d067c0618f6e5a7f79a"
    )
    assert BLS.sign(secret, bytes(32)).hex() == (
        "b6ed936746e01f8ecf281f020953fbf1f01debd5657c4a383940b020b26507f6"
        "076334f91e2366c96e9ab279fb5158090352ea1c5b0c9274504f4f0e7053af24"
        "802e51e4568d164fe986834f41e55c8e850ce1f98458c0cfc9ab380b55285a55"
    )


def test_a_secret_outside_the_scalar_range_is_refused():
    largest = (GROUP_ORDER - 1).to_bytes(32, "big")
    assert curve_order == GROUP_ORDER
    assert len(BLS.public_key(largest)) == 48
    for bad in (bytes(32), GROUP_ORDER.to_bytes(32, "big"), b"\xff" * 32):
        with pytest.raises(SchemeError) as caught:
            BLS.sign(bad, MESSAGE)
        assert caught.value.code == "scheme.secret_invalid"


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33)])
def test_a_seed_of_another_length_is_refused(seed):
    with pytest.raises(SchemeError):
        generate_secret(seed)


def test_the_identity_is_refused_as_key_and_as_signature():
    key = BLS.public_key(SECRET)
    signature = BLS.sign(SECRET, MESSAGE)
    assert not BLS.verify(IDENTITY_KEY, MESSAGE, IDENTITY_SIGNATURE)
    assert not BLS.verify_possession(IDENTITY_KEY, IDENTITY_SIGNATURE)
    assert not BLS.verify_aggregate([IDENTITY_KEY], MESSAGE, IDENTITY_SIGNATURE)
    assert not BLS.verify_aggregate([key, IDENTITY_KEY], MESSAGE, signature)
    assert not BLS.is_signature(IDENTITY_SIGNATURE)
    with pytest.raises(SchemeError):
        BLS.aggregate([signature, IDENTITY_SIGNATURE])


def test_keys_that_cancel_do_not_make_the_identity_a_valid_aggregate():
    key = BLS.public_key(SECRET)
    negated = G1_to_pubkey(neg(pubkey_to_G1(key)))
    assert not BLS.verify_aggregate([key, negated], MESSAGE, IDENTITY_SIGNATURE)


def test_a_rogue_key_has_no_proof_of_possession():
    honest = BLS.public_key(SECRET)
    mine = BLS.public_key(OTHER_SECRET)
    rogue = G1_to_pubkey(add(pubkey_to_G1(mine), neg(pubkey_to_G1(honest))))
    forged = BLS.sign(OTHER_SECRET, MESSAGE)
    assert BLS.verify_aggregate([honest, rogue], MESSAGE, forged), "the attack itself works"
    assert not BLS.verify_possession(rogue, BLS.prove_possession(OTHER_SECRET))


def test_a_point_outside_the_subgroup_is_refused():
    outside = make_point_outside_the_subgroup()
    signature = BLS.sign(SECRET, MESSAGE)
    assert not BLS.verify(outside, MESSAGE, signature)
    assert not BLS.verify_possession(outside, signature)


def test_other_encodings_of_a_point_are_refused():
    key = BLS.public_key(SECRET)
    signature = BLS.sign(SECRET, MESSAGE)
    x = int.from_bytes(key, "big") & (1 << 381) - 1
    flags = key[0] & 0xE0
    unreduced = bytearray((x + field_modulus).to_bytes(48, "big"))
    if not unreduced[0] & 0xE0:
        unreduced[0] |= flags
        assert not BLS.verify(bytes(unreduced), MESSAGE, signature)
    for first_byte in (key[0] & 0x7F, key[0] | 0x40, key[0] ^ 0x20):
        assert not BLS.verify(bytes([first_byte]) + key[1:], MESSAGE, signature)
    for first_byte in (signature[0] & 0x7F, signature[0] | 0x40, signature[0] ^ 0x20):
        assert not BLS.verify(key, MESSAGE, bytes([first_byte]) + signature[1:])


def test_bad_keys_are_not_cached_and_the_cache_is_bounded():
    bls._decode_public_key.cache_clear()
    signature = BLS.sign(SECRET, MESSAGE)
    for number in range(50):
        assert not BLS.verify(b"\x80" + bytes(46) + bytes([number]), MESSAGE, signature[:-1])
        assert not BLS.verify(bytes(47) + bytes([number]), MESSAGE, signature)
    assert BLS.verify(BLS.public_key(SECRET), MESSAGE, signature)
    information = bls._decode_public_key.cache_info()
    assert information.maxsize == PUBLIC_KEY_CACHE_SIZE
    assert information.currsize <= 51
