"""The commands, as far as no localnet is needed; tests/processes has the rest."""

import json

import pytest

from localnet.faults.model import KINDS, decode_fault
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


@pytest.mark.parametrize("option", ["--ms", "--jitter", "--every"])
def test_every_number_says_its_unit(option, capsys):
    assert run(["fault", "add", "delay", "--links", "0>1", option, "5"]) == ExitCode.USAGE
    assert run(["fault", "add", "--help"]) == 0
    assert f"{option} " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "document"),
    [
        ("delay --links 0>1 --delay-ms 5 --jitter-ms 2", {"delay_ms": 5, "jitter_ms": 2}),
        ("reorder --links 0>1 --permille 9 --hold-max-ms 70", {"permille": 9, "hold_max_ms": 70}),
        ("reset --links 0>1 --interval-ms 900", {"interval_ms": 900}),
        ("bandwidth --links 0>1 --bytes-per-s 9000", {"bytes_per_s": 9000}),
    ],
)
def test_the_options_are_the_parameters_that_files_have(arguments, document, monkeypatch, capsys):
    asked = []

    def ask(directory, command, request):
        asked.append((command, request.fault))
        return {"id": 1, "links": ["node0>node1"], "left_ms": None, **request.fault}

    monkeypatch.setattr("localnet.faults.cli.ask_localnet", ask)
    kind, *rest = arguments.split()
    assert run(["fault", "add", kind, *rest]) == 0
    assert asked == [("fault-add", {"kind": kind, "links": ["0>1"], **document})]
    decode_fault(asked[0][1], ("node0", "node1"))
