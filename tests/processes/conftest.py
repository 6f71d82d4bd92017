"""A localnet of real node processes for one test, driven by the commands that people use."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from localnet.audit import OwnRecords, load_records
from node.network import load_network

PATIENCE_S = 180.0
"""For whatever must happen in the end. It is far more than a slow machine needs, so that only a
fault takes as long; whatever has happened is waited for no longer."""

ENDED = ("exited", "killed", "stopped")
"""States of processes that are none any more."""


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
            timeout=PATIENCE_S,
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

    def note_records_after_return(self, *names: str) -> None:
        """The same of nodes that came back, once each has voted above what was noted before."""

        def has_voted_again(name: str, last_view: int) -> bool:
            self.note_records(name)
            return max(self.noted_records[name][-1].votes, default=0) > last_view

        for name in names:
            last_view = max(self.noted_records[name][-1].votes)
            wait_until(partial(has_voted_again, name, last_view), f"{name} votes again")

    def restart(self, *names: str) -> None:
        """Start killed nodes again."""
        for name in names:
            self.localnet("restart", name)

    def wait_dead(self, *names: str) -> None:
        """Wait until processes have ended. A node that is slow to answer has not."""

        def are_dead() -> bool:
            status = self.status()
            return all(status[name]["state"] in ENDED for name in names)

        wait_until(are_dead, f"{', '.join(names)} end")

    def wait_for_blocks(self, count: int, who: str) -> None:
        """Wait until so many more blocks are committed."""
        goal = self.height() + count
        wait_until(lambda: self.height() >= goal, f"{count} more blocks by {who}")

    def wait_caught_up(self, *names: str) -> None:
        """Wait until nodes have executed what is committed now."""
        goal = self.height()

        def have_caught_up() -> bool:
            status = self.status()
            return all((status[name]["executed_height"] or 0) >= goal for name in names)

        wait_until(have_caught_up, f"{', '.join(names)} catch up with height {goal}")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll a condition of other processes; fails with `what` when patience is at its end."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.2)


@pytest.fixture(name="Localnet", scope="session")
def localnet_fixture() -> type[Localnet]:
    """For modules that share one localnet among their tests."""
    return Localnet


@pytest.fixture(name="wait_until", scope="session")
def wait_until_fixture() -> Callable[[Callable[[], bool], str], None]:
    return wait_until


@pytest.fixture(scope="session")
def patience_s() -> float:
    """For whatever else must happen in the end."""
    return PATIENCE_S


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
