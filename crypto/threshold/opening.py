"""The keys of a block: combined from shares, verified in one equation, culprits named.

`open_block` trusts shares until their combination turns out wrong. Then it judges each ticket's
shares by themselves, names who gave a bad one, and combines without them. So honest committees pay
one equation a block, and a member pays for each lie with a slashing.

A key found here is recorded in a later block; whoever replays the chain verifies the record by
`verify_keys` and needs no shares.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from crypto.group import (
    G1_WIDE_SIZE_BYTES,
    G1Point,
    GroupError,
    H,
    decode_curve_point_wide,
    decode_g1,
    encode_g1,
    is_identity,
    is_in_g1,
    is_pairing_product_one,
    multiply,
    sum_products,
)
from crypto.threshold.key import ThresholdKey, decode_verification_key
from crypto.threshold.lagrange import compute_coefficients, compute_share_scale
from crypto.threshold.sealed import CheckedPoint
from crypto.threshold.shares import split_shares
from crypto.threshold.weights import draw_weights

POINTS_MAX: Final = 4096
"""Bodies opened in one call. Several calls do for more."""


class BadShare(Struct, frozen=True):
    """A ticket's share of the point at `index` is not its share: slashable with its signature."""

    ticket: int
    index: int


class BlockOpening(Struct, frozen=True):
    """What came of the shares at hand."""

    keys: tuple[bytes, ...]
    """K of each point, compressed, verified; empty while too few good shares are there."""
    bad: tuple[BadShare, ...]
    """One bad share of each ticket that gave any and was looked at."""

    @property
    def is_open(self) -> bool:
        return bool(self.keys)


def open_block(
    key: ThresholdKey,
    points: Sequence[CheckedPoint],
    shares: Mapping[int, bytes],
    seed: bytes,
) -> BlockOpening:
    """Combine the shares of a block's points to their keys.

    `shares` maps tickets to strings as `compute_shares` makes them, in any state. The lowest
    `key.threshold` tickets are combined; the others are looked at only if one of these is bad. 256
    points cost 45 ms at four tickets, and each ticket that must be judged 20 ms more.
    """
    assert 0 < len(points) <= POINTS_MAX
    decoded_points = [decode_curve_point_wide(point) for point in points]
    weights = draw_weights(seed, [*points, *(shares[each] for each in sorted(shares))], len(points))
    check = _BlockCheck(key, decoded_points, weights)
    bad: list[BadShare] = []
    good: dict[int, list[G1Point]] = {}
    is_judging = False
    for ticket in sorted(shares):
        assert 1 <= ticket <= key.tickets
        parsed = _decode_shares(shares[ticket], len(points))
        if isinstance(parsed, int):
            bad.append(BadShare(ticket, parsed))
            continue
        good[ticket] = parsed
        if is_judging:
            bad += check.drop_false(good, [ticket])
        if len(good) < key.threshold:
            continue
        keys = _combine(key, good, len(points))
        if check.are_keys_right(keys):
            return BlockOpening(tuple(encode_g1(each) for each in keys), tuple(bad))
        assert not is_judging, "good shares of a consistent key combine to right keys"
        is_judging = True
        bad += check.drop_false(good, sorted(good))
        assert len(good) < key.threshold
    return BlockOpening((), tuple(bad))


def verify_keys(
    key: ThresholdKey, points: Sequence[CheckedPoint], keys: Sequence[bytes], seed: bytes
) -> bool:
    """Are these the keys, as `open_block` gives them, of these points? 120 us a point."""
    if len(keys) != len(points):
        return False
    if not keys:
        return True
    try:
        decoded = [decode_g1(each) for each in keys]
    except GroupError:
        return False
    weights = draw_weights(seed, [*points, *keys], len(points))
    decoded_points = [decode_curve_point_wide(point) for point in points]
    return _BlockCheck(key, decoded_points, weights).is_combination_right(decoded)


def _decode_shares(shares: bytes, count: int) -> list[G1Point] | int:
    """Return the points of a ticket's shares, on the curve; or the number of one that is none.

    That they are in G1 is checked of what they combine to: one point in the place of tau.
    """
    pieces = split_shares(shares)
    if len(shares) != count * G1_WIDE_SIZE_BYTES:
        return min(len(shares) // G1_WIDE_SIZE_BYTES, count - 1)
    points = []
    for index, piece in enumerate(pieces):
        try:
            points.append(decode_curve_point_wide(piece))
        except GroupError:
            return index
    return points


def _combine(key: ThresholdKey, good: Mapping[int, list[G1Point]], count: int) -> list[G1Point]:
    chosen = tuple(sorted(good))
    coefficients, multiplier = compute_coefficients(chosen, key.tickets)
    columns = [good[ticket] for ticket in chosen]
    return [
        multiply(sum_products([column[i] for column in columns], coefficients), multiplier)
        for i in range(count)
    ]


class _BlockCheck:
    """The checks of one block, by one choice of weights."""

    def __init__(
        self, key: ThresholdKey, points: Sequence[G1Point], weights: Sequence[int]
    ) -> None:
        self._key = key
        self._points = points
        self._weights = weights
        self._scale = compute_share_scale(key.tickets)
        self._weighted_sums: dict[tuple[int, int], G1Point] = {}

    def are_keys_right(self, keys: Sequence[G1Point]) -> bool:
        """The same for keys as combined, which may be outside G1 if a share is: the pairing would
        not notice, but the body's key would be another one."""
        if not all(is_in_g1(each) and not is_identity(each) for each in keys):
            return False
        return self.is_combination_right(keys)

    def is_combination_right(self, keys: Sequence[G1Point]) -> bool:
        """e(sum of b_j K_j, H) = e(sum of b_j U_j, Y2)."""
        left = sum_products(keys, self._weights)
        right = self._sum_points(0, len(self._points))
        public_key = decode_verification_key(self._key.public_key_g2)
        return is_pairing_product_one([(left, H), (-right, public_key)])

    def drop_false(self, good: dict[int, list[G1Point]], tickets: Sequence[int]) -> list[BadShare]:
        """Judge the shares of `tickets`; take who gave a false one out of `good` and name it."""
        found = []
        for ticket in tickets:
            index = self._find_false_share(ticket, good[ticket])
            if index is not None:
                found.append(BadShare(ticket, index))
                del good[ticket]
        return found

    def _find_false_share(self, ticket: int, shares: Sequence[G1Point]) -> int | None:
        """Return the number of a share of the ticket that is false, if there is one.

        A verification key that is the identity fits no share, and no ticket with it was ever shown
        to be held; whoever made it so for itself is no reason to stop.
        """
        try:
            decode_verification_key(self._key.verification_keys[ticket - 1])
        except GroupError:
            return 0
        for index, share in enumerate(shares):
            if not is_in_g1(share):
                return index
        start, stop = 0, len(shares)
        if self._are_shares_right(ticket, shares, start, stop):
            return None
        while stop - start > 1:
            middle = (start + stop) // 2
            if self._are_shares_right(ticket, shares, start, middle):
                start = middle
            else:
                stop = middle
        return start

    def _are_shares_right(
        self, ticket: int, shares: Sequence[G1Point], start: int, stop: int
    ) -> bool:
        """e((W-1)! sum of b_j D_j, H) = e(sum of b_j U_j, VK_s), over a stretch of the block."""
        weights = self._weights[start:stop]
        left = multiply(sum_products(shares[start:stop], weights), self._scale)
        right = self._sum_points(start, stop)
        verification_key = decode_verification_key(self._key.verification_keys[ticket - 1])
        return is_pairing_product_one([(left, H), (-right, verification_key)])

    def _sum_points(self, start: int, stop: int) -> G1Point:
        """The sum of b_j U_j over a stretch: the same for every ticket that is judged."""
        known = self._weighted_sums.get((start, stop))
        if known is None:
            known = sum_products(self._points[start:stop], self._weights[start:stop])
            self._weighted_sums[start, stop] = known
        return known
