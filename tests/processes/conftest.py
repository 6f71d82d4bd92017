"""A localnet of real node processes for one test, driven by the commands that people use."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from localnet.audit import OwnRecords, load_records
from node.network import load_network

COMMAND_TIMEOUT_S = 60.0


class Localnet:
    """One localnet folder and the commands on it."""

    def __init__(
        self, path: Path, port_base: int, settings: Mapping[str, str] | None = None
    ) -> None:
        """`settings` are environment variables of every command, and so of the nodes."""
        self.path = path
        self.port_base = port_base
        self.settings = dict(settings or {})
        self.noted_records: dict[str, list[OwnRecords]] = {}
        """Of each node, oldest first."""

    def rota(self, *arguments: str, hash_seed: str = "random") -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "node.cli.main", *arguments],
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            env={**os.environ, **self.settings, "PYTHONHASHSEED": hash_seed},
            check=False,
        )

    def localnet(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `rota localnet ...` on this folder; it must succeed."""
        done = self.rota("localnet", *arguments, "--dir", str(self.path))
        assert done.returncode == 0, done.stderr
        return done

    def up(self, *arguments: str) -> None:
        """Start in the background; returns at readiness."""
        self.localnet("up", "--detach", "--port-base", str(self.port_base), *arguments)

    def down(self) -> None:
        """Stop everything."""
        self.localnet("down")

    def status(self) -> dict[str, dict[str, Any]]:
        """`localnet status --json`, by node name."""
        document = json.loads(self.localnet("status", "--json").stdout)
        return {node["name"]: node for node in document["nodes"]}

    def height(self) -> int:
        """The highest committed height that any node reports."""
        return max(node["committed_height"] or 0 for node in self.status().values())

    def kill(self, *names: str) -> None:
        """SIGKILL several nodes at the same moment."""
        pids = [node["pid"] for name, node in self.status().items() if name in names]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def note_records(self, *names: str) -> None:
        """Note what nodes have on record of their signatures at this moment: a safety store
        forgets what lies far behind, and what was signed around a crash is what is of interest.

        A node that runs is stopped while its files are copied.
        """
        network = load_network(self.path)
        keys = {member.name: member.identity_key for member in network.genesis().members}
        status = self.status()
        for name in names:
            folder = self.path.with_name(f"{self.path.name}-records")
            copy = folder / f"{name}-{len(self.noted_records.get(name, []))}" / "safety.db"
            copy.parent.mkdir(parents=True)
            pid = status[name]["pid"]
            if pid is not None:
                os.kill(pid, signal.SIGSTOP)
            try:
                path = network.home(name).safety_path
                for suffix in ("", "-wal"):
                    source = path.with_name(path.name + suffix)
                    if source.exists():
                        shutil.copy(source, copy.with_name(copy.name + suffix))
            finally:
                if pid is not None:
                    os.kill(pid, signal.SIGCONT)
            records = load_records(copy, owner=network.chain_id + keys[name])
            self.noted_records.setdefault(name, []).append(records)

    def restart(self, *names: str) -> None:
        """Start killed nodes again."""
        for name in names:
            self.localnet("restart", name)


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll a condition of other processes; fails with `what` when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.2)


@pytest.fixture(name="Localnet", scope="session")
def localnet_fixture() -> type[Localnet]:
    """For modules that share one localnet among their tests."""
    return Localnet


@pytest.fixture(name="wait_until", scope="session")
def wait_until_fixture() -> Callable[[Callable[[], bool], float, str], None]:
    return wait_until


@pytest.fixture
def make_localnet(tmp_path: Path) -> Iterator[Callable[..., Localnet]]:
    """Start localnets; all of them are down when the test ends."""
    started: list[Localnet] = []

    def make(*arguments: str) -> Localnet:
        # Each worker process of the test run looks for ports in a range of its own.
        port_base = 20_000 + (os.getpid() * 97) % 9_000
        localnet = Localnet(tmp_path / f"net{len(started)}", port_base)
        started.append(localnet)
        localnet.up(*arguments)
        return localnet

    yield make
    for localnet in started:
        localnet.rota("localnet", "down", "--dir", str(localnet.path))
