"""What the tests of the simulator's commands share."""

import json

import pytest

import localnet.sim.campaign as campaign
from localnet.sim.workers import run_task
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


@pytest.fixture
def one_process(monkeypatch):
    """Repetitions are run by this process, too: a bug that is planted here is in no other."""
    monkeypatch.setattr(campaign, "run_tasks", lambda tasks, jobs: map(run_task, tasks))
