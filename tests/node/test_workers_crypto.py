"""The crypto pool against the same checks in process: same verdicts, bounded, survives deaths."""

import os
import signal

import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from crypto.codec import encode
from crypto.digest import Domain, bulk_digest, digest
from crypto.ed25519 import ED25519, public_key, sign
from crypto.scheme import Claim
from crypto.types import BATCH_BODY_MAX_BYTES
from mempool.batch import (
    BatchBody,
    BatchError,
    CheckableBatch,
    OpaqueChunk,
    check_batch,
    reopen_batch,
)
from mempool.envelope import BodyKind, Envelope, EnvelopeHeader, compute_body_digest
from node.workers.crypto import (
    AHEAD_SIZE_MAX_BYTES,
    JOBS_AHEAD_MAX,
    JOBS_QUEUED_MAX,
    TRIES_MAX,
    WorkerError,
    open_crypto_pool,
)

CHAIN_ID = bytes(range(32))
AUTHOR = digest(Domain.SEED, b"author")
TRADER = digest(Domain.SEED, b"trader")


def envelope(nonce: int, secret: bytes = TRADER) -> bytes:
    body = b"body"
    header = EnvelopeHeader(
        CHAIN_ID,
        0,
        BodyKind.PLAIN,
        public_key(TRADER),
        public_key(TRADER),
        nonce,
        100,
        compute_body_digest(body),
        len(body),
    )
    return encode(Envelope(header, sign(secret, header.signing_bytes()), body))


def signed(body: bytes, **changes):
    fields = {
        "author_key": public_key(AUTHOR),
        "author_signing_bytes": b"header",
        "signature": sign(AUTHOR, b"header"),
        "body_digest": bulk_digest(Domain.BATCH_BODY, body),
        "size_bytes": len(body),
        "body": body,
    }
    return CheckableBatch(**(fields | changes))


def claims(count: int) -> tuple[Claim, ...]:
    """Every third one is false."""
    key = public_key(TRADER)
    return tuple(
        Claim((key,), bytes([index]), sign(TRADER, bytes([index - (index % 3 == 0)])))
        for index in range(1, count + 1)
    )


GOOD = encode(BatchBody((envelope(1), envelope(2)), (OpaqueChunk(7, 4, b"abcdefgh"),)))
LARGE = encode(BatchBody((), (OpaqueChunk(7, 1, bytes(BATCH_BODY_MAX_BYTES - 32)),)))
FORGED = encode(BatchBody((envelope(1), envelope(2, secret=AUTHOR)), ()))


async def test_verdicts_are_those_of_the_check_itself():
    batches = [
        signed(GOOD),
        signed(LARGE),
        signed(FORGED),
        signed(b""),
        signed(b"\xc1" * 100),
        signed(b"\x91" * BATCH_BODY_MAX_BYTES),
        signed(GOOD, size_bytes=1),
        signed(GOOD, signature=bytes(64)),
        signed(GOOD, signature=b"", author_key=b""),
        signed(GOOD, body_digest=bytes(32)),
    ]
    async with open_crypto_pool(2, CHAIN_ID) as pool:
        verdicts = []
        for batch in batches:
            verdicts.append(await pool.check_batch(batch))
    assert verdicts == [check_batch(batch, ED25519, CHAIN_ID) for batch in batches]
    assert verdicts[0].error is verdicts[1].error is None
    assert verdicts[2].error is BatchError.ENVELOPE_INVALID
    assert len({verdict.error for verdict in verdicts}) == 6


async def test_identity_claims_are_verified_one_by_one():
    async with open_crypto_pool(1, CHAIN_ID) as pool:
        assert await pool.verify_identities(()) == ()
        results = await pool.verify_identities(claims(9))
        assert results == (True, True, False) * 3
        # There are no aggregates of Ed25519, and keys of any length may be claimed.
        (claim,) = claims(1)
        odd = (
            Claim((), claim.message, claim.signature),
            Claim(claim.public_keys * 2, claim.message, claim.signature),
            Claim((b"",), claim.message, b""),
        )
        assert await pool.verify_identities(odd) == (False, False, False)


async def test_batches_are_reopened_many_at_a_time():
    bodies = [GOOD, FORGED, LARGE, b"\xc1" * 100]
    batches = [(bulk_digest(Domain.BATCH_BODY, body), body) for body in bodies]
    batches.append((bytes(32), GOOD))
    async with open_crypto_pool(1, CHAIN_ID) as pool:
        verdicts = await pool.reopen_batches(batches)
        assert await pool.reopen_batches(()) == ()
    assert verdicts == tuple(
        reopen_batch(body, body_digest, CHAIN_ID) for body_digest, body in batches
    )
    assert [verdict.error for verdict in verdicts] == [
        None,
        None,
        None,
        BatchError.MALFORMED,
        BatchError.BODY_MISMATCH,
    ]


async def test_every_job_that_was_sent_ahead_survives_the_death_of_its_process():
    async with open_crypto_pool(1, CHAIN_ID) as pool:
        await pool.verify_identities(claims(1))
        (pid,) = pool.statistics().pids
        done = []

        async def verify(count):
            done.append((count, await pool.verify_identities(claims(count))))

        os.kill(pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            for count in range(1, JOBS_AHEAD_MAX + 3):
                nursery.start_soon(verify, count)
                await wait_all_tasks_blocked()
            assert pool.statistics().queued == 2
            os.kill(pid, signal.SIGKILL)
        assert [count for count, _ in sorted(done)] == list(range(1, JOBS_AHEAD_MAX + 3))
        assert all(
            results == tuple(n % 3 != 0 for n in range(1, count + 1)) for count, results in done
        )
        assert pool.statistics().restarts == 1


async def test_no_more_is_sent_ahead_of_a_large_job():
    async with open_crypto_pool(1, CHAIN_ID) as pool:
        await pool.verify_identities(claims(1))
        assert len(LARGE) >= AHEAD_SIZE_MAX_BYTES
        (pid,) = pool.statistics().pids
        os.kill(pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.check_batch, signed(LARGE))
            await wait_all_tasks_blocked()
            nursery.start_soon(pool.verify_identities, claims(1))
            await wait_all_tasks_blocked()
            assert pool.statistics().queued == 1
            os.kill(pid, signal.SIGCONT)


async def test_a_job_survives_the_death_of_its_process():
    async with open_crypto_pool(1, CHAIN_ID) as pool:
        await pool.verify_identities(claims(1))
        (pid,) = pool.statistics().pids
        verdicts = []

        async def check():
            verdicts.append(await pool.check_batch(signed(LARGE)))

        with structlog.testing.capture_logs() as logs:
            async with trio.open_nursery() as nursery:
                os.kill(pid, signal.SIGSTOP)
                nursery.start_soon(check)
                await wait_all_tasks_blocked()
                os.kill(pid, signal.SIGKILL)
        assert [verdict.error for verdict in verdicts] == [None]
        assert [log["event"] for log in logs] == ["crypto_worker_died"]
        assert "SIGKILL" in logs[0]["detail"]
        statistics = pool.statistics()
        assert (statistics.jobs, statistics.restarts) == (2, 1)
        assert statistics.pids != (pid,)


async def test_a_process_that_dies_idle_is_replaced_when_there_is_work():
    async with open_crypto_pool(1, CHAIN_ID) as pool:
        await pool.verify_identities(claims(1))
        (pid,) = pool.statistics().pids
        os.kill(pid, signal.SIGKILL)
        assert await pool.verify_identities(claims(3)) == (True, True, False)
        assert pool.statistics().restarts == 1


async def test_processes_that_cannot_start_fail_each_job_and_are_not_started_for_ever(
    tmp_path, monkeypatch
):
    # Stands before our packages, so that the interpreter ends before it gets to them.
    (tmp_path / "msgspec.py").write_text("raise SystemExit(9)")
    monkeypatch.setattr(
        "node.workers.process._worker_environment", lambda: {"PYTHONPATH": str(tmp_path)}
    )
    async with open_crypto_pool(1, CHAIN_ID) as pool:
        for done in (1, 2):
            with pytest.raises(WorkerError) as caught:
                await pool.verify_identities(claims(1))
            assert caught.value.code == "worker.exited"
            assert "exit status 9" in caught.value.detail
            await wait_all_tasks_blocked()
            statistics = pool.statistics()
            assert statistics.jobs == done
            assert statistics.restarts <= done * TRIES_MAX


async def test_the_queue_is_bounded_and_served_in_order():
    done = []

    async def verify(pool, number):
        await pool.verify_identities(claims(1))
        done.append(number)

    async with open_crypto_pool(1, CHAIN_ID) as pool:
        await verify(pool, 0)
        (pid,) = pool.statistics().pids
        async with trio.open_nursery() as nursery:
            os.kill(pid, signal.SIGSTOP)
            # Some are with the process, the queue takes as many as it may, one more has to wait.
            for number in range(1, JOBS_AHEAD_MAX + JOBS_QUEUED_MAX + 2):
                nursery.start_soon(verify, pool, number)
                await wait_all_tasks_blocked()
            assert pool.statistics().queued == JOBS_QUEUED_MAX
            os.kill(pid, signal.SIGCONT)
        assert sorted(done) == list(range(JOBS_AHEAD_MAX + JOBS_QUEUED_MAX + 2))


async def test_what_nobody_waits_for_is_not_done():
    async with open_crypto_pool(1, CHAIN_ID) as pool:
        await pool.verify_identities(claims(1))
        (pid,) = pool.statistics().pids
        os.kill(pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            for _ in range(JOBS_AHEAD_MAX + 9):
                nursery.start_soon(pool.verify_identities, claims(1))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        os.kill(pid, signal.SIGCONT)
        assert await pool.verify_identities(claims(3)) == (True, True, False)
        # The first ones were with the process already.
        assert pool.statistics().jobs == 2 + JOBS_AHEAD_MAX


async def test_a_closed_pool_answers_nothing():
    async with open_crypto_pool(1, CHAIN_ID) as pool:
        pass
    with pytest.raises(WorkerError) as caught:
        await pool.verify_identities(claims(1))
    assert caught.value.code == "worker.closed"


async def test_closing_a_pool_fails_those_who_wait_for_it():
    errors = []

    async def verify(pool):
        with pytest.raises(WorkerError) as caught:
            await pool.verify_identities(claims(1))
        errors.append(caught.value.code)

    async with trio.open_nursery() as nursery, open_crypto_pool(1, CHAIN_ID) as pool:
        await pool.verify_identities(claims(1))
        os.kill(pool.statistics().pids[0], signal.SIGSTOP)
        for _ in range(JOBS_AHEAD_MAX + JOBS_QUEUED_MAX + 2):
            nursery.start_soon(verify, pool)
        await wait_all_tasks_blocked()
        os.kill(pool.statistics().pids[0], signal.SIGKILL)
    assert set(errors) == {"worker.closed"}
    assert len(errors) == JOBS_AHEAD_MAX + JOBS_QUEUED_MAX + 2
