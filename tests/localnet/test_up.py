"""`localnet up` with stand-ins for the nodes: real processes that speak the order door's language.

The stand-in tells an invented chain, quickly. What is tested is everything around the node:
readiness, watching, the verdict, other commands, and that nothing is left behind.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localnet.network import create_network
from node.cli.main import run
from node.exit_codes import ExitCode
from node.network import load_network

FAKE_NODE = '''
"""Serves an order door that tells an invented chain: a block every 20 ms."""
import os, signal, sys, time
from pathlib import Path
import trio
from crypto.codec import encode
from node.door import Door, QueryError
from node.framing import FramedStream
from node.home import NodeHome
from node.protocol import BlockEvent, Channel, ExecutedEvent, Welcome

home = NodeHome(Path(sys.argv[sys.argv.index("--home") + 1]))
config = home.load_config().config
lie = os.environ.get("FAKE_LIE", "")
if os.environ.get("FAKE_EXIT") == config.node.name:
    print("the fake says goodbye", file=sys.stderr)
    sys.exit(72)
chain_id = home.load_genesis().chain_id()
started = time.time_ns() // 1_000_000

def height():
    return 0 if "stall" in lie else max(1, int(time.time() * 50) - EPOCH)

EPOCH = int(os.environ["FAKE_EPOCH"])

def name_of(kind, number):
    liar = lie == kind and config.node.name == "node1" and number % 16 == 0
    return bytes([liar]) * 16 + number.to_bytes(16, "big")

class Handler:
    def welcome(self):
        return Welcome(1, config.node.name, chain_id, height(), started)
    def submit(self, source, request, envelopes):
        raise AssertionError("nobody trades here")
    def submit_opaque(self, *arguments):
        raise AssertionError("nobody trades here")
    async def query(self, name, arguments):
        if name == "certificate":
            return encode({"own": True, "state_root": name_of("root", arguments[0])})
        if name != "status":
            raise QueryError("query.unknown", name)
        return encode({
            "name": config.node.name, "view": height() + 3, "leader": "node0",
            "committed_height": height(), "executed_height": height(),
            "state_root": name_of("root", height()), "state_root_height": height(),
        })

async def main():
    door = Door(Handler(), connections_max=10, send_queue_max_bytes=1 << 20, idle_timeout_s=60)
    endpoint = config.door.endpoint()
    listeners = await trio.open_tcp_listeners(endpoint.port, host=endpoint.host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.serve, listeners)
        nursery.start_soon(stop, nursery.cancel_scope)
        told = height()
        while True:
            await trio.sleep(0.01)
            while told < height():
                told += 1
                number = told
                door.publish(Channel.BLOCKS, lambda subscription, sequence: BlockEvent(
                    subscription, sequence, number, number, name_of("block", number), 0, 0, 0))
                door.publish(Channel.BLOCKS, lambda subscription, sequence: ExecutedEvent(
                    subscription, sequence, number, name_of("root", number), 2, 1))

async def stop(scope):
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()

trio.run(main)
'''

# Replaces the real node by the stand-in, then behaves as the `rota` command.
DRIVER = """
import sys
import localnet.detached
import localnet.faults.cluster
from localnet.supervisor import ProcessPlan

def plan(network, name, **options):
    home = network.home(name)
    stderr_path = home.log_dir / "stderr.log"
    return ProcessPlan(name, "fake_node", ("--home", str(home.path)), stderr_path)

localnet.faults.cluster.node_plan = plan
localnet.detached.ROTA_COMMAND = (sys.executable, __file__)
from node.cli.main import main
if __name__ == "__main__":
    main()
"""

PORTS = "22000"
TIMEOUT_S = 180
"""For a command to end: far more than a slow machine needs."""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line that is `rota` with stand-ins for the nodes."""
    (tmp_path / "fake_node.py").write_text(FAKE_NODE)
    path = tmp_path / "driver.py"
    path.write_text(DRIVER)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path.cwd()}")
    monkeypatch.setenv("FAKE_EPOCH", str(int(time.time() * 50)))
    return [sys.executable, str(path)]


def processes_of(path: Path) -> list[int]:
    """Ids of running processes whose command line names this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if os.fsencode(path) in words:
                found.append(int(entry.name))
    return found


def up(driver: list[str], path: Path, *flags: str) -> tuple[int, dict]:
    """Run `localnet up` to its end; return the exit code and the document."""
    done = subprocess.run(
        [*driver, "localnet", "up", "--dir", str(path), "--no-traders", "--json", *flags],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.stdout.count(b"\n") == 1, done.stderr.decode()
    assert processes_of(path) == []
    return done.returncode, json.loads(done.stdout)


def test_a_timed_run_ends_with_one_document_and_no_process(
    driver: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "net"
    code, report = up(driver, path, "--for", "1", "--port-base", PORTS)
    assert code == 0, report
    assert report["verdict"] == "pass"
    assert report["state_roots_agree"] is True
    assert report["committed_height"] > 10
    assert report["blocks_per_s"] > 10
    assert report["orders_executed"] is None
    assert report["instructions_executed"] >= report["fills"] > 0
    assert [node["name"] for node in report["nodes"]] == ["node0", "node1", "node2", "node3"]
    assert all(node["up"] for node in report["nodes"])
    assert not (path / "run" / "supervisor.sock").exists()


@pytest.mark.parametrize(
    ("lie", "exit_code", "verdict"),
    [("root", ExitCode.SAFETY, "safety"), ("block", ExitCode.SAFETY, "safety")],
)
def test_a_node_that_tells_another_story_is_a_safety_violation(
    driver: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lie: str,
    exit_code: int,
    verdict: str,
) -> None:
    monkeypatch.setenv("FAKE_LIE", lie)
    code, report = up(driver, tmp_path / "net", "--for", "1", "--port-base", PORTS)
    assert (code, report["verdict"]) == (exit_code, verdict)
    assert not report["state_roots_agree"]
    assert "node1" in " ".join(report["contradictions"])


def test_a_node_that_ends_while_starting_fails_the_start_at_once(
    driver: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_EXIT", "node2")
    code, report = up(driver, tmp_path / "net", "--port-base", PORTS)
    assert code == ExitCode.NOT_READY
    assert "node2 ended with exit code 72" in report["error"]["message"]
    assert "the fake says goodbye" in report["error"]["message"]


def test_a_used_port_is_named_before_anything_starts(driver: list[str], tmp_path: Path) -> None:
    path = tmp_path / "net"
    network = create_network(path, port_first=int(PORTS))
    with socket.socket() as taken:
        taken.bind(network.nodes[1].peer_endpoint())
        taken.listen()
        code, report = up(driver, path)
    assert code == ExitCode.PORT_IN_USE
    assert network.nodes[1].peer in report["error"]["message"]
    assert not (network.home("node0").log_dir / "stderr.log").exists()


def up_detached(driver: list[str], path: Path) -> "subprocess.CompletedProcess[bytes]":
    """Run `localnet up --detach`."""
    flags = ["--no-traders", "--json", "--dir", str(path), "--port-base", PORTS]
    return subprocess.run(
        [*driver, "localnet", "up", "--detach", *flags],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )


class Running:
    """A localnet that another process runs in the foreground."""

    def __init__(self, driver: list[str], path: Path) -> None:
        self.path = path
        self.process = subprocess.Popen(
            [*driver, "localnet", "up", "--dir", str(path), "--no-traders", "--port-base", PORTS],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.told: list[str] = []

    def wait_for(self, text: str) -> None:
        """Read stderr until it holds `text`."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told.append(line)
            if text in line:
                return
        raise AssertionError(f"ended without saying {text!r}: {''.join(self.told)}")

    def wait_end(self) -> int:
        _, _ = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode


@pytest.fixture
def running(driver: list[str], tmp_path: Path) -> Iterator[Running]:
    running = Running(driver, tmp_path / "net")
    try:
        running.wait_for("ready in")
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
        running.process.communicate()
        assert processes_of(running.path) == []


def rota_json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    code = run([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_other_commands_see_kill_restart_and_stop_a_running_localnet(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = ("--dir", str(running.path))
    code, status = rota_json(capsys, "localnet", "status", *directory)
    assert (code, status["supervised"], status["ready"]) == (0, True, True)
    assert status["state_roots_agree"] is True
    assert status["committed_height"] >= status["state_roots_height"] > 0
    assert all(node["up"] and node["pid"] for node in status["nodes"])
    assert {"view", "committed_height", "executed_height", "state_root", "log", "door", "peer"} <= {
        *status["nodes"][0]
    }
    pids = {node["name"]: node["pid"] for node in status["nodes"]}

    code, killed = rota_json(capsys, "localnet", "kill", "node2", *directory)
    assert (code, killed["state"], killed["exit_code"]) == (0, "killed", -signal.SIGKILL)
    code, status = rota_json(capsys, "localnet", "status", *directory)
    assert [node["up"] for node in status["nodes"]] == [True, True, False, True]
    assert status["nodes"][2]["condition"] == "down"
    code, error = rota_json(capsys, "localnet", "kill", "node2", *directory)
    assert (code, error["error"]["code"]) == (ExitCode.CONFIG, "localnet.process_state")

    code, restarted = rota_json(capsys, "localnet", "restart", "node2", *directory)
    assert (code, restarted["state"], restarted["starts"]) == (0, "running", 2)
    assert restarted["pid"] != pids["node2"]

    code, error = rota_json(capsys, "localnet", "up", *directory)
    assert (code, error["error"]["code"]) == (ExitCode.CONFIG, "localnet.running")

    code, stopped = rota_json(capsys, "localnet", "down", *directory)
    assert (code, stopped) == (0, {"stopped": True})
    assert running.wait_end() == 0
    assert processes_of(running.path) == []
    code, status = rota_json(capsys, "localnet", "status", *directory)
    assert not any(node["up"] for node in status["nodes"])
    assert status["supervised"] is False


def test_a_frozen_node_does_not_answer_and_is_not_called_down(
    running: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localnet.status.STATUS_TIMEOUT_S", 0.5)
    monkeypatch.setattr("localnet.status.STARTING_MAX_S", 0.0)
    _, status = rota_json(capsys, "localnet", "status", "--dir", str(running.path))
    os.kill(status["nodes"][2]["pid"], signal.SIGSTOP)
    code, status = rota_json(capsys, "localnet", "status", "--dir", str(running.path))
    os.kill(status["nodes"][2]["pid"], signal.SIGCONT)
    frozen = status["nodes"][2]
    assert (code, frozen["up"], frozen["condition"]) == (0, False, "not answering")
    assert sorted(status["state_roots"]) == ["node0", "node1", "node3"]
    assert status["state_roots_agree"] is True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_in_good_order(running: Running, number: int) -> None:
    running.process.send_signal(number)
    assert running.wait_end() == 0
    assert processes_of(running.path) == []


def test_nothing_survives_a_supervisor_that_is_killed(running: Running) -> None:
    waiters = [os.pidfd_open(pid) for pid in processes_of(running.path)]
    assert len(waiters) == 5
    running.process.kill()
    for waiter in waiters:
        assert select.select([waiter], [], [], 15)[0]
        os.close(waiter)


def test_detached_returns_when_ready_and_down_ends_it(
    driver: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net"
    done = up_detached(driver, path)
    assert done.returncode == 0, done.stdout.decode()
    document = json.loads(done.stdout)
    network = load_network(path)
    assert document["chain_id"] == network.chain_id.hex()
    assert [node["door"] for node in document["nodes"]] == [node.door for node in network.nodes]
    code, status = rota_json(capsys, "localnet", "status", "--dir", str(path))
    assert (code, status["ready"]) == (0, True)
    code, _ = rota_json(capsys, "localnet", "down", "--dir", str(path))
    assert code == 0
    assert processes_of(path) == []


def test_a_detached_start_that_fails_says_why(
    driver: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_EXIT", "node0")
    path = tmp_path / "net"
    done = up_detached(driver, path)
    assert done.returncode == ExitCode.NOT_READY
    assert "node0 ended with exit code 72" in json.loads(done.stdout)["error"]["message"]
    assert processes_of(path) == []
