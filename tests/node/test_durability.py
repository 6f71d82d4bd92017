"""Durable first: what follows a write leaves when the write is durable, and never otherwise."""

import pytest
import trio

from consensus.effects import Delete, Persist, Put, Send, Store, StoreBatch, Token
from node.durability import DROPS_PER_SYNC, Durability
from node.storage.errors import StorageError
from node.storage.group_commit import GroupCommitter


class FakeStore:
    """A store's queue that commits when the test says so."""

    def __init__(self):
        self.submitted = []

    def submit(self, item, on_durable=None):
        self.submitted.append((item, on_durable))

    def commit(self, count=1):
        for _ in range(count):
            _, on_durable = self.submitted.pop(0)
            on_durable()


class Bench:
    def __init__(self, safety=None):
        self.safety = safety if safety is not None else FakeStore()
        self.archive, self.batches = FakeStore(), FakeStore()
        self.left = []
        self.durability = Durability(
            safety=self.safety, archive=self.archive, batches=self.batches, send_now=self.leave
        )

    def leave(self, effect):
        self.left.append(effect.message)

    def persist(self, number, store=Store.SAFETY):
        put = Put("vote", bytes([number]), b"value")
        self.durability.persist(Persist(Token("test", number), store, (put,)))

    def send(self, message, *after):
        tokens = tuple(Token("test", number) for number in after)
        self.durability.send(Send((1, 2), message, tokens))


def test_a_message_that_names_no_record_leaves_at_once():
    bench = Bench()
    bench.persist(1)
    bench.send("free")
    assert bench.left == ["free"]


def test_nothing_leaves_before_the_commit_of_what_it_names():
    bench = Bench()
    bench.persist(1)
    bench.send("vote", 1)
    assert bench.left == []
    bench.safety.commit()
    assert bench.left == ["vote"]
    bench.send("again", 1)
    assert bench.left == ["vote", "again"], "the record is durable by now"


def test_a_message_waits_for_all_that_it_names_and_for_nothing_else():
    bench = Bench()
    bench.persist(1)
    bench.persist(2, Store.ARCHIVE)
    bench.persist(3)
    bench.send("both", 1, 2)
    bench.send("other", 3)
    bench.safety.commit()
    assert bench.left == []
    bench.safety.commit()
    assert bench.left == ["other"]
    bench.archive.commit()
    assert bench.left == ["other", "both"]


def test_a_message_that_names_a_record_before_it_is_asked_for_ends_the_node():
    bench = Bench()
    bench.persist(1)
    with pytest.raises(AssertionError, match="the write was asked for"):
        bench.send("too early", 2)
    assert bench.left == []


def test_what_waits_for_one_record_leaves_in_the_order_in_which_it_was_sent():
    bench = Bench()
    bench.persist(1)
    bench.persist(2)
    for number in range(8):
        bench.send(number, 1, *([2] if number % 2 else []))
    bench.safety.commit()
    assert bench.left == [0, 2, 4, 6]
    bench.safety.commit()
    assert bench.left == [0, 2, 4, 6, 1, 3, 5, 7]


def test_each_write_goes_whole_to_the_store_that_it_names():
    bench = Bench()
    bench.persist(1)
    bench.persist(2, Store.ARCHIVE)
    [(safety, _)], [(archive, _)] = bench.safety.submitted, bench.archive.submitted
    assert [put.key for put in safety.puts] == [b"\x01"]
    assert [put.key for put in archive.puts] == [b"\x02"]


def test_a_batch_is_reported_after_what_waited_for_it_has_left():
    bench = Bench()
    token = Token("test", 1)
    effect = StoreBatch(token, b"id", "header", b"body")
    bench.durability.store_batch(effect, lambda: bench.left.append("stored"))
    bench.send("batch", 1)
    assert bench.left == []
    [(stored, _)] = bench.batches.submitted
    assert (stored.batch_id, stored.signed_header, stored.body) == (b"id", "header", b"body")
    bench.batches.commit()
    assert bench.left == ["batch", "stored"]


def test_a_message_that_a_leaving_one_brings_about_may_wait_for_a_new_record():
    bench = Bench()

    def leave(effect):
        bench.left.append(effect.message)
        if effect.message == "vote":
            bench.persist(2)
            bench.send("next", 2)

    bench.leave = leave
    bench.durability = Durability(
        safety=bench.safety, archive=bench.archive, batches=bench.batches, send_now=leave
    )
    bench.persist(1)
    bench.send("vote", 1)
    bench.safety.commit()
    assert bench.left == ["vote"]
    bench.safety.commit()
    assert bench.left == ["vote", "next"]


async def test_one_group_commit_lets_all_leave_that_waited_for_any_of_its_writes(nursery):
    groups = []
    committer = GroupCommitter(groups.append)
    bench = Bench(committer)
    for number in range(4):
        bench.persist(number)
        bench.send(number, number)
    assert bench.left == []
    nursery.start_soon(committer.run)
    await committer.drain()
    assert bench.left == [0, 1, 2, 3]
    assert [len(group) for group in groups] == [4]


async def test_after_a_failed_write_nothing_leaves_and_the_failure_ends_the_node():
    failure = StorageError("storage.full", "no space left")

    def fail(_items):
        raise failure

    committer = GroupCommitter(fail)
    bench = Bench(committer)
    bench.persist(1)
    bench.send("vote", 1)
    with pytest.raises(StorageError) as raised:
        await committer.run()
    assert raised.value is failure
    assert bench.left == []
    with pytest.raises(StorageError) as raised:
        bench.persist(2)
    assert raised.value is failure
    bench.send("for the failed one", 1)
    await trio.testing.wait_all_tasks_blocked()
    assert bench.left == []


def drop(bench, number, below):
    deletes = (Delete("vote", below),)
    bench.durability.persist(Persist(Token("test", number), Store.SAFETY, (), deletes))


def test_safety_records_go_only_once_the_archive_was_synced_after_the_drop_was_asked_for():
    bench = Bench()
    for number in range(DROPS_PER_SYNC):
        drop(bench, number, bytes([number]))
    written = [item for item, _ in bench.safety.submitted]
    assert len(written) == DROPS_PER_SYNC
    assert not any(write.deletes for write in written)
    ((sync, _),) = bench.archive.submitted
    assert sync.is_synced
    bench.safety.commit(DROPS_PER_SYNC)
    assert not bench.safety.submitted
    bench.archive.commit()
    ((dropped, _),) = bench.safety.submitted
    assert dropped.deletes == (Delete("vote", bytes([DROPS_PER_SYNC - 1])),)


def test_the_archive_is_not_synced_for_every_drop():
    bench = Bench()
    for number in range(DROPS_PER_SYNC - 1):
        drop(bench, number, bytes([number]))
    assert not bench.archive.submitted
