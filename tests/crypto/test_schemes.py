"""What holds for the real and the mock signature schemes alike: the mock is a fair stand-in."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto import mock
from crypto.bls import BLS
from crypto.ed25519 import ED25519
from crypto.mock import KEYS_MAX, MACS_MAX, MockIdentity, MockScheme, derive_test_secret
from crypto.scheme import (
    PUBLIC_KEY_SIZE_BYTES,
    SIGNATURE_SIZE_BYTES,
    Claim,
    IdentityScheme,
    SchemeError,
    SignatureScheme,
    verify_claim,
)

SECRETS = [derive_test_secret(f"member {i}") for i in range(5)]
MESSAGE = b"vote for block 7"


@pytest.fixture(params=["bls", "mock"])
def scheme(request: pytest.FixtureRequest) -> SignatureScheme:
    return BLS if request.param == "bls" else MockScheme()


@pytest.fixture(params=["ed25519", "mock"])
def identity_scheme(request: pytest.FixtureRequest) -> IdentityScheme:
    return ED25519 if request.param == "ed25519" else MockIdentity()


def flip_bit(data: bytes, position: int) -> bytes:
    flipped = bytearray(data)
    flipped[position // 8] ^= 1 << position % 8
    return bytes(flipped)


def test_a_signature_verifies_for_its_key_and_message_only(scheme):
    keys = [scheme.public_key(secret) for secret in SECRETS]
    signature = scheme.sign(SECRETS[0], MESSAGE)
    assert (len(keys[0]), len(signature)) == (PUBLIC_KEY_SIZE_BYTES, SIGNATURE_SIZE_BYTES)
    assert scheme.verify(keys[0], MESSAGE, signature)
    assert not scheme.verify(keys[1], MESSAGE, signature)
    assert not scheme.verify(keys[0], MESSAGE + b"!", signature)
    assert not scheme.verify(keys[0], b"", signature)
    for position in range(0, 8 * SIGNATURE_SIZE_BYTES, 61):
        assert not scheme.verify(keys[0], MESSAGE, flip_bit(signature, position))


def test_signing_is_deterministic(scheme):
    assert scheme.sign(SECRETS[0], MESSAGE) == scheme.sign(SECRETS[0], MESSAGE)


def test_an_aggregate_verifies_for_exactly_its_signers(scheme):
    keys = [scheme.public_key(secret) for secret in SECRETS]
    aggregate = scheme.aggregate([scheme.sign(secret, MESSAGE) for secret in SECRETS[:3]])
    assert scheme.verify_aggregate(keys[:3], MESSAGE, aggregate)
    assert scheme.verify_aggregate(keys[2::-1], MESSAGE, aggregate), "order does not matter"
    assert not scheme.verify_aggregate(keys[:2], MESSAGE, aggregate), "a signer is missing"
    assert not scheme.verify_aggregate(keys[:4], MESSAGE, aggregate), "one did not sign"
    assert not scheme.verify_aggregate(keys[1:4], MESSAGE, aggregate), "another signer"
    assert not scheme.verify_aggregate(keys[:3], b"another message", aggregate)
    assert not scheme.verify_aggregate([], MESSAGE, aggregate)


def test_a_key_named_twice_is_refused_even_when_its_signature_is_added_twice(scheme):
    key = scheme.public_key(SECRETS[0])
    signature = scheme.sign(SECRETS[0], MESSAGE)
    twice = scheme.aggregate([signature, signature])
    assert not scheme.verify_aggregate([key, key], MESSAGE, twice)
    assert not scheme.verify_aggregate([key], MESSAGE, twice)


def test_aggregates_of_disjoint_signers_aggregate_further(scheme):
    keys = [scheme.public_key(secret) for secret in SECRETS]
    signatures = [scheme.sign(secret, MESSAGE) for secret in SECRETS]
    parts = [scheme.aggregate(signatures[:2]), scheme.aggregate(signatures[2:])]
    assert scheme.aggregate(parts) == scheme.aggregate(signatures)
    assert scheme.verify_aggregate(keys, MESSAGE, scheme.aggregate(parts))
    assert scheme.aggregate(signatures[:1]) == signatures[0]


def test_aggregating_nothing_or_garbage_raises(scheme):
    good = scheme.sign(SECRETS[0], MESSAGE)
    for signatures in ([], [b""], [good, good[:-1]], [good, good + b"\0"]):
        with pytest.raises(SchemeError) as caught:
            scheme.aggregate(signatures)
        assert caught.value.code == "scheme.signature_invalid"


def test_possession_is_proven_by_the_owner_only(scheme):
    keys = [scheme.public_key(secret) for secret in SECRETS]
    proof = scheme.prove_possession(SECRETS[0])
    assert scheme.verify_possession(keys[0], proof)
    assert not scheme.verify_possession(keys[1], proof)
    assert not scheme.verify_possession(keys[0], scheme.sign(SECRETS[0], keys[0])), "other domain"
    assert not scheme.verify(keys[0], keys[0], proof), "a proof is no signature"
    assert not scheme.verify_possession(keys[0], flip_bit(proof, 300))


@pytest.mark.parametrize("secret", [b"", b"\1" * 31, b"\1" * 33])
def test_a_secret_of_the_wrong_size_is_refused(scheme, identity_scheme, secret):
    operations = [scheme.public_key, scheme.prove_possession, identity_scheme.public_key]
    for operation in operations:
        with pytest.raises(SchemeError) as caught:
            operation(secret)
        assert caught.value.code == "scheme.secret_invalid"
    for any_scheme in (scheme, identity_scheme):
        with pytest.raises(SchemeError):
            any_scheme.sign(secret, MESSAGE)


def test_a_claim_with_one_key_is_a_signature_and_with_several_an_aggregate(scheme):
    keys = tuple(scheme.public_key(secret) for secret in SECRETS)
    signatures = [scheme.sign(secret, MESSAGE) for secret in SECRETS]
    aggregate = scheme.aggregate(signatures)
    assert verify_claim(scheme, Claim(keys[:1], MESSAGE, signatures[0]))
    assert verify_claim(scheme, Claim(keys, MESSAGE, aggregate))
    assert not verify_claim(scheme, Claim(keys[:1], MESSAGE, aggregate))
    assert not verify_claim(scheme, Claim(keys[:4], MESSAGE, aggregate))
    assert not verify_claim(scheme, Claim((), MESSAGE, aggregate))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_verification_answers_false_for_any_garbage(data):
    garbage = st.binary(max_size=120) | st.binary(min_size=96, max_size=96)
    for scheme in (BLS, MockScheme()):
        key, message, signature = data.draw(garbage), data.draw(garbage), data.draw(garbage)
        good_key = scheme.public_key(SECRETS[0])
        good_signature = scheme.sign(SECRETS[0], MESSAGE)
        assert not scheme.verify(key, MESSAGE, good_signature)
        assert not scheme.verify(good_key, MESSAGE, signature)
        assert not scheme.verify_aggregate([good_key, key], message, good_signature)
        assert not scheme.verify_aggregate([good_key], message, signature)
        assert not scheme.verify_possession(good_key, signature)
        assert not scheme.verify_possession(key, signature)
        assert not scheme.is_signature(signature) or len(signature) == SIGNATURE_SIZE_BYTES
    for identity_scheme in (ED25519, MockIdentity()):
        key, message, signature = data.draw(garbage), data.draw(garbage), data.draw(garbage)
        assert not identity_scheme.verify(key, message, signature)


def test_an_identity_signature_verifies_for_its_key_and_message_only(identity_scheme):
    key, other_key = (identity_scheme.public_key(secret) for secret in SECRETS[:2])
    signature = identity_scheme.sign(SECRETS[0], MESSAGE)
    assert (len(key), len(signature)) == (32, 64)
    assert identity_scheme.verify(key, MESSAGE, signature)
    assert not identity_scheme.verify(other_key, MESSAGE, signature)
    assert not identity_scheme.verify(key, MESSAGE[:-1], signature)
    for position in range(0, 512, 37):
        assert not identity_scheme.verify(key, MESSAGE, flip_bit(signature, position))


def test_a_public_key_is_told_from_other_bytes(identity_scheme):
    key = identity_scheme.public_key(SECRETS[0])
    assert identity_scheme.is_public_key(key)
    for other in (b"", key[:-1], bytes(32), b"\xff" * 32):
        assert not identity_scheme.is_public_key(other)


def test_a_mock_world_does_not_know_the_keys_of_another():
    here, there = MockScheme(), MockScheme()
    key, signature = there.public_key(SECRETS[0]), there.sign(SECRETS[0], MESSAGE)
    assert not here.verify(key, MESSAGE, signature)
    assert not here.verify_aggregate([key], MESSAGE, signature)
    assert here.public_key(SECRETS[0]) == key, "keys are the same in every run"
    assert here.verify(key, MESSAGE, signature)


def test_mock_keys_show_nothing_of_their_secret():
    for scheme in (MockScheme(), MockIdentity()):
        key = scheme.public_key(SECRETS[0])
        assert SECRETS[0] not in key
        assert SECRETS[0] not in scheme.sign(SECRETS[0], MESSAGE)


def test_mock_signatures_mauled_in_the_aggregate_are_refused():
    scheme = MockScheme()
    keys = [scheme.public_key(secret) for secret in SECRETS[:2]]
    numbers = [int.from_bytes(scheme.sign(secret, MESSAGE), "big") for secret in SECRETS[:2]]
    generator = random.Random(1)
    for delta in (1, -1, generator.randrange(2**768)):
        total = (sum(numbers) + delta) % 2**768
        assert not scheme.verify_aggregate(keys, MESSAGE, total.to_bytes(96, "big"))


def test_a_mock_remembers_so_many_keys_macs_and_sums_and_computes_the_rest_again():
    scheme = MockScheme()
    keys = [scheme.public_key(secret) for secret in SECRETS[:2]]
    first = scheme.aggregate([scheme.sign(secret, MESSAGE) for secret in SECRETS[:2]])
    for number in range(MACS_MAX + 1):
        message = number.to_bytes(8, "big")
        assert scheme.verify_aggregate(keys, message, first) is False
    for number in range(KEYS_MAX + 1):
        scheme.public_key(number.to_bytes(32, "big"))
    for remembered, most in (
        (mock._compute_mac, MACS_MAX),
        (mock._derive_public_key, KEYS_MAX),
        (scheme._add_up, MACS_MAX),
    ):
        assert remembered.cache_info()[2:] == (most, most)
    assert scheme.verify_aggregate(keys, MESSAGE, first)
    assert scheme.public_key(SECRETS[0]) == keys[0]
    other = MockScheme()
    assert not other.verify_aggregate(keys, MESSAGE, first)
