"""What the tests of the simulator's commands share."""

import json

import pytest

from node.cli.main import run as run_command


@pytest.fixture
def run_sim(capsys, tmp_path, monkeypatch):
    """Runs `rota sim …` in a folder of its own, where it may leave what it likes; returns its exit
    code and its document."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str):
        code = run_command(["sim", *arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run
