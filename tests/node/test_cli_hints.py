"""A hint leads to the localnet that it is about, not to whichever is the default."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from localnet.control import acquire_supervisor_lock
from localnet.network import create_network
from node.cli import target
from node.cli.desk import make_status_command
from node.cli.hints import rota_command
from node.cli.main import run
from node.client_stream import DoorError
from node.network import Network


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROTA_LOCALNET", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return create_network(tmp_path / "net", port_first=23_000)


def test_the_default_folder_needs_no_mention(tmp_path: Path) -> None:
    assert rota_command(Path(".localnet")) == "rota "
    assert rota_command(tmp_path / ".localnet") == "rota "


def test_another_folder_is_named_as_seen_from_here(tmp_path: Path) -> None:
    assert rota_command(tmp_path / "net") == "ROTA_LOCALNET=net rota "
    assert rota_command(Path("/elsewhere")) == "ROTA_LOCALNET=/elsewhere rota "
    assert rota_command(Path("two words")) == "ROTA_LOCALNET='two words' rota "
    assert rota_command(Path("net"), from_anywhere=True) == f"ROTA_LOCALNET={tmp_path}/net rota "


def test_the_variable_decides_which_folder_needs_no_mention(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROTA_LOCALNET", "net")
    assert rota_command(Path("net")) == "rota "
    assert rota_command(Path(".localnet")) == "ROTA_LOCALNET=.localnet rota "


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["localnet", "kill", "node0"], "ROTA_LOCALNET=net rota localnet up"),
        (["localnet", "audit"], "ROTA_LOCALNET=net rota localnet up"),
        (["localnet", "status"], "ROTA_LOCALNET=net rota localnet up"),
        (["market", "list"], "ROTA_LOCALNET=net rota localnet up"),
    ],
)
def test_what_a_network_that_is_down_is_asked_for_names_it_in_the_hint(
    words: list[str], hint: str, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    run([*words, "--dir", "net"])
    assert hint in capsys.readouterr().err


def test_a_network_that_runs_already_is_named(
    network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = acquire_supervisor_lock(network.run_dir)
    try:
        run(["localnet", "audit", "--dir", "net"])
    finally:
        os.close(lock)
    hint = capsys.readouterr().err
    assert "ROTA_LOCALNET=net rota localnet status" in hint
    assert "ROTA_LOCALNET=net rota localnet down" in hint


@pytest.mark.parametrize(
    ("words", "note"),
    [
        ("kill", "killed node2; next: ROTA_LOCALNET=net rota localnet restart node2"),
        ("restart", "started node2; watch: ROTA_LOCALNET=net rota localnet status"),
    ],
)
def test_what_comes_after_a_kill_and_a_restart_is_for_the_same_network(
    words: str,
    note: str,
    network: Network,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def call_supervisor(*_: Any) -> object:
        return {}

    monkeypatch.setattr("localnet.cli.call_supervisor", call_supervisor)
    assert run(["localnet", words, "node2", "--dir", "net"]) == 0
    assert capsys.readouterr().err.strip() == note


def test_a_node_that_takes_too_long_leads_to_the_status_of_its_network(
    network: Network, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_with_door(*_: Any) -> None:
        raise DoorError("door.timeout", "no answer")

    monkeypatch.setattr(target, "run_with_door", run_with_door)
    run(["market", "list", "--dir", "net", "--json"])
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["next"].endswith("ROTA_LOCALNET=net rota localnet status")


@pytest.mark.parametrize(
    ("node", "command"),
    [
        (None, "ROTA_LOCALNET=net rota order status "),
        ("node1", "ROTA_LOCALNET=net rota order status --node node1 "),
    ],
)
def test_an_order_without_a_result_is_asked_for_where_it_was_sent(
    node: str | None, command: str
) -> None:
    assert make_status_command(Path("net"), node) == command
