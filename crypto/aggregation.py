"""Turning single votes into one certificate signature, paying for verification only once.

Verifying every vote on its own costs a pairing check each. Honest members send valid signatures,
so the votes are added up first and the sum is verified once; only when that fails are the halves
looked at, and their halves, until every invalid signature has its author's name on it.

The sum of a set of signatures over one message is valid exactly when it proves that all of the set
signed. Two invalid signatures can be crafted to cancel in the sum; it is then still the one valid
signature of those signers, which nobody could have made without their secrets (given proofs of
possession), so accepting it is sound.

These are plain functions over a `SignatureScheme`: a host runs them in a worker thread and feeds
the result back to the core as an event.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from crypto.scheme import SchemeError, SignatureScheme


class Partial(NamedTuple):
    """One member's signature, not verified yet. A plain tuple of the three serves as well."""

    signer: int
    """The member's position in the committee."""
    public_key: bytes
    signature: bytes


class Aggregation(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What came of a set of partial signatures over one message."""

    signers: tuple[int, ...]
    """Members whose signatures are in the aggregate, ascending."""
    signature: bytes
    """The verified aggregate of exactly `signers`; empty when there are none."""
    culprits: tuple[int, ...]
    """Members whose signatures do not verify, ascending; each one is the author's fault, provided
    that the transport authenticated who sent it."""


class _Sum(NamedTuple):
    """Some partials and the sum of their signatures."""

    partials: Sequence[Partial]
    signature: bytes


def compute_verification_bound(partial_count: int, culprit_count: int) -> int:
    """Return the most verifications that `aggregate_partials` makes.

    One when nobody cheats. Each culprit spoils one path of halves from the whole set down to
    itself, at most two verifications a step; and no part is ever verified twice.
    """
    if partial_count == 0:
        return 0
    steps = (partial_count - 1).bit_length()
    return min(2 * partial_count - 1, 1 + 2 * culprit_count * steps)


def aggregate_partials(
    scheme: SignatureScheme, message: bytes, partials: Sequence[tuple[int, bytes, bytes]]
) -> Aggregation:
    """Aggregate what is valid and name who sent what is not.

    Every member may appear once (the caller keeps one vote a member). Bytes that are no signature
    at all make their sender a culprit without a pairing. Verifications made: at most
    `compute_verification_bound`.
    """
    unverified = [Partial(*each) for each in partials]
    indices = [partial.signer for partial in unverified]
    assert len(set(indices)) == len(indices), "one partial signature a member"
    keys = {partial.public_key for partial in unverified}
    assert len(keys) == len(indices), "members of a committee have distinct keys"
    try:
        whole = _add_up(scheme, unverified) if unverified else None
        malformed: list[int] = []
    except SchemeError:
        # Looking at each signature on its own doubles the cost of decoding; only a culprit
        # makes us do it.
        formed = [partial for partial in unverified if scheme.is_signature(partial.signature)]
        kept = {partial.signer for partial in formed}
        malformed = [index for index in indices if index not in kept]
        whole = _add_up(scheme, formed) if formed else None
    if whole is None:
        return Aggregation((), b"", tuple(sorted(malformed)))
    if _verify(scheme, message, whole):
        valid, invalid = [whole], list[int]()
    else:
        valid, invalid = _bisect(scheme, message, whole.partials)
    signers = sorted(partial.signer for part in valid for partial in part.partials)
    signature = scheme.aggregate([part.signature for part in valid]) if valid else b""
    return Aggregation(tuple(signers), signature, tuple(sorted(malformed + invalid)))


def _add_up(scheme: SignatureScheme, partials: Sequence[Partial]) -> _Sum:
    return _Sum(partials, scheme.aggregate([partial.signature for partial in partials]))


def _verify(scheme: SignatureScheme, message: bytes, part: _Sum) -> bool:
    keys = [partial.public_key for partial in part.partials]
    return scheme.verify_aggregate(keys, message, part.signature)


def _bisect(
    scheme: SignatureScheme, message: bytes, spoiled: Sequence[Partial]
) -> tuple[list[_Sum], list[int]]:
    """Split partials whose sum is known to be invalid into valid sums and culprits."""
    if len(spoiled) == 1:
        return [], [spoiled[0].signer]
    middle = len(spoiled) // 2
    left, right = _add_up(scheme, spoiled[:middle]), _add_up(scheme, spoiled[middle:])
    if _verify(scheme, message, left):
        # The sum of both is invalid and the left half is valid, so the right half cannot be:
        # that needs no verification.
        valid, culprits = _bisect(scheme, message, right.partials)
        return [left, *valid], culprits
    valid, culprits = _bisect(scheme, message, left.partials)
    if _verify(scheme, message, right):
        return [*valid, right], culprits
    more_valid, more_culprits = _bisect(scheme, message, right.partials)
    return valid + more_valid, culprits + more_culprits
