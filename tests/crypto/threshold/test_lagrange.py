"""Coefficients are exact, small and for every set of tickets."""

from fractions import Fraction
from math import factorial, prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.group import ORDER
from crypto.threshold.lagrange import (
    TICKETS_MAX,
    compute_coefficients,
    compute_share_scale,
    compute_weights_at_zero,
)
from crypto.threshold.mock_dealer import derive_test_scalar
from crypto.threshold.polynomial import evaluate


def compute_exactly(ticket, chosen):
    return prod((Fraction(other, other - ticket) for other in chosen if other != ticket), start=1)


@st.composite
def choices(draw):
    tickets = draw(st.integers(1, 40))
    chosen = draw(st.sets(st.integers(1, tickets), min_size=1))
    return tuple(sorted(chosen)), tickets


@settings(max_examples=80)
@given(choices())
def test_small_integers_times_the_multiplier_are_the_scaled_coefficients(choice):
    chosen, tickets = choice
    coefficients, multiplier = compute_coefficients(chosen, tickets)
    for ticket, coefficient in zip(chosen, coefficients, strict=True):
        exact = factorial(tickets - 1) * compute_exactly(ticket, chosen)
        assert multiplier * coefficient == exact


@settings(max_examples=40)
@given(choices())
def test_any_set_as_large_as_the_polynomial_finds_its_value_at_zero(choice):
    chosen, _ = choice
    polynomial = [derive_test_scalar(str(power)) for power in range(len(chosen))]
    shares = [evaluate(polynomial, ticket) for ticket in chosen]
    weights = compute_weights_at_zero(chosen)
    total = sum(weight * share for weight, share in zip(weights, shares, strict=True))
    assert total % ORDER == polynomial[0]


@pytest.mark.parametrize(("threshold", "tickets", "bits"), [(3, 4, 4), (11, 16, 22), (17, 24, 36)])
def test_coefficients_stay_small_for_committees_of_usual_size(threshold, tickets, bits):
    for first in range(1, tickets - threshold + 2):
        chosen = tuple(range(first, first + threshold))
        spread = (*range(1, threshold), tickets)
        for each in (chosen, spread):
            coefficients, _ = compute_coefficients(each, tickets)
            assert max(abs(value).bit_length() for value in coefficients) <= bits


def test_the_largest_committee_combines_too():
    chosen = tuple(range(2, TICKETS_MAX + 1, 5))
    coefficients, multiplier = compute_coefficients(chosen, TICKETS_MAX)
    exact = factorial(TICKETS_MAX - 1) * compute_exactly(2, chosen)
    assert multiplier * coefficients[0] == exact
    assert compute_share_scale(TICKETS_MAX) == factorial(TICKETS_MAX - 1) % ORDER != 0
    assert compute_share_scale(1) == 1


@pytest.mark.parametrize("chosen", [(0, 1), (1, 1), (2, 1), (1, 5)])
def test_tickets_out_of_range_or_order_are_our_own_mistake(chosen):
    with pytest.raises(AssertionError):
        compute_coefficients(chosen, 4)
