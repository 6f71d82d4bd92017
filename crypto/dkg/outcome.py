"""What comes of the dealings that count: everybody's view of the keys, a member's own secrets.

Which dealings count follows from the chain: fresh, all that nobody brought down; resharing, the
first of them whose old tickets are as many as the old threshold. Every node takes the same in the
same order.
"""

from collections.abc import Sequence

from crypto.dkg.dealing import Dealing, decode_commitments
from crypto.dkg.receiving import TicketSecrets
from crypto.dkg.sharing import PURPOSES, Keys, Sharing
from crypto.group import (
    decode_g1,
    decode_scalar,
    encode_g1,
    encode_g2,
    encode_scalar,
    sum_products,
    sum_products_g2,
)
from crypto.threshold.key import ThresholdKey
from crypto.threshold.lagrange import compute_weights_at_zero
from crypto.threshold.polynomial import evaluate_commitments


def form_keys(sharing: Sharing, dealings: Sequence[Dealing]) -> Keys:
    """Return the keys that the dealings make; for 24 tickets some 150 ms."""
    factors = compute_factors(sharing, dealings)
    sealing, beacon = (_form_key(sharing, dealings, factors, i) for i in range(len(PURPOSES)))
    return Keys(sealing, beacon)


def form_secrets(
    sharing: Sharing,
    dealings: Sequence[Dealing],
    received: Sequence[Sequence[TicketSecrets]],
) -> list[TicketSecrets]:
    """Return what our tickets hold, from what `receiving.open_dealing` gave for each dealing."""
    factors = compute_factors(sharing, dealings)
    secrets: list[TicketSecrets] = []
    for of_ticket in zip(*received, strict=True):
        sealing, beacon = (
            sum(
                factor * decode_scalar(shares[purpose])
                for factor, shares in zip(factors, of_ticket, strict=True)
            )
            for purpose in range(len(PURPOSES))
        )
        secrets.append((encode_scalar(sealing), encode_scalar(beacon)))
    return secrets


def compute_factors(sharing: Sharing, dealings: Sequence[Dealing]) -> list[int]:
    """Return what each dealing is multiplied by: 1, or its old ticket's coefficient at zero."""
    if sharing.previous is None:
        assert dealings
        assert len({dealing.dealer for dealing in dealings}) == len(dealings)
        return [1] * len(dealings)
    assert len(dealings) == sharing.previous.sealing.threshold
    return compute_weights_at_zero([dealing.old_ticket for dealing in dealings])


def _form_key(
    sharing: Sharing, dealings: Sequence[Dealing], factors: Sequence[int], purpose: int
) -> ThresholdKey:
    polynomials = [decode_commitments(each.commitments[purpose]) for each in dealings]
    commitments = [
        sum_products_g2([polynomial[power] for polynomial in polynomials], factors)
        for power in range(sharing.threshold)
    ]
    public_key_g2 = encode_g2(commitments[0])
    if sharing.previous is None:
        points = [decode_g1(dealing.public_points[purpose]) for dealing in dealings]
        public_key = encode_g1(sum_products(points, factors))
    else:
        previous = sharing.previous.both[purpose]
        public_key = previous.public_key
        assert public_key_g2 == previous.public_key_g2, "resharing keeps the secret"
    verification_keys = tuple(
        encode_g2(evaluate_commitments(commitments, ticket))
        for ticket in range(1, sharing.tickets + 1)
    )
    return ThresholdKey(public_key, public_key_g2, sharing.threshold, verification_keys)
