"""What each step of a sealed body's way costs one core, by committees of different size.

A block's worth of bodies at a time, as worker processes do it; processor time, the least of a few
runs. Sealing is a client's cost, everything else each node's.
"""

import hashlib
from collections.abc import Callable
from time import thread_time
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from crypto.threshold.key import ThresholdKey
from crypto.threshold.mock_dealer import deal_test_key
from crypto.threshold.opening import BlockOpening, open_block, verify_keys
from crypto.threshold.proof import check_headers
from crypto.threshold.sealed import CheckedPoint, Label, SealFault
from crypto.threshold.sealing import open_body, seal
from crypto.threshold.shares import compute_shares

T = TypeVar("T")

BODIES_DEFAULT: Final = 256
BODIES_MAX: Final = 4096

COMMITTEES: Final = ((3, 4), (11, 16), (17, 24))
"""Threshold and tickets."""

TARGET_OPEN_MS: Final = 200.0
"""For a block of 256 bodies, combined, verified and decrypted."""

_RUNS = 3
_SIZE_CLASS = 3
_MESSAGE_BYTES = 3_500
_SEED = bytes(32)


class SealingSteps(Struct, frozen=True):
    """Microseconds a body, one committee."""

    threshold: int
    tickets: int
    seal_us: float
    """A client seals it."""
    check_us: float
    """Its header is checked with the others'."""
    check_with_false_us: float
    """The same where one header of the batch is false."""
    share_us: float
    """A member's share of it, for one ticket."""
    open_us: float
    """Shares to verified keys."""
    open_with_bad_us: float
    """The same where a member's shares are bad: it is found, and others take its place."""
    verify_us: float
    """Recorded keys are verified, by a node that has no shares."""
    decrypt_us: float


class SealingResult(Struct, frozen=True):
    """What sealed bodies cost on this machine."""

    bodies: int
    """In a block."""
    body_bytes: int
    steps: tuple[SealingSteps, ...]
    target_open_ms: float = TARGET_OPEN_MS

    @property
    def open_ms(self) -> float:
        """A block of 256, of the smallest committee: from shares to messages."""
        first = self.steps[0]
        return (first.open_us + first.decrypt_us) * BODIES_DEFAULT / 1000

    @property
    def met(self) -> bool:
        return self.open_ms <= self.target_open_ms


def measure_sealing(bodies: int, note: Callable[[str], None]) -> SealingResult:
    """Measure every step for every committee."""
    steps = []
    for threshold, tickets in COMMITTEES:
        note(f"sealing and opening {bodies} bodies with {threshold} of {tickets} tickets")
        steps.append(_Block(threshold, tickets, bodies).measure())
    return SealingResult(bodies, 512 << _SIZE_CLASS, tuple(steps))


class _Block:
    """A block of bodies and the committee that opens it."""

    def __init__(self, threshold: int, tickets: int, bodies: int) -> None:
        self._key: ThresholdKey
        self._key, self._secrets = deal_test_key("bench", threshold, tickets)
        label = Label(_SEED, _SEED, 0, _SEED, _SEED, 0, 1, 1, _SIZE_CLASS)
        self._labels = [replace(label, nonce=nonce) for nonce in range(bodies)]
        self._digests = [each.compute_digest() for each in self._labels]
        self._message = bytes(_MESSAGE_BYTES)

    def measure(self) -> SealingSteps:
        seal_us, bodies = self._time(self._seal_all)
        items = list(zip(self._digests, bodies, strict=True))
        check_us, checked = self._time(lambda: check_headers(items, _SEED))
        points = [each for each in checked if not isinstance(each, SealFault)]
        assert len(points) == len(items)
        spoiled = [(items[-1][0], items[0][1]), *items[1:]] if len(items) > 1 else items
        check_with_false_us, _ = self._time(lambda: check_headers(spoiled, _SEED))
        tickets = self._key.tickets
        share_us, _ = self._time(lambda: compute_shares(self._secrets[:1], tickets, points))
        shares = self._make_shares(points)
        open_us, opening = self._time(lambda: self._open(points, shares))
        bad_shares = {**shares, 1: shares[2]}
        open_with_bad_us, again = self._time(lambda: self._open(points, bad_shares))
        assert opening.keys == again.keys
        assert [bad.ticket for bad in again.bad] == [1]
        key = self._key
        verify_us, is_right = self._time(lambda: verify_keys(key, points, opening.keys, _SEED))
        decrypt_us, messages = self._time(lambda: self._decrypt_all(bodies, opening.keys))
        assert is_right
        assert set(messages) == {self._message}
        return SealingSteps(
            threshold=key.threshold,
            tickets=tickets,
            seal_us=seal_us,
            check_us=check_us,
            check_with_false_us=check_with_false_us,
            share_us=share_us,
            open_us=open_us,
            open_with_bad_us=open_with_bad_us,
            verify_us=verify_us,
            decrypt_us=decrypt_us,
        )

    def _seal_all(self) -> list[bytes]:
        seed = hashlib.sha256(b"bench").digest()
        public_key = self._key.public_key
        return [seal(public_key, label, self._message, seed) for label in self._labels]

    def _make_shares(self, points: list[CheckedPoint]) -> dict[int, bytes]:
        """Of as many tickets as are needed, and one more."""
        held = self._secrets[: self._key.threshold + 1]
        return dict(enumerate(compute_shares(held, self._key.tickets, points), start=1))

    def _open(self, points: list[CheckedPoint], shares: dict[int, bytes]) -> BlockOpening:
        return open_block(self._key, points, shares, _SEED)

    def _decrypt_all(self, bodies: list[bytes], keys: tuple[bytes, ...]) -> list[bytes | None]:
        return [
            open_body(label_digest, body, key)
            for label_digest, body, key in zip(self._digests, bodies, keys, strict=True)
        ]

    def _time(self, work: Callable[[], T]) -> tuple[float, T]:
        """Return microseconds a body and what came of it."""
        best_s = float("inf")
        for _ in range(_RUNS):
            start_s = thread_time()
            result = work()
            best_s = min(best_s, thread_time() - start_s)
        return best_s * 1e6 / len(self._labels), result
