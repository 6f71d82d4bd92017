"""Blocks in worker processes, so that an input that ends its process is a finding like any other.

Before each execution a worker writes the input into a file that it shares with its parent; what
stands there when a worker has died is what killed it.
"""

import mmap
import multiprocessing
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, NamedTuple

from localnet.fuzz.campaign import Finding, Tally, run_block
from localnet.fuzz.contract import Kind, Result, find_target
from localnet.fuzz.targets import TARGETS, prepare_corpus
from localnet.sim.workers import deaf_children
from localnet.verdicts import Verdict

_SIZE_SIZE_BYTES: Final = 4
SCRATCH_MAX_BYTES: Final = 1 << 20


class Block(NamedTuple):
    """One piece of work."""

    target: str
    seed: int


class Scratch:
    """The input that is being tried, where another process can see it."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), SCRATCH_MAX_BYTES)

    def write(self, data: bytes) -> None:
        """Remember an input."""
        data = data[: SCRATCH_MAX_BYTES - _SIZE_SIZE_BYTES]
        self._map[: _SIZE_SIZE_BYTES + len(data)] = len(data).to_bytes(4, "big") + data

    def read(self) -> bytes:
        """The newest input."""
        size = int.from_bytes(self._map[:_SIZE_SIZE_BYTES], "big")
        return self._map[_SIZE_SIZE_BYTES : _SIZE_SIZE_BYTES + size]


def run_blocks(blocks: Iterable[Block], jobs: int) -> Iterator[Tally]:
    """Run blocks in worker processes, or here if there is to be one only; results come as they are
    ready."""
    if jobs <= 1:
        for block in blocks:
            yield _run(block, lambda data: None)
        return
    with tempfile.TemporaryDirectory(prefix="rota-fuzz-") as directory:
        pool = _Pool(Path(directory))
        try:
            pool.start(jobs)
            yield from pool.run(iter(blocks))
        finally:
            pool.close()


def _run(block: Block, before: Callable[[bytes], None]) -> Tally:
    target = find_target(TARGETS, block.target)
    return run_block(target, prepare_corpus(), block.seed, before)


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    connection: Connection
    scratch: Scratch
    block: Block | None = None


class _Pool:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started = 0
        self._workers: list[_Worker] = []

    def start(self, jobs: int) -> None:
        for _ in range(jobs):
            self._start()

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        self._started += 1
        path = self._directory / str(self._started)
        path.write_bytes(bytes(SCRATCH_MAX_BYTES))
        with deaf_children():
            ours, theirs = context.Pipe()
            process = context.Process(target=serve_blocks, args=(theirs, path), daemon=True)
            process.start()
            theirs.close()
            worker = _Worker(process, ours, Scratch(path))
            self._workers.append(worker)
        return worker

    def run(self, blocks: Iterator[Block]) -> Iterator[Tally]:
        for worker in self._workers:
            self._give(worker, blocks)
        while busy := [worker for worker in self._workers if worker.block is not None]:
            for ready in wait([worker.connection for worker in busy]):
                worker = next(each for each in busy if each.connection is ready)
                try:
                    tally: Tally = worker.connection.recv()
                except (EOFError, ConnectionError):
                    tally, worker = self._bury(worker)
                self._give(worker, blocks)
                yield tally

    def _give(self, worker: _Worker, blocks: Iterator[Block]) -> None:
        worker.block = next(blocks, None)
        if worker.block is not None:
            # A worker that is dead already is found so when its answer is waited for.
            with suppress(ConnectionError):
                worker.connection.send(tuple(worker.block))

    def _bury(self, dead: _Worker) -> tuple[Tally, _Worker]:
        """A worker died of its input: that is a finding. Another one takes its place."""
        dead.process.join()
        assert dead.block is not None, "only the busy are waited for"
        data = dead.scratch.read()
        name, seed = dead.block
        detail = f"exit code {dead.process.exitcode}"
        result = Result(Kind.DIED, "process", "", detail, Verdict.CRASH)
        tally = Tally(name, blocks=1, findings=[Finding(name, seed, result, data, data)])
        self._workers.remove(dead)
        return tally, self._start()

    def close(self) -> None:
        for worker in self._workers:
            worker.connection.close()
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()


def serve_blocks(connection: Connection, path: Path) -> None:
    """What a worker does: it ends when nobody listens any more."""
    scratch = Scratch(path)
    while True:
        try:
            block = Block(*connection.recv())
        except (EOFError, ConnectionError):
            return
        connection.send(_run(block, scratch.write))
