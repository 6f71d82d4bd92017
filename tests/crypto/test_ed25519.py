"""Ed25519: published vectors, and that verification leaves no freedom."""

import pytest
from nacl.bindings import crypto_core_ed25519_add

from crypto.ed25519 import is_public_key, public_key, sign, verify

# RFC 8032, section 7.1: secret, public key, message, signature.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]

FIELD = 2**255 - 19
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
IDENTITY = bytes([1]) + bytes(31)
ORDER_EIGHT = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
SMALL_ORDER = [
    bytes(32),
    IDENTITY,
    (FIELD - 1).to_bytes(32, "little"),
    ORDER_EIGHT,
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]

SECRET = bytes(range(32))
MESSAGE = b"order"


@pytest.mark.parametrize(("secret", "key", "message", "signature"), VECTORS)
def test_rfc_8032_vectors_hold(secret, key, message, signature):
    assert public_key(bytes.fromhex(secret)).hex() == key
    assert sign(bytes.fromhex(secret), bytes.fromhex(message)).hex() == signature
    assert verify(bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature))


def test_a_signature_with_s_beyond_the_group_order_is_refused():
    signature = sign(SECRET, MESSAGE)
    s = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    malleated = signature[:32] + s.to_bytes(32, "little")
    assert not verify(public_key(SECRET), MESSAGE, malleated)


@pytest.mark.parametrize("key", SMALL_ORDER)
def test_small_order_keys_and_points_are_refused(key):
    assert not is_public_key(key)
    for r in SMALL_ORDER:
        assert not verify(key, MESSAGE, r + bytes(32))
        assert not verify(public_key(SECRET), MESSAGE, r + sign(SECRET, MESSAGE)[32:])


def test_a_key_with_a_small_order_component_cannot_be_registered():
    mixed = crypto_core_ed25519_add(public_key(SECRET), ORDER_EIGHT)
    assert is_public_key(public_key(SECRET))
    assert not is_public_key(mixed)


def test_non_canonical_keys_are_refused():
    for y in range(FIELD, 2**255):
        for sign_bit in (0, 1 << 255):
            key = (y | sign_bit).to_bytes(32, "little")
            assert not is_public_key(key)
            assert not verify(key, MESSAGE, IDENTITY + bytes(32))


def test_keys_and_signatures_of_the_wrong_size_are_refused():
    key, signature = public_key(SECRET), sign(SECRET, MESSAGE)
    assert verify(key, MESSAGE, signature)
    for bad_key in (b"", key[:-1], key + b"\0"):
        assert not verify(bad_key, MESSAGE, signature)
        assert not is_public_key(bad_key)
    assert not verify(key, MESSAGE, signature[:-1])
    assert not verify(key, MESSAGE[1:], signature + MESSAGE[:1]), "no byte may move across"
