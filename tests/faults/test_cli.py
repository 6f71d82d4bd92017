"""The commands, as far as no localnet is needed; tests/processes has the rest."""

import json

import pytest

from localnet.faults.model import KINDS
from node.cli.main import run
from node.exit_codes import ExitCode


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "earthquake", "--nodes", "node1"],
        ["add", "kill", "--nodes", "node1", "--for", "soon"],
        ["add", "loss", "--links", "0>1", "--permille", "1001"],
        ["run", "no_such_scenario", "--report", "report"],
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["fault", *arguments, "--json"]) == ExitCode.USAGE
    assert "error" in json.loads(capsys.readouterr().out)
    assert list(tmp_path.iterdir()) == []


def test_without_a_localnet_there_is_nothing_to_break(tmp_path, capsys):
    assert run(["fault", "list", "--dir", str(tmp_path), "--json"]) == ExitCode.CONFIG
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "localnet.missing"


def test_a_report_is_only_written_where_nothing_else_is(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert run(["fault", "run", "kill_one", "--report", str(tmp_path), "--json"]) == ExitCode.USAGE
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "fault.report_folder"
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_the_scenarios_that_come_with_the_program_are_listed(capsys):
    assert run(["fault", "scenarios", "--json"]) == 0
    names = [each["name"] for each in json.loads(capsys.readouterr().out)]
    assert "hailstorm" in names
    assert "too_many_silent" in names


def test_every_kind_is_explained_in_the_help(capsys):
    assert run(["fault", "add", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert all(kind in told for kind in KINDS)
