"""Traders with real keys, and summaries for ledgers that look at no signature."""

from dataclasses import dataclass

import pytest

from crypto.codec import encode
from crypto.digest import Domain, digest
from crypto.ed25519 import public_key, sign
from mempool.envelope import BodyKind, Envelope, EnvelopeHeader, compute_body_digest
from mempool.keys import KeyChange, KeyChanges
from mempool.ledger import HeaderLedger
from mempool.validity import EnvelopeSummary

CHAIN_ID = bytes(range(32))
TIME_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Trader:
    """An account with its root secret."""

    secret: bytes

    @property
    def key(self) -> bytes:
        return public_key(self.secret)

    def header(self, nonce: int, body: bytes = b"body", **changes) -> EnvelopeHeader:
        fields = {
            "chain_id": CHAIN_ID,
            "namespace": 0,
            "kind": BodyKind.PLAIN,
            "sender": self.key,
            "signer": self.key,
            "nonce": nonce,
            "expiry_height": 100,
            "body_digest": compute_body_digest(body),
            "body_size_bytes": len(body),
        }
        return EnvelopeHeader(**(fields | changes))

    def envelope(self, nonce: int, body: bytes = b"body", secret: bytes | None = None, **changes):
        header = self.header(nonce, body, **changes)
        return encode(Envelope(header, sign(secret or self.secret, header.signing_bytes()), body))

    def key_envelope(self, nonce: int, *changes: KeyChange, **header_changes) -> bytes:
        body = encode(KeyChanges(changes))
        return self.envelope(nonce, body, kind=BodyKind.KEYS, **header_changes)

    def summary(self, nonce: int, body: bytes = b"body", **changes) -> EnvelopeSummary:
        header = self.header(nonce, body, **changes)
        return EnvelopeSummary(header.envelope_id(), header)

    def key_summary(self, nonce: int, *changes: KeyChange, **header_changes) -> EnvelopeSummary:
        body = encode(KeyChanges(changes))
        header = self.header(nonce, body, kind=BodyKind.KEYS, **header_changes)
        return EnvelopeSummary(header.envelope_id(), header, changes)


@pytest.fixture(scope="session")
def chain_id() -> bytes:
    return CHAIN_ID


@pytest.fixture(scope="session")
def time_ms() -> int:
    """Time of the ledgers' genesis."""
    return TIME_MS


@pytest.fixture(scope="session")
def make_trader():
    """A trader by number."""
    return lambda number: Trader(digest(Domain.SEED, number.to_bytes(8, "big")))


@pytest.fixture(scope="session")
def alice(make_trader) -> Trader:
    return make_trader(1)


@pytest.fixture(scope="session")
def bob(make_trader) -> Trader:
    return make_trader(2)


@pytest.fixture(scope="session")
def make_ledger():
    """A ledger at genesis in which the given accounts have credit."""

    def make(*accounts: bytes, credit_microquote: int = 10**9) -> HeaderLedger:
        ledger = HeaderLedger(TIME_MS)
        for account in accounts:
            ledger.apply_credit(account, credit_microquote)
        return ledger

    return make
