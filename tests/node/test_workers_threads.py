"""Consensus cryptography beside the event loop: the same answers, and own signatures never wait."""

import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from crypto.bls import BLS, generate_secret
from crypto.digest import Domain, digest
from crypto.ed25519 import ED25519
from crypto.mock import MockScheme
from crypto.scheme import Claim, SchemeError
from node.service import ServiceOverloadedError, ServiceThreads
from node.workers.threads import VERIFYING_THREADS_MAX, ConsensusCrypto

SECRETS = [generate_secret(digest(Domain.SEED, bytes([index]))) for index in range(4)]
CHAIN_ID = bytes(32)
KEYS = [BLS.public_key(secret) for secret in SECRETS]


async def result_of(submit):
    """Submit a job and wait for its result."""
    done = trio.Event()
    results = []

    def on_done(result):
        results.append(result)
        done.set()

    submit(on_done)
    await done.wait()
    return results[0]


async def test_signing_aggregating_and_verifying_fit_together(nursery):
    crypto = ConsensusCrypto(CHAIN_ID)
    nursery.start_soon(crypto.run)
    signatures = [crypto.sign(secret, b"vote") for secret in SECRETS]
    partials = [(index, KEYS[index], signatures[index]) for index in range(4)]
    partials[2] = (2, KEYS[2], signatures[1])
    result = await result_of(lambda done: crypto.aggregate(b"vote", partials, done))
    assert (result.signers, result.culprits) == ((0, 1, 3), (2,))
    certificate = Claim((KEYS[0], KEYS[1], KEYS[3]), b"vote", result.signature)
    alone = Claim((KEYS[0],), b"vote", signatures[0])
    false = Claim((KEYS[0],), b"other", signatures[0])
    claims = (certificate, alone, false)
    assert await result_of(lambda done: crypto.verify(claims, done)) == (True, True, False)
    assert await result_of(lambda done: crypto.verify((), done)) == ()


async def test_identity_signatures_are_made_at_once():
    secret = bytes(range(32))
    signature = ConsensusCrypto(CHAIN_ID).sign_identity(secret, b"message")
    assert ED25519.verify(ED25519.public_key(secret), b"message", signature)


async def test_an_unusable_secret_is_told_to_the_caller():
    crypto = ConsensusCrypto(CHAIN_ID)
    with pytest.raises(SchemeError):
        crypto.sign(bytes(32), b"message")
    with pytest.raises(SchemeError):
        crypto.sign_identity(b"short", b"message")


async def test_a_signature_does_not_wait_behind_verifications(nursery):
    release = threading.Event()

    class Slow(MockScheme):
        def verify(self, public_key, message, signature):
            assert release.wait(30)
            return super().verify(public_key, message, signature)

    scheme = Slow()
    secret = bytes([1]) * 32
    crypto = ConsensusCrypto(CHAIN_ID, scheme)
    nursery.start_soon(crypto.run)
    claim = Claim((scheme.public_key(secret),), b"vote", scheme.sign(secret, b"vote"))
    results = []
    last = trio.Event()

    def on_done(result):
        results.append(result)
        if len(results) == VERIFYING_THREADS_MAX + 1:
            last.set()

    for _ in range(VERIFYING_THREADS_MAX + 1):
        crypto.verify((claim,), on_done)
    assert crypto.sign(secret, b"vote") == claim.signature
    assert results == []
    release.set()
    await last.wait()
    assert results == [(True,)] * (VERIFYING_THREADS_MAX + 1)


async def test_what_a_job_raises_ends_the_service():
    service = ServiceThreads("test")
    answers = []

    def fail():
        raise ValueError("injected")

    service.submit(fail, answers.append)
    with pytest.raises(ValueError, match="injected"):
        await service.run()
    assert answers == []


async def test_what_an_answer_raises_ends_the_service_too():
    service = ServiceThreads("test")

    def refuse(result):
        raise ValueError(f"cannot take {result}")

    service.submit(lambda: 7, refuse)
    with pytest.raises(ValueError, match="cannot take 7"):
        await service.run()


async def test_jobs_of_one_thread_are_answered_in_order_and_begun_ones_before_a_stop():
    service = ServiceThreads("test")
    started, release = threading.Event(), threading.Event()
    answers = []

    def block():
        started.set()
        assert release.wait(30)
        return 0

    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        service.submit(block, answers.append)
        service.submit(lambda: 1, answers.append)
        await trio.to_thread.run_sync(started.wait)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            # The service has heard of the stop and waits for the job that it had begun.
            await wait_all_tasks_blocked()
        release.set()
    assert answers == [0]


async def test_jobs_that_nobody_holds_back_end_the_service_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr("node.service.JOBS_WAITING_MAX", 3)
    service = ServiceThreads("test")
    for _ in range(3):
        service.submit(lambda: None, lambda _: None)
    with pytest.raises(ServiceOverloadedError):
        service.submit(lambda: None, lambda _: None)
