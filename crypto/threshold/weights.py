"""Random weights for checks of many equations at once.

A batch check adds its equations up, each with a weight, and passes a false one only if the weights
hit a value that nobody could foresee. They must be unknown to whoever made the inputs: a caller
passes 32 fresh random bytes of its own, drawn after the inputs came in. The inputs are hashed in,
too, so that even a seed used twice gives other weights for other inputs.

Weights decide nothing that nodes must agree on beyond an error of 2^-128.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

WEIGHT_SIZE_BYTES: Final = 16
"""A weight has 128 bits: a false equation passes with a probability of 2^-128."""

SEED_SIZE_BYTES: Final = 32


def draw_weights(seed: bytes, inputs: Iterable[bytes], count: int) -> list[int]:
    """Return `count` weights below 2^128 that depend on the seed and on all inputs."""
    assert len(seed) == SEED_SIZE_BYTES
    state = hashlib.shake_128(b"rota/batch-weights/v1" + seed)
    for each in inputs:
        state.update(len(each).to_bytes(8, "big") + each)
    stream = state.digest(count * WEIGHT_SIZE_BYTES)
    return [
        int.from_bytes(stream[start : start + WEIGHT_SIZE_BYTES], "big")
        for start in range(0, len(stream), WEIGHT_SIZE_BYTES)
    ]
