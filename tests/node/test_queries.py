"""Queries of clients, however many, leave the threads of the node's own work alone."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from node.door import QueryError
from node.queries import READING_THREADS_MAX, Queries


class SlowArchive:
    """Answers once the test lets it."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()

    def read(self, table: str, key: bytes) -> bytes | None:
        assert self.may_answer.wait(10)
        return None


def make_queries(archive: Any) -> Queries:
    nothing: Any = SimpleNamespace()
    host: Any = SimpleNamespace(clock=SimpleNamespace(now_ms=lambda: 0))
    return Queries(
        name="node0",
        committee=nothing,
        host=host,
        streams=nothing,
        archive=archive,
        engine=nothing,
        statistics=dict,
    )


async def test_a_flood_of_queries_takes_its_own_threads_only() -> None:
    archive = SlowArchive()
    queries = make_queries(archive)
    limiter = trio.to_thread.current_default_thread_limiter()
    refused = []

    async def ask(height: int) -> None:
        with pytest.raises(QueryError) as caught:
            await queries.answer("block", (height,))
        refused.append(caught.value.code)

    async with trio.open_nursery() as nursery:
        for height in range(1, 10 * READING_THREADS_MAX):
            nursery.start_soon(ask, height)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert limiter.borrowed_tokens == 0
        archive.may_answer.set()
    assert refused == ["block.unknown"] * (10 * READING_THREADS_MAX - 1)
