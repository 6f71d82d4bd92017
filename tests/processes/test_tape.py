"""A recorded tape on real processes, from its first trade to its last receipt."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import engine.apply
from engine.invariants import validate_all, validate_changes
from engine.state import EngineState
from node.network import load_network
from node.replay import replay

TRADES = 500
PORT_BASE = 19_000
RUN_TIMEOUT_S = "120"


def test_a_tape_is_played_to_its_end_with_roots_equal_and_all_money_conserved(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = tmp_path / "tape.csv"
    made = subprocess.run(
        [sys.executable, "scripts/make_tape.py", str(TRADES), "--seed", "7"],
        capture_output=True,
        check=True,
    )
    tape.write_bytes(made.stdout)
    localnet = request.getfixturevalue("Localnet")(tmp_path / "net", PORT_BASE)
    done = localnet.rota(
        *("localnet", "up", "--dir", str(localnet.path), "--port-base", str(PORT_BASE)),
        *("--tape", str(tape), "--speed", "max", "--for", RUN_TIMEOUT_S, "--json"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["verdict"] == "pass"
    assert report["tape"]["trades"] == report["tape"]["played"] == TRADES
    assert report["tape"]["done"] is True
    assert report["tape"]["filled"] + report["tape"]["refused"] <= TRADES
    assert report["tape"]["filled"] >= TRADES * 9 // 10
    assert report["fills"] >= report["tape"]["filled"]
    assert report["elapsed_s"] < float(RUN_TIMEOUT_S), "it ended with the tape, not by the clock"
    assert report["state_roots_agree"] is True
    assert report["committed_height"] >= report["state_roots_height"] > 0
    assert f"played to its end: {TRADES} trades" in done.stderr

    # The chain again, with the balances of all accounts summed after each block.
    checked: list[int] = []

    def validate_conservation(state: EngineState) -> None:
        validate_changes(state)
        validate_all(state)
        checked.append(state.height)

    monkeypatch.setattr(engine.apply, "validate_changes", validate_conservation)
    replayed = replay(load_network(localnet.path).home("node0"), check_roots=True)
    assert replayed.fills >= report["tape"]["filled"]
    assert sum(replayed.refused_codes.values()) == replayed.refused
    assert len(checked) == replayed.heights >= report["state_roots_height"]
