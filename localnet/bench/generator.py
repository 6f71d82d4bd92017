"""Runs the load process (`localnet.bench.load`) beside a measurement."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import trio

from localnet.bench.cluster import BenchCluster
from localnet.bench.errors import BenchError
from localnet.bench.load import LoadReport

PREPARE_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 30.0


class Generator:
    """The running load process; `stop` ends it and returns its report."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._report: LoadReport | None = None

    async def stop(self) -> LoadReport:
        """Close its stdin and read what it says. Raises `BenchError`."""
        if self._report is None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            await self._process.stdin.aclose()
            data = b""
            with trio.move_on_after(STOP_TIMEOUT_S):
                async for chunk in self._process.stdout:
                    data += chunk
            try:
                self._report = msgspec.json.decode(data, type=LoadReport)
            except msgspec.MsgspecError as error:
                raise BenchError(
                    "the load process failed", advice="see its message above"
                ) from error
        return self._report


@asynccontextmanager
async def generate_load(
    cluster: BenchCluster, kind: str, *, count: int = 0
) -> AsyncIterator[Generator]:
    """Start the load, wait until it is prepared, let it go; it ends with the block."""
    command = [sys.executable, "-m", "localnet.bench.load", kind]
    command += ["--dir", str(cluster.network.path), "--count", str(count)]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    cluster.extra_pids[process.pid] = "load"
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        with trio.move_on_after(PREPARE_TIMEOUT_S) as scope:
            greeting = await process.stdout.receive_some(64)
        if scope.cancelled_caught or greeting != b"ready\n":
            raise BenchError("the load process did not start", advice="see its message above")
        await process.stdin.send_all(b"\n")
        yield Generator(process)
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
