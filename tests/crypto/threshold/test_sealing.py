"""What is sealed opens under its key and label alone, and its length says no more than a class."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from crypto.group import ORDER, G, decode_g1, encode_g1, multiply
from crypto.threshold import sealing
from crypto.threshold.proof import find_header_fault
from crypto.threshold.sealed import (
    HEADER_SIZE_BYTES,
    MESSAGE_SIZE_MAX_BYTES,
    OVERHEAD_BYTES,
    SIZE_CLASSES_BYTES,
    SealError,
    find_size_class,
    pad,
    strip_padding,
)
from crypto.threshold.sealing import open_body, seal


def compute_key(block, body):
    return encode_g1(multiply(decode_g1(body[:48]), block.secret_key()))


@pytest.mark.parametrize("size_class", range(len(SIZE_CLASSES_BYTES)))
def test_each_class_seals_up_to_its_bound_and_opens(block, size_class):
    label = replace(block.label, size_class=size_class)
    message = b"\x00" * (SIZE_CLASSES_BYTES[size_class] - OVERHEAD_BYTES)
    for each in (message, b""):
        body = seal(block.key.public_key, label, each, block.seed)
        assert len(body) == SIZE_CLASSES_BYTES[size_class]
        assert find_header_fault(label.compute_digest(), body) is None
        assert open_body(label.compute_digest(), body, compute_key(block, body)) == each
    with pytest.raises(SealError) as caught:
        seal(block.key.public_key, label, message + b"\x00", block.seed)
    assert caught.value.code == "sealed.message_too_large"


@pytest.mark.parametrize(
    ("size_bytes", "size_class"),
    [(0, 0), (271, 0), (272, 1), (783, 1), (784, 2), (MESSAGE_SIZE_MAX_BYTES, 7)],
)
def test_the_smallest_class_that_holds_a_message_is_found(size_bytes, size_class):
    assert find_size_class(size_bytes) == size_class


def test_a_message_above_the_largest_class_has_none():
    with pytest.raises(SealError):
        find_size_class(MESSAGE_SIZE_MAX_BYTES + 1)


@given(st.binary(max_size=270))
def test_padding_comes_off_as_it_went_on(message):
    assert strip_padding(pad(message, 0)) == message


@pytest.mark.parametrize("padded", [b"", bytes(272), b"order" + bytes(20), b"\x80\x01"])
def test_what_was_never_padded_has_no_message(padded):
    assert strip_padding(padded) is None


@pytest.mark.parametrize(
    ("key", "seed", "code"),
    [
        (b"\xc0" + bytes(47), bytes(32), "sealed.key_invalid"),
        (bytes(48), bytes(32), "sealed.key_invalid"),
        (encode_g1(G), bytes(31), "sealed.seed_invalid"),
        (encode_g1(G), bytes(33), "sealed.seed_invalid"),
    ],
)
def test_keys_and_seeds_that_are_none_are_refused(block, key, seed, code):
    with pytest.raises(SealError) as caught:
        seal(key, block.label, b"order", seed)
    assert caught.value.code == code


def test_a_seed_used_twice_gives_other_exponents_for_another_message_or_label(block):
    bodies = [block.seal(b"one"), block.seal(b"two"), block.seal(b"one", nonce=8)]
    assert len({body[:48] for body in bodies}) == 3
    assert block.seal(b"one") == bodies[0]


def test_exponents_are_never_zero(block, monkeypatch):
    class Stream:
        def __init__(self, data):
            pass

        def digest(self, size):
            return (ORDER - 1).to_bytes(48, "big") * 2

    monkeypatch.setattr(sealing.hashlib, "shake_256", Stream)
    assert sealing._derive_exponents(bytes(32), bytes(32), b"") == (1, 1)


def test_a_body_opens_under_no_other_key_or_label_and_not_when_changed(block):
    label, body = block.items[0]
    key = compute_key(block, body)
    other_key = compute_key(block, block.bodies[1])
    changed = body[:-1] + bytes([body[-1] ^ 1])
    moved = block.bodies[1][:48] + body[48:]
    assert open_body(label, body, key) == block.messages[0]
    assert open_body(label, body, other_key) is None
    assert open_body(block.labels[1], body, key) is None
    assert open_body(label, changed, key) is None
    assert open_body(label, moved, key) is None


def test_a_body_without_padding_is_garbage_though_its_cipher_is_right(block):
    """A sender can make one; all nodes must say the same of it."""
    label, body = block.items[0]
    key = compute_key(block, body)
    cipher_key = sealing.derive_body_key(key, body[:48], label)
    padded = bytes(SIZE_CLASSES_BYTES[0] - HEADER_SIZE_BYTES - 16)
    ciphertext = sealing.ChaCha20Poly1305(cipher_key).encrypt(bytes(12), padded, label)
    assert open_body(label, body[:HEADER_SIZE_BYTES] + ciphertext, key) is None


@settings(max_examples=10)
@given(st.integers(0, 511))
def test_the_two_halves_of_a_key_derivation_are_both_in_it(block, position):
    label, body = block.items[0]
    key = compute_key(block, body)
    first = body[:48]
    flipped = bytes([key[position % 48] ^ (1 << position % 8)])
    other = key[: position % 48] + flipped + key[position % 48 + 1 :]
    derived = sealing.derive_body_key(key, first, label)
    assert derived != sealing.derive_body_key(other, first, label)
    assert derived != sealing.derive_body_key(key, other, label)
    assert derived != sealing.derive_body_key(key, first, block.labels[1])
