"""Consensus cryptography on threads: the same answers, and own signatures never wait."""

import threading

import pytest
import trio

from crypto.bls import BLS, generate_secret
from crypto.digest import Domain, digest
from crypto.ed25519 import ED25519
from crypto.mock import MockScheme
from crypto.scheme import Claim, SchemeError
from node.workers.threads import VERIFYING_THREADS_MAX, ConsensusCrypto

SECRETS = [generate_secret(digest(Domain.SEED, bytes([index]))) for index in range(4)]
KEYS = [BLS.public_key(secret) for secret in SECRETS]


async def test_signing_aggregating_and_verifying_fit_together():
    crypto = ConsensusCrypto()
    signatures = [await crypto.sign(secret, b"vote") for secret in SECRETS]
    partials = [(index, KEYS[index], signatures[index]) for index in range(4)]
    partials[2] = (2, KEYS[2], signatures[1])
    result = await crypto.aggregate(b"vote", partials)
    assert (result.signers, result.culprits) == ((0, 1, 3), (2,))
    certificate = Claim((KEYS[0], KEYS[1], KEYS[3]), b"vote", result.signature)
    alone = Claim((KEYS[0],), b"vote", signatures[0])
    false = Claim((KEYS[0],), b"other", signatures[0])
    assert await crypto.verify((certificate, alone, false)) == (True, True, False)
    assert await crypto.verify(()) == ()


async def test_identity_signatures_are_made_at_once():
    secret = bytes(range(32))
    signature = ConsensusCrypto().sign_identity(secret, b"message")
    assert ED25519.verify(ED25519.public_key(secret), b"message", signature)


async def test_an_unusable_secret_is_told_to_the_caller():
    crypto = ConsensusCrypto()
    with pytest.raises(SchemeError):
        await crypto.sign(bytes(32), b"message")
    with pytest.raises(SchemeError):
        crypto.sign_identity(b"short", b"message")


async def test_a_signature_does_not_wait_behind_verifications():
    release = threading.Event()

    class Slow(MockScheme):
        def verify(self, public_key, message, signature):
            assert release.wait(30)
            return super().verify(public_key, message, signature)

    scheme = Slow()
    secret = bytes([1]) * 32
    crypto = ConsensusCrypto(scheme)
    claim = Claim((scheme.public_key(secret),), b"vote", scheme.sign(secret, b"vote"))
    results = []

    async def verify():
        results.append(await crypto.verify((claim,)))

    async with trio.open_nursery() as nursery:
        for _ in range(VERIFYING_THREADS_MAX + 1):
            nursery.start_soon(verify)
        assert await crypto.sign(secret, b"vote") == claim.signature
        assert results == []
        release.set()
    assert results == [(True,)] * (VERIFYING_THREADS_MAX + 1)
