"""The host carries out a core's effects; here the core is a script, and its world is fake."""

import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from consensus.effects import (
    BatchChecked,
    CheckBatch,
    Halt,
    Misbehaviour,
    Persist,
    Put,
    Received,
    Send,
    SetTimer,
    Sign,
    SignIdentity,
    Store,
    TimerFired,
    Token,
)
from consensus.messages import BatchRequest, BlockResponse, CommittedRequest, encode_message
from consensus.types import BatchHeader, SignedBatchHeader
from crypto.digest import Domain, bulk_digest
from crypto.ed25519 import public_key, sign
from mempool.batch import BatchBody, BatchSummary, BatchVerdict, OpaqueChunk, encode_batch_body
from node.clock import Clock
from node.events import BatchToOpen, OpenBatches
from node.exit_codes import ExitCode
from node.groups import walk_leaves
from node.host import HaltError, NodeHost
from node.storage.errors import SafetyError, StorageError
from node.storage.group_commit import GroupCommitter
from node.transport.queues import Traffic
from node.workers.threads import ConsensusCrypto

ME = 0
VOTE = CommittedRequest(7)
"""Any control message does for one."""


class ScriptedCore:
    """Answers each event with what `script` says, and remembers the events."""

    chain_id = bytes(32)

    def __init__(self, start=()):
        self.effects = list(start)
        self.events = []
        self.script = lambda event: ()

    def start(self, now_ms):
        return self.effects

    def step(self, now_ms, event):
        self.events.append(event)
        return list(self.script(event))


class FakeNetwork:
    def __init__(self):
        self.sent = []

    def send(self, to, traffic, frame):
        self.sent.append((to, traffic, frame))
        return True


class FakeAudience:
    def __getattr__(self, name):
        assert name.startswith("on_")
        return lambda *_: None


class Bench:
    def __init__(
        self, core, commit=lambda items: None, *, batches=None, pool=None, is_signing=True
    ):
        self.core, self.network = core, FakeNetwork()
        self.safety = GroupCommitter(commit)
        self.host = NodeHost(
            me=ME,
            core=core,
            clock=Clock(),
            keys=None,
            network=self.network,
            audience=FakeAudience(),
            safety=self.safety,
            archive=None,
            archive_writes=GroupCommitter(lambda items: None),
            batches=batches,
            batch_writes=GroupCommitter(lambda items: None),
            pool=pool,
            crypto=ConsensusCrypto(core.chain_id),
            engine=None,
            library=None,
            is_signing=is_signing,
        )

    async def run(self, then=None):
        """Run host and safety store until `then` is done, or for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.safety.run)
            await nursery.start(self.host.run)
            if then is not None:
                await then()
                nursery.cancel_scope.cancel()


def persist(number):
    return Persist(Token("test", number), Store.SAFETY, (Put("vote", bytes([number]), b"v"),))


def send(to, message, *after):
    return Send(to, message, tuple(Token("test", number) for number in after))


async def test_a_vote_leaves_only_after_its_record_is_committed():
    core = ScriptedCore([persist(1), send((1, 2), VOTE, 1), send((3,), VOTE)])
    bench = Bench(core)
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.host.run)
        await wait_all_tasks_blocked()
        # The store's task does not run yet: nothing can be durable.
        assert [to for to, _, _ in bench.network.sent] == [3]
        nursery.start_soon(bench.safety.run)
        await bench.safety.drain()
        assert [to for to, _, _ in bench.network.sent] == [3, 1, 2]
        nursery.cancel_scope.cancel()


async def test_a_failed_safety_write_ends_the_node_and_the_vote_never_leaves():
    failure = StorageError("storage.full", "no space left")

    def fail(_items):
        raise failure

    core = ScriptedCore([persist(1), send((1, 2, ME), VOTE, 1)])
    bench = Bench(core, fail)
    with pytest.raises(BaseExceptionGroup) as raised:
        await bench.run()
    assert raised.group_contains(StorageError, match="no space left")
    assert bench.network.sent == []
    assert core.events == [], "nor did the own vote count"


async def test_a_message_to_oneself_comes_back_as_received_under_the_same_rule():
    core = ScriptedCore([persist(1), send((ME, 1), VOTE, 1)])
    bench = Bench(core)

    async def check():
        await bench.safety.drain()
        assert core.events == [Received(ME, VOTE)]
        assert bench.network.sent == [(1, Traffic.CONTROL, encode_message(VOTE))]

    await bench.run(check)


async def test_events_that_effects_bring_about_are_stepped_one_after_the_other():
    depth = []

    def script(event):
        assert not depth, "a core is never stepped within its own step"
        depth.append(event)
        height = event.message.from_height
        effects = [send((ME,), CommittedRequest(height + 1))] if height < 5 else []
        depth.clear()
        return effects

    core = ScriptedCore([send((ME,), CommittedRequest(1))])
    core.script = script
    bench = Bench(core)
    await bench.run(wait_all_tasks_blocked)
    assert [event.message.from_height for event in core.events] == [1, 2, 3, 4, 5]


async def test_bulk_messages_travel_on_the_bulk_connection_and_both_are_decoded():
    core = ScriptedCore([send((1,), BlockResponse(())), send((1,), VOTE)])
    bench = Bench(core)

    async def check():
        (_, first, bulk), (_, second, control) = bench.network.sent
        assert (first, second) == (Traffic.BULK, Traffic.CONTROL)
        bench.host.receive(2, first, bulk)
        bench.host.receive(3, second, control)

    await bench.run(check)
    assert core.events == [Received(2, BlockResponse(())), Received(3, VOTE)]


async def test_a_frame_that_is_no_message_is_its_senders_fault_and_reaches_no_core():
    core = ScriptedCore()
    bench = Bench(core)

    async def check():
        bench.host.receive(2, Traffic.CONTROL, b"\xc1")
        bench.host.receive(2, Traffic.BULK, encode_message(BatchRequest((bytes(32),))))

    await bench.run(check)
    assert core.events == []
    assert sum(bench.host.misbehaviours.values()) == 2


async def test_timers_fire_as_events_and_what_was_cancelled_does_not(autojump_clock):
    core = ScriptedCore()
    bench = Bench(core)
    now_ms = bench.host.clock.now_ms()
    core.effects = [
        SetTimer("consensus/view", now_ms + 200),
        SetTimer("lanes/ack", now_ms + 100),
        SetTimer("consensus/view", None),
    ]

    async def check():
        await trio.sleep(0.5)

    await bench.run(check)
    assert core.events == [TimerFired("lanes/ack")]


async def test_the_verdict_on_a_bad_batch_comes_back_with_the_part_that_is_bad():
    body = encode_batch_body(BatchBody((), (OpaqueChunk(1, 2, b"abc"),)))
    body_digest = bulk_digest(Domain.BATCH_BODY, body)
    header = BatchHeader(0, 1, 1, bytes(32), body_digest, len(body))
    unsigned = SignedBatchHeader(header, bytes(64))
    secret, chain_id = bytes(range(32)), ScriptedCore.chain_id
    signed = SignedBatchHeader(header, sign(secret, unsigned.author_signing_bytes(chain_id)))
    check = CheckBatch(
        Token("test", 1), header.batch_id(chain_id), signed, public_key(secret), body
    )
    core = ScriptedCore([check])
    bench = Bench(core)

    async def answered() -> None:
        # A thread checks; that all tasks are blocked does not mean that it is done.
        with trio.fail_after(30):
            while not core.events:
                await wait_all_tasks_blocked(0.001)

    await bench.run(answered)
    words = "chunk 0: not whole transactions"
    assert core.events == [BatchChecked(check.token, "batch.opaque_invalid", None, words)]


class FakePool:
    """Opens batches at once, and remembers how many came together."""

    def __init__(self):
        self.asked = []

    async def reopen_batches(self, batches):
        self.asked.append(batches)
        return tuple(BatchVerdict(None, BatchSummary((), ())) for _ in batches)


async def test_batches_of_earlier_lives_are_read_and_opened_in_one_go_and_in_order():
    stored = {bytes([number]) * 32: ("header", bytes([number])) for number in range(5)}
    wanted = tuple(BatchToOpen(each, bytes([number] * 32)) for number, each in enumerate(stored))
    opening = OpenBatches(Token("test", 1), wanted[::-1])
    core, pool = ScriptedCore([opening]), FakePool()
    bench = Bench(core, batches=stored, pool=pool)

    async def answered() -> None:
        # A thread reads; that all tasks are blocked does not mean that it is done.
        with trio.fail_after(30):
            while not core.events:
                await wait_all_tasks_blocked(0.001)

    await bench.run(answered)
    pairs = tuple((each.body_digest, stored[each.batch_id][1]) for each in opening.batches)
    assert pool.asked == [pairs]
    (event,) = core.events
    assert event.token == opening.token
    assert len(event.verdicts) == len(wanted)


async def test_a_halt_of_the_core_ends_the_host():
    bench = Bench(ScriptedCore([Halt("state.contradicted", "another root is certified")]))
    with pytest.raises(BaseExceptionGroup) as raised:
        await bench.run()
    assert raised.group_contains(HaltError, match="state.contradicted: another root")


@pytest.mark.parametrize("kind", [Sign, SignIdentity])
async def test_a_node_that_follows_ends_rather_than_sign(kind):
    bench = Bench(ScriptedCore([kind(Token("test", 1), b"message")]), is_signing=False)
    with pytest.raises(BaseExceptionGroup) as raised:
        await bench.run()
    (error,) = walk_leaves(raised.value)
    assert isinstance(error, SafetyError)
    assert (error.code, error.exit_code) == ("safety.following", ExitCode.REFUSED_TO_SIGN)


async def test_misbehaviours_are_counted_and_logged_at_every_doubling():
    core = ScriptedCore([Misbehaviour(2, "vote.unknown", "x" * 1_000)] * 9)
    bench = Bench(core)
    with structlog.testing.capture_logs() as logs:
        await bench.run(wait_all_tasks_blocked)
    assert bench.host.misbehaviours == {"vote.unknown": 9}
    assert [each["count"] for each in logs] == [1, 2, 4, 8]
    assert all(len(each["detail"]) == 200 for each in logs)
