"""`rota node start` refuses to run what it should not, each time with its own exit code."""

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from localnet.network import create_network
from node.cli.main import run
from node.exit_codes import ExitCode
from node.genesis_file import load_genesis, save_genesis
from node.home import Halted, NodeHome
from node.keystores import KeyKind


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return create_network(tmp_path / "net", port_first=22_500).home("node0")


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    for handler in handlers:
        if handler not in root.handlers:
            root.addHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()


def start(
    home: NodeHome, capsys: pytest.CaptureFixture[str], *flags: str
) -> tuple[int, dict[str, str]]:
    words = ["node", "start", "--home", str(home.path), "--set", "log.format=none", "--json"]
    code = run([*words, *flags])
    return code, json.loads(capsys.readouterr().out)["error"]


def last_log_line(home: NodeHome) -> dict:
    return json.loads(home.log_path.read_text().splitlines()[-1])


def test_a_missing_key_ends_with_7_and_says_what_to_do(
    home: NodeHome, capsys: pytest.CaptureFixture[str]
) -> None:
    home.keystores.path(KeyKind.CONSENSUS).unlink()
    code, error = start(home, capsys)
    assert (code, error["code"]) == (ExitCode.KEY, "keystore.missing")
    assert "backup" in error["next"]
    line = last_log_line(home)
    assert (line["event"], line["code"]) == ("node_failed", "keystore.missing")


def test_a_wrong_password_ends_with_7(
    home: NodeHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    password = tmp_path / "password"
    password.write_text("wrong\n")
    code, error = start(home, capsys, "--password-file", str(password))
    assert (code, error["code"]) == (ExitCode.KEY, "keystore.wrong_password")


def test_data_of_another_chain_ends_with_3(
    home: NodeHome, capsys: pytest.CaptureFixture[str]
) -> None:
    home.bind_chain(bytes(32))
    code, error = start(home, capsys)
    assert (code, error["code"]) == (ExitCode.CONFIG, "home.other_chain")


def test_a_genesis_without_this_node_ends_with_3(
    home: NodeHome, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = start(home, capsys, "--set", "node.name=stranger")
    assert (code, error["code"]) == (ExitCode.CONFIG, "home.invalid")


def test_a_changed_genesis_is_another_chain(
    home: NodeHome, capsys: pytest.CaptureFixture[str]
) -> None:
    genesis = load_genesis(home.genesis_path)
    home.bind_chain(genesis.chain_id())
    changed = type(genesis)(**{**_fields(genesis), "seed": genesis.seed + 1})
    save_genesis(changed, home.genesis_path)
    code, error = start(home, capsys)
    assert (code, error["code"]) == (ExitCode.CONFIG, "home.other_chain")


def test_a_genesis_of_another_version_is_named_by_it(
    home: NodeHome, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(home.genesis_path.read_text())
    # A newer file may have anything else in it; its version is what matters.
    home.genesis_path.write_text(json.dumps({"version": 2, "rest": document}))
    code, error = start(home, capsys)
    assert (code, error["code"]) == (ExitCode.CONFIG, "genesis.invalid")
    assert "has version 2; this program reads 1" in error["message"]


def test_a_genesis_that_credits_an_account_twice_ends_with_3(
    home: NodeHome, capsys: pytest.CaptureFixture[str]
) -> None:
    genesis = load_genesis(home.genesis_path)
    twice = (*genesis.fee_credits, genesis.fee_credits[0])
    save_genesis(type(genesis)(**{**_fields(genesis), "fee_credits": twice}), home.genesis_path)
    code, error = start(home, capsys)
    assert (code, error["code"]) == (ExitCode.CONFIG, "genesis.invalid")
    assert "two fee credits" in error["message"]


def test_a_genesis_whose_engine_is_ahead_of_its_chain_ends_with_3(
    home: NodeHome, capsys: pytest.CaptureFixture[str]
) -> None:
    genesis = load_genesis(home.genesis_path)
    engine = type(genesis.engine)(**{**_fields(genesis.engine), "time_ms": genesis.time_ms + 1})
    save_genesis(type(genesis)(**{**_fields(genesis), "engine": engine}), home.genesis_path)
    code, error = start(home, capsys)
    assert (code, error["code"]) == (ExitCode.CONFIG, "genesis.invalid")
    assert "ahead of the chain's" in error["message"]


def test_a_peer_whose_certificate_is_another_members_ends_with_3_before_it_listens(
    home: NodeHome, capsys: pytest.CaptureFixture[str]
) -> None:
    text = home.config_path.read_text()
    certificates = re.findall(r'certificate = "(.*)"', text)
    home.config_path.write_text(text.replace(certificates[0], certificates[1]))
    code, error = start(home, capsys)
    assert (code, error["code"]) == (ExitCode.CONFIG, "config.certificate")
    assert "node1" in error["message"]
    assert error["next"]
    assert last_log_line(home)["code"] == "config.certificate"


def _fields(value) -> dict:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def test_a_halted_node_ends_with_70_until_cleared(
    home: NodeHome, capsys: pytest.CaptureFixture[str]
) -> None:
    home.write_halted(Halted("root.mismatch", "height 9", 1))
    code, error = start(home, capsys)
    assert (code, error["code"]) == (ExitCode.HALTED, "root.mismatch")
    assert "--clear-halt" in error["next"]
    home.password_path.write_text("wrong\n")
    # Cleared, it gets as far as the next obstacle.
    code, error = start(home, capsys, "--clear-halt")
    assert code == ExitCode.KEY
    assert home.read_halted() is None


def test_a_home_in_use_ends_with_71(home: NodeHome, capsys: pytest.CaptureFixture[str]) -> None:
    with home.locked():
        code, error = start(home, capsys)
    assert (code, error["code"]) == (ExitCode.REFUSED_TO_SIGN, "home.busy")


def test_keys_without_their_data_end_with_71_and_a_fresh_home_starts(
    home: NodeHome, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = home.load_config().config.door.endpoint()
    with socket.socket() as taken:
        taken.bind(endpoint)
        taken.listen()
        # A fresh home, also one without a data folder, gets as far as the taken port.
        home.data_dir.rmdir()
        assert start(home, capsys)[0] == ExitCode.PORT_IN_USE
        assert start(home, capsys)[0] == ExitCode.PORT_IN_USE
        shutil.rmtree(home.data_dir)
        code, error = start(home, capsys)
    assert (code, error["code"]) == (ExitCode.REFUSED_TO_SIGN, "safety.missing")
    assert "retire" in error["next"]


def test_a_used_port_ends_with_73_and_names_the_key(
    home: NodeHome, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = home.load_config().config.door.endpoint()
    with socket.socket() as taken:
        taken.bind(endpoint)
        taken.listen()
        code, error = start(home, capsys)
    assert code == ExitCode.PORT_IN_USE
    assert str(endpoint) in error["message"]
    assert "door.listen" in error["next"]


@pytest.mark.parametrize("key", ["door.listen", "peer.listen"])
def test_an_address_of_another_machine_ends_with_3_and_names_the_key(
    home: NodeHome, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # RFC 5737: for documentation, so no machine has it.
    code, error = start(home, capsys, "--set", f"{key}=192.0.2.1:9100")
    assert (code, error["code"]) == (ExitCode.CONFIG, "config.address")
    assert "192.0.2.1:9100" in error["message"]
    assert key in error["next"]


def test_a_node_stops_in_good_order_on_sigterm(home: NodeHome) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "node.cli.main", "node", "start", "--home", str(home.path)],
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"ROTA__LOG__FORMAT": "json"},
    ) as process:
        assert process.stderr is not None
        events = []
        for line in process.stderr:
            events.append(json.loads(line)["event"])
            if events[-1] == "node_started":
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 0, events
    assert events[-1] == "node_stopped"
    assert [json.loads(line)["event"] for line in home.log_path.read_text().splitlines()] == events


def test_a_full_disk_under_the_log_and_stderr_does_not_change_the_exit_code(home: NodeHome) -> None:
    home.keystores.path(KeyKind.CONSENSUS).unlink()
    command = [sys.executable, "-m", "node.cli.main", "node", "start", "--home", str(home.path)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=full, timeout=60, check=False)
    assert done.returncode == ExitCode.KEY


@pytest.mark.parametrize("content", [b"\x00\xff garbage", b"version = 1\n[node", b""])
def test_a_corrupt_configuration_ends_with_3(
    home: NodeHome, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    home.config_path.write_bytes(content)
    code, error = start(home, capsys)
    assert (code, error["code"]) == (ExitCode.CONFIG, "config.invalid")
    assert error["next"]


@pytest.mark.parametrize("content", [b"\x00\xff garbage", b"{}", b"[" * 100_000])
def test_a_corrupt_genesis_ends_with_3(
    home: NodeHome, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    home.genesis_path.write_bytes(content)
    code, error = start(home, capsys)
    assert (code, error["code"]) == (ExitCode.CONFIG, "genesis.invalid")
    assert error["next"]


def test_a_genesis_above_its_bound_is_not_read(
    home: NodeHome, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    size_bytes = home.genesis_path.stat().st_size
    monkeypatch.setattr("node.genesis_file.GENESIS_SIZE_MAX_BYTES", size_bytes)
    load_genesis(home.genesis_path)
    monkeypatch.setattr("node.genesis_file.GENESIS_SIZE_MAX_BYTES", size_bytes - 1)
    code, error = start(home, capsys)
    assert (code, error["code"]) == (ExitCode.CONFIG, "genesis.invalid")
    assert "is larger than" in error["message"]


@pytest.mark.parametrize("folder", ["log", "run"])
def test_a_home_that_cannot_be_written_ends_with_72(
    home: NodeHome, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = home.path / folder
    if target.exists():
        target.rmdir()
    target.write_bytes(b"a file where a folder belongs")
    code, error = start(home, capsys)
    assert (code, error["code"]) == (ExitCode.STORAGE, "storage.failed")
