import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from node.storage.batches import BATCHES_PER_COMMIT_MAX
from node.storage.errors import StorageError
from node.storage.group_commit import ITEMS_PER_COMMIT_MAX, PENDING_MAX, GroupCommitter


class SlowStore:
    """Commits only when it is allowed to; remembers in which groups."""

    def __init__(self):
        self.groups = []
        self.started = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)
        self.error = None

    def commit(self, items):
        self.started.release()
        self.allowed.acquire()
        if self.error is not None:
            raise self.error
        self.groups.append(list(items))

    async def wait_started(self):
        await trio.to_thread.run_sync(self.started.acquire)


async def test_what_gathers_during_a_commit_becomes_the_next_one():
    store = SlowStore()
    committer = GroupCommitter(store.commit)
    done = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        committer.submit(0, lambda: done.append(0))
        await store.wait_started()
        for item in range(1, 6):
            committer.submit(item, lambda item=item: done.append(item))
        assert done == []
        store.allowed.release(2)
        await committer.drain()
        nursery.cancel_scope.cancel()
    assert store.groups == [[0], [1, 2, 3, 4, 5]]
    assert done == [0, 1, 2, 3, 4, 5]
    assert committer.statistics()[:3] == (0, 2, 6)


async def test_a_group_has_a_bound():
    store = SlowStore()
    store.allowed.release(10)
    committer = GroupCommitter(store.commit, items_per_commit_max=2)
    for item in range(5):
        committer.submit(item)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        await committer.drain()
        nursery.cancel_scope.cancel()
    assert store.groups == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("options", [{}, {"items_per_commit_max": BATCHES_PER_COMMIT_MAX}])
async def test_the_groups_of_the_stores_have_bounds(options):
    groups = []
    committer = GroupCommitter(groups.append, **options)
    for item in range(2 * ITEMS_PER_COMMIT_MAX + 1):
        committer.submit(item)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        await committer.drain()
        nursery.cancel_scope.cancel()
    bound = options.get("items_per_commit_max", ITEMS_PER_COMMIT_MAX)
    assert {len(group) for group in groups} == {bound, 1}


async def test_a_failure_ends_the_writer_and_is_told_to_everybody():
    store = SlowStore()
    store.error = StorageError("storage.failed", "injected")
    committer = GroupCommitter(store.commit)
    done = []
    outcomes = []

    async def write(item):
        with pytest.raises(StorageError) as caught:
            await committer.write(item)
        outcomes.append(caught.value)

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the nursery is what raises
        async with trio.open_nursery() as nursery:
            committer.submit(0, lambda: done.append(0))
            nursery.start_soon(write, 1)
            await wait_all_tasks_blocked()
            store.allowed.release()
            nursery.start_soon(committer.run)
    assert store.error in caught.value.exceptions
    assert done == []
    with pytest.raises(StorageError):
        committer.submit(2)


async def test_a_commit_that_has_begun_is_reported_in_spite_of_a_cancellation():
    store = SlowStore()
    committer = GroupCommitter(store.commit)
    done = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        committer.submit(0, lambda: done.append(0))
        await store.wait_started()
        nursery.cancel_scope.cancel()
        store.allowed.release()
    assert done == [0]


@pytest.mark.parametrize("pause_s", [0.0, 0.025])
@pytest.mark.parametrize("waiting", [0, 1])
def test_a_cancelled_writer_ends_after_its_commit_whatever_waits_and_whatever_its_pause(
    pause_s, waiting
):
    store = SlowStore()

    async def cancel_during_a_commit():
        committer = GroupCommitter(store.commit, pause_s=pause_s)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(committer.run)
            committer.submit("begun")
            await store.wait_started()
            for _ in range(waiting):
                committer.submit("waiting")
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                # The writer has heard of it and waits for the commit that it had begun.
                await wait_all_tasks_blocked()
            store.allowed.release(2)

    # Nothing can cancel a writer that waits for its commit: one that hangs is left behind.
    thread = threading.Thread(target=trio.run, args=(cancel_during_a_commit,), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert store.groups == [["begun"]]


async def test_writes_are_refused_once_the_writer_has_stopped():
    committer = GroupCommitter(lambda items: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with pytest.raises(StorageError):
        await committer.write(1)


async def test_the_queue_is_bounded():
    committer = GroupCommitter(lambda items: None)
    for item in range(PENDING_MAX):
        committer.submit(item)
    with pytest.raises(StorageError) as caught:
        committer.submit(PENDING_MAX)
    assert caught.value.code == "storage.overloaded"
