"""What the tests of threshold encryption share: a committee of four, and how to seal to it."""

import pytest
from msgspec.structs import replace

from crypto.group import ORDER as GROUP_ORDER
from crypto.group import G1Point, decode_curve_point, multiply
from crypto.threshold.mock_dealer import deal_test_key
from crypto.threshold.proof import check_headers
from crypto.threshold.sealed import CheckedPoint, Label
from crypto.threshold.sealing import seal
from crypto.threshold.shares import compute_shares

CHAIN_ID = b"\x11" * 32
SEED = b"\x22" * 32
KEY, SECRETS = deal_test_key("committee", 3, 4)
LABEL = Label(CHAIN_ID, KEY.key_id(CHAIN_ID), 0, b"\x33" * 32, b"\x44" * 32, 7, 900, 1_000, 0)


class Bench:
    """One block of sealed bodies, and the committee that they are sealed to."""

    chain_id = CHAIN_ID
    seed = SEED
    key = KEY
    secrets = SECRETS
    label = LABEL

    def __init__(self, size: int) -> None:
        self.messages = [b"order %d" % index for index in range(size)]
        self.labels = [replace(LABEL, nonce=index).compute_digest() for index in range(size)]
        self.bodies = [
            self.seal(message, nonce=index) for index, message in enumerate(self.messages)
        ]
        self.items = list(zip(self.labels, self.bodies, strict=True))
        self.points = [
            CheckedPoint(point)
            for point in check_headers(self.items, SEED)
            if isinstance(point, bytes)
        ]
        every = compute_shares(SECRETS, KEY.tickets, self.points)
        self.shares = dict(enumerate(every, start=1))

    @staticmethod
    def seal(message: bytes, **changes) -> bytes:
        return seal(KEY.public_key, replace(LABEL, **changes), message, SEED)

    @staticmethod
    def secret_key() -> int:
        """x itself, which only a test can know."""
        shares = [int.from_bytes(secret, "big") for secret in SECRETS[:3]]
        return (3 * shares[0] - 3 * shares[1] + shares[2]) % GROUP_ORDER


@pytest.fixture(scope="session")
def block() -> Bench:
    """Never changed by a test."""
    return Bench(5)


@pytest.fixture(scope="session")
def torsion() -> G1Point:
    """A point of order three: the cofactor's part that a random weight misses most often."""
    return decode_curve_point(b"\x80" + bytes(47))


@pytest.fixture(scope="session")
def large_torsion() -> G1Point:
    """A point of the cofactor whose order no small integer is a multiple of."""
    point = decode_curve_point(b"\x80" + bytes(46) + b"\x04")
    return multiply(point, GROUP_ORDER - 1) + point
