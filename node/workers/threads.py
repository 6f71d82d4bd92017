"""Single BLS operations on threads: each is one native call that releases the interpreter lock.

Handing over to a thread and back costs about 55 us of the event loop, a verification inline would
cost it 1.1 ms. Own signatures have a thread of their own, so that a vote never waits behind the
verification of others' certificates. Waiting callers are served in order.
"""

from collections.abc import Sequence
from typing import Final

import trio

from crypto.aggregation import Aggregation, aggregate_partials
from crypto.bls import BLS
from crypto.ed25519 import ED25519
from crypto.scheme import Claim, IdentityScheme, SignatureScheme, verify_claim

VERIFYING_THREADS_MAX: Final = 2
"""More threads would only wait for each other's turn with the interpreter."""

SIGNING_THREADS_MAX: Final = 1
"""A node signs one thing after the other."""


class ConsensusCrypto:
    """Verifies, signs and aggregates for the consensus core, off the event loop."""

    def __init__(
        self, scheme: SignatureScheme = BLS, identity_scheme: IdentityScheme = ED25519
    ) -> None:
        self._scheme = scheme
        self._identity_scheme = identity_scheme
        self._verifying = trio.CapacityLimiter(VERIFYING_THREADS_MAX)
        self._signing = trio.CapacityLimiter(SIGNING_THREADS_MAX)

    async def verify(self, claims: Sequence[Claim]) -> tuple[bool, ...]:
        """One result a claim, in order; about 1.1 ms each, whatever the number of its keys."""
        return await trio.to_thread.run_sync(self._verify, claims, limiter=self._verifying)

    async def aggregate(
        self, message: bytes, partials: Sequence[tuple[int, bytes, bytes]]
    ) -> Aggregation:
        """Fold (member index, public key, signature) into one signature and name the culprits."""
        return await trio.to_thread.run_sync(
            aggregate_partials, self._scheme, message, partials, limiter=self._verifying
        )

    async def sign(self, secret: bytes, message: bytes) -> bytes:
        """Sign with a consensus key; 0.35 ms. Raises `SchemeError` for an unusable secret."""
        return await trio.to_thread.run_sync(
            self._scheme.sign, secret, message, limiter=self._signing
        )

    def sign_identity(self, secret: bytes, message: bytes) -> bytes:
        """Sign with an identity key, at once: 18 us, less than handing over to a thread costs.
        Raises `SchemeError` for an unusable secret."""
        return self._identity_scheme.sign(secret, message)

    def _verify(self, claims: Sequence[Claim]) -> tuple[bool, ...]:
        return tuple(verify_claim(self._scheme, claim) for claim in claims)
