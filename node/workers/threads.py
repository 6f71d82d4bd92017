"""BLS operations beside the event loop: each is one native call that releases the interpreter lock.

Verifying and aggregating (1 to 10 ms) go to threads. Signing (0.35 ms) happens at once: handing it
over and back costs the event loop nearly as much, and a vote would wait for two more wake-ups.
"""

from collections.abc import Callable, Sequence
from typing import Final

from crypto.aggregation import Aggregation, aggregate_partials
from crypto.bls import BLS
from crypto.ed25519 import ED25519
from crypto.scheme import Claim, IdentityScheme, SignatureScheme, verify_claim
from mempool.batch import BatchVerdict, CheckableBatch, check_batch
from node.service import ServiceThreads

VERIFYING_THREADS_MAX: Final = 2
"""More threads would only wait for each other's turn with the interpreter."""


class ConsensusCrypto:
    """Verifies, signs and aggregates for the consensus core. `run` must be running."""

    def __init__(
        self,
        chain_id: bytes,
        scheme: SignatureScheme = BLS,
        identity_scheme: IdentityScheme = ED25519,
    ) -> None:
        self._chain_id = chain_id
        self._scheme = scheme
        self._identity_scheme = identity_scheme
        self._threads = ServiceThreads("bls", VERIFYING_THREADS_MAX)

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._threads.run()

    def verify(self, claims: Sequence[Claim], done: Callable[[tuple[bool, ...]], None]) -> None:
        """One result a claim, in order; about 1.1 ms each, whatever the number of its keys."""
        self._threads.submit(lambda: self._verify(claims), done)

    def aggregate(
        self,
        message: bytes,
        partials: Sequence[tuple[int, bytes, bytes]],
        done: Callable[[Aggregation], None],
    ) -> None:
        """Fold (member index, public key, signature) into one signature and name the culprits."""
        self._threads.submit(lambda: aggregate_partials(self._scheme, message, partials), done)

    def check_batch(self, batch: CheckableBatch, done: Callable[[BatchVerdict], None]) -> None:
        """Check a batch without envelopes: 0.15 ms for half a megabyte."""
        self._threads.submit(
            lambda: check_batch(batch, self._identity_scheme, self._chain_id), done
        )

    def sign(self, secret: bytes, message: bytes) -> bytes:
        """Sign with a consensus key, at once. Raises `SchemeError` for an unusable secret."""
        return self._scheme.sign(secret, message)

    def sign_identity(self, secret: bytes, message: bytes) -> bytes:
        """Sign with an identity key, at once (18 us). Raises `SchemeError` for an unusable
        secret."""
        return self._identity_scheme.sign(secret, message)

    def verify_identity(self, claim: Claim) -> bool:
        """Check one Ed25519 signature, at once (45 us)."""
        (key,) = claim.public_keys
        return self._identity_scheme.verify(key, claim.message, claim.signature)

    def _verify(self, claims: Sequence[Claim]) -> tuple[bool, ...]:
        return tuple(verify_claim(self._scheme, claim) for claim in claims)
