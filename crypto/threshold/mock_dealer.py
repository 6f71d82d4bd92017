"""A dealer who knows the secret: for unit tests and published vectors. No node may run it.

In production the secret is nobody's: a ceremony makes the shares.
"""

import hashlib

from crypto.group import ORDER, G, H, encode_g1, encode_g2, encode_scalar, multiply, multiply_g2
from crypto.threshold.key import ThresholdKey
from crypto.threshold.polynomial import evaluate


def deal_test_key(name: str, threshold: int, tickets: int) -> tuple[ThresholdKey, list[bytes]]:
    """Return a key and the secrets of its tickets, all of it a function of the arguments."""
    coefficients = [derive_test_scalar(f"{name}/{power}") for power in range(threshold)]
    secrets = [evaluate(coefficients, ticket) for ticket in range(1, tickets + 1)]
    key = ThresholdKey(
        encode_g1(multiply(G, coefficients[0])),
        encode_g2(multiply_g2(H, coefficients[0])),
        threshold,
        tuple(encode_g2(multiply_g2(H, secret)) for secret in secrets),
    )
    return key, [encode_scalar(secret) for secret in secrets]


def derive_test_scalar(name: str) -> int:
    """Return a scalar in [1, r) that everybody can compute."""
    stream = hashlib.shake_256(b"rota/test-scalar/v1" + name.encode()).digest(48)
    return int.from_bytes(stream, "big") % (ORDER - 1) + 1
