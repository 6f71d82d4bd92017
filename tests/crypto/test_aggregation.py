"""Aggregating votes: everything valid gets in, every culprit is named, at a bounded cost."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.aggregation import (
    Aggregation,
    Partial,
    aggregate_partials,
    compute_verification_bound,
)
from crypto.bls import BLS
from crypto.mock import MockScheme, derive_test_secret
from crypto.scheme import SignatureScheme

MESSAGE = b"vote"
MALFORMED = [b"", bytes(96), bytes(95), b"\xff" * 97]


class CountingScheme(MockScheme):
    """Counts the verifications, each of which would be a pairing check."""

    def __init__(self) -> None:
        super().__init__()
        self.verifications = 0

    def verify_aggregate(
        self, public_keys: Sequence[bytes], message: bytes, signature: bytes
    ) -> bool:
        self.verifications += 1
        return super().verify_aggregate(public_keys, message, signature)


def make_partials(scheme: SignatureScheme, count: int) -> list[Partial]:
    secrets = [derive_test_secret(f"member {index}") for index in range(count)]
    return [
        Partial(index, scheme.public_key(secret), scheme.sign(secret, MESSAGE))
        for index, secret in enumerate(secrets)
    ]


def spoil(scheme: SignatureScheme, partial: Partial) -> Partial:
    """Replace a signature by one over another message."""
    secret = derive_test_secret(f"member {partial.signer}")
    return Partial(partial.signer, partial.public_key, scheme.sign(secret, b"another message"))


def test_honest_votes_cost_one_verification():
    scheme = CountingScheme()
    partials = make_partials(scheme, 100)
    result = aggregate_partials(scheme, MESSAGE, partials)
    assert scheme.verifications == 1
    assert result.signers == tuple(range(100))
    assert result.culprits == ()
    assert result.signature == scheme.aggregate([each.signature for each in partials])
    assert result == aggregate_partials(scheme, MESSAGE, [tuple(each) for each in partials])


def test_no_votes_make_no_aggregate():
    scheme = CountingScheme()
    assert aggregate_partials(scheme, MESSAGE, []) == Aggregation((), b"", ())
    assert scheme.verifications == 0


@settings(max_examples=150, deadline=None)
@given(
    count=st.integers(1, 70),
    bad=st.sets(st.integers(0, 69)),
    malformed=st.dictionaries(st.integers(0, 69), st.sampled_from(MALFORMED), max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_every_culprit_is_named_within_the_bound(count, bad, malformed, order):
    scheme = CountingScheme()
    partials = make_partials(scheme, count)
    bad = {index for index in bad if index < count and index not in malformed}
    malformed = {index: each for index, each in malformed.items() if index < count}
    for index in bad:
        partials[index] = spoil(scheme, partials[index])
    for index, signature in malformed.items():
        partials[index] = Partial(index, partials[index].public_key, signature)
    order.shuffle(partials)
    result = aggregate_partials(scheme, MESSAGE, partials)
    culprits = bad | set(malformed)
    honest = sorted(set(range(count)) - culprits)
    assert result.culprits == tuple(sorted(culprits))
    assert result.signers == tuple(honest)
    well_formed = count - len(malformed)
    assert scheme.verifications <= compute_verification_bound(well_formed, len(bad))
    if honest:
        keys = {partial.signer: partial.public_key for partial in partials}
        assert scheme.verify_aggregate([keys[i] for i in honest], MESSAGE, result.signature)
    else:
        assert result.signature == b""


def test_one_culprit_among_a_hundred_costs_at_most_fifteen_verifications():
    for culprit in (0, 1, 50, 63, 99):
        scheme = CountingScheme()
        partials = make_partials(scheme, 100)
        partials[culprit] = spoil(scheme, partials[culprit])
        assert aggregate_partials(scheme, MESSAGE, partials).culprits == (culprit,)
        assert scheme.verifications <= 15 == compute_verification_bound(100, 1)


def test_malformed_signatures_cost_no_verification_of_their_own():
    scheme = CountingScheme()
    partials = make_partials(scheme, 10)
    for index, signature in enumerate(MALFORMED):
        partials[index] = Partial(index, partials[index].public_key, signature)
    result = aggregate_partials(scheme, MESSAGE, partials)
    assert result.culprits == (0, 1, 2, 3)
    assert scheme.verifications == 1


def test_nothing_but_malformed_signatures_costs_no_verification():
    scheme = CountingScheme()
    partials = [
        Partial(each.signer, each.public_key, MALFORMED[0]) for each in make_partials(scheme, 3)
    ]
    assert aggregate_partials(scheme, MESSAGE, partials) == Aggregation((), b"", (0, 1, 2))
    assert scheme.verifications == 0


def test_it_works_with_real_signatures():
    partials = make_partials(BLS, 7)
    partials[2] = spoil(BLS, partials[2])
    partials[5] = Partial(5, partials[5].public_key, b"\xc0" + bytes(95))
    result = aggregate_partials(BLS, MESSAGE, partials)
    assert result.signers == (0, 1, 3, 4, 6)
    assert result.culprits == (2, 5)
    keys = [partials[index].public_key for index in result.signers]
    assert BLS.verify_aggregate(keys, MESSAGE, result.signature)


def test_signatures_crafted_to_cancel_still_make_the_one_true_aggregate():
    scheme = MockScheme()
    partials = make_partials(scheme, 4)
    shifted = [
        Partial(
            each.signer,
            each.public_key,
            ((int.from_bytes(each.signature, "big") + delta) % 2**768).to_bytes(96, "big"),
        )
        for each, delta in zip(partials, (5, -5, 0, 0), strict=True)
    ]
    result = aggregate_partials(scheme, MESSAGE, shifted)
    assert result == aggregate_partials(scheme, MESSAGE, partials)


def test_one_vote_a_member_is_the_callers_duty():
    scheme = MockScheme()
    partial = make_partials(scheme, 1)[0]
    with pytest.raises(AssertionError):
        aggregate_partials(scheme, MESSAGE, [partial, partial])
