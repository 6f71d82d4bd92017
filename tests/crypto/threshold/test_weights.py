"""Weights of batch checks: unforeseeable, and others for other inputs."""

import pytest

from crypto.threshold.weights import draw_weights


def test_weights_depend_on_the_seed_and_on_every_input():
    drawn = [
        draw_weights(seed, inputs, 3)
        for seed in (bytes(32), b"\x01" * 32)
        for inputs in ([b"ab", b"c"], [b"a", b"bc"], [b"abc"], [b"ab", b"c", b""], [])
    ]
    assert len({weight for weights in drawn for weight in weights}) == 30


def test_weights_have_128_bits():
    weights = draw_weights(bytes(32), [], 64)
    assert len(weights) == 64
    assert 2**120 < max(weights) < 2**128
    assert draw_weights(bytes(32), [], 0) == []


def test_a_short_seed_is_our_own_mistake():
    with pytest.raises(AssertionError):
        draw_weights(bytes(31), [], 1)
