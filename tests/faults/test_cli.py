"""The commands, as far as no localnet is needed; tests/processes has the rest."""

import errno
import json
from pathlib import Path

import pytest

from localnet.faults.model import KINDS, decode_fault
from localnet.faults.runner import FREE_MIN_BYTES, _StoppedError
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
    names = [each["name"] for each in json.loads(capsys.readouterr().out)["scenarios"]]
    assert "hailstorm" in names
    assert "too_many_silent" in names


def test_every_kind_is_explained_in_the_help(capsys):
    assert run(["fault", "add", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert all(kind in told for kind in KINDS)


def test_the_help_says_what_each_kind_needs(capsys):
    assert run(["fault", "add", "--help"]) == 0
    rows = {
        line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line
    }
    assert rows["delay"] == ["--links|--nodes", "--delay-ms", "[--jitter-ms]"]
    assert rows["reset"] == ["--links|--nodes", "[--interval-ms]"]
    assert rows["kill"] == ["--nodes"]
    assert set(KINDS) <= set(rows)


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
        return {"id": 1, "where": ["node0>node1"], "left_ms": None, "down": [], **request.fault}

    monkeypatch.setattr("localnet.faults.cli.ask_localnet", ask)
    kind, *rest = arguments.split()
    assert run(["fault", "add", kind, *rest]) == 0
    assert asked == [("fault-add", {"kind": kind, "links": ["0>1"], **document})]
    decode_fault(asked[0][1], ("node0", "node1"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("delay --links 0>1", "delay needs --delay-ms"),
        ("kill --links 0>1", "kill is on nodes: --nodes 'node2'"),
        ("kil --nodes node1", "there is no fault 'kil'; did you mean 'kill'?"),
    ],
)
def test_a_fault_is_refused_in_the_words_of_the_command_without_asking_anybody(
    arguments, message, tmp_path, capsys
):
    words = ["fault", "add", *arguments.split(), "--dir", str(tmp_path), "--json"]
    assert run(words) == ExitCode.USAGE
    assert json.loads(capsys.readouterr().out)["error"]["message"] == message


def test_lists_are_named_in_json(monkeypatch, capsys):
    entry = {"id": 1, "kind": "kill", "nodes": ["node1"], "where": ["node1"]}
    entry |= {"left_ms": None, "down": ["node1"]}
    answers = {
        "fault-list": {"faults": [entry]},
        "fault-add": entry,
        "fault-remove": entry,
        "byz-active": {
            "liars": [
                {"node": "node2", "behaviour": "mine.py:Broken", "failure": "mine.py:18: KeyError"},
                {"node": "node3", "behaviour": "silent", "failure": None},
            ]
        },
    }

    def ask(directory, command, argument=None):
        return answers[command]

    monkeypatch.setattr("localnet.faults.cli.ask_localnet", ask)
    monkeypatch.setattr("localnet.byz_cli.ask_localnet", ask)
    for words in (["fault", "list"], ["byz", "active"]):
        assert run([*words, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == answers["-".join(words)]
        assert run(words) == 0
        said = capsys.readouterr().out
        assert ("kill" if words[0] == "fault" else "failed: mine.py:18: KeyError") in said
    answers["byz-set"] = {"node": "node3", "behaviour": None, "started": True}
    assert run(["byz", "clear", "node3"]) == 0
    said = capsys.readouterr().err
    assert "node3 is honest; " in said
    assert "may convict it, if the view is the same" in said
    assert run(["byz", "set", "node3", "silent"]) == 0
    assert "node3 lies; " in capsys.readouterr().err
    answers["byz-set"]["started"] = False
    assert run(["byz", "clear", "node3"]) == 0
    assert "node3 does not run, and is honest once it is started; " in capsys.readouterr().err
    assert run(["byz", "set", "node3", "silent"]) == 0
    assert "node3 does not run, and lies once it is started; " in capsys.readouterr().err
    assert run(["fault", "add", "kill", "--nodes", "node1"]) == 0
    assert "did not strike node1, which does not run" in capsys.readouterr().err
    assert run(["fault", "add", "disk-full", "--nodes", "node1"]) == 0
    assert "node1 does not run: disk-full strikes it when it starts" in capsys.readouterr().err
    assert run(["fault", "remove", "1"]) == 0
    assert "kill has ended; it did not strike node1" in capsys.readouterr().err


def run_kill_one(report, capsys):
    code = run(["fault", "run", "kill_one", "--report", str(report), "--json"])
    return code, json.loads(capsys.readouterr().out)["error"]


def test_a_scenario_without_a_description_is_called_by_its_name_alone(
    tmp_path, monkeypatch, capsys
):
    document = {"as_expected": True, "findings": []}
    monkeypatch.setattr(
        "localnet.faults.runner.run_scenario", lambda *_, **__: (document, ExitCode.OK)
    )
    monkeypatch.setattr("localnet.faults.report.render", lambda _: "page")
    file = tmp_path / "bare.toml"
    for head, said in [("", "bare"), ("# It shows this.\n", "bare: It shows this.")]:
        file.write_text(f'{head}run_for = "5s"\n')
        assert run(["fault", "run", str(file), "--report", str(tmp_path / "report")]) == 0
        assert capsys.readouterr().err.splitlines()[0] == said


def test_what_did_not_hold_is_said_last(tmp_path, monkeypatch, capsys):
    findings = [
        {"name": "agreement", "holds": True, "detail": ""},
        {"name": "replay", "holds": None, "detail": "nothing there"},
        {"name": "commits_within = 15s", "holds": False, "detail": "found: 15.4 s"},
    ]
    document = {"as_expected": False, "findings": findings}
    monkeypatch.setattr(
        "localnet.faults.runner.run_scenario", lambda *_, **__: (document, ExitCode.EXPECTATION)
    )
    monkeypatch.setattr("localnet.faults.report.render", lambda _: "page")
    report = tmp_path / "report"
    assert run(["fault", "run", "kill_one", "--report", str(report)]) == ExitCode.EXPECTATION
    assert capsys.readouterr().err.splitlines()[-3:] == [
        "expected: pass",
        f"NOT JUDGED replay: nothing there; see {report}/report.md",
        f"FAILED commits_within = 15s: found: 15.4 s; see {report}/report.md",
    ]


def test_a_report_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    code, error = run_kill_one(file, capsys)
    assert (code, error["code"]) == (ExitCode.STORAGE, "fault.report_unwritable")
    assert error["message"] == f"{file} is a file"
    code, error = run_kill_one(file / "below", capsys)
    assert (code, error["message"]) == (
        ExitCode.STORAGE,
        f"cannot write to {file / 'below'}: Not a directory",
    )
    # Nobody makes a folder there, which is told by an error of its own.
    code, error = run_kill_one(Path("/proc/none"), capsys)
    assert (code, error["code"]) == (ExitCode.STORAGE, "fault.report_unwritable")
    monkeypatch.setattr("localnet.faults.runner._free_bytes", lambda path: FREE_MIN_BYTES - 1)
    code, error = run_kill_one(tmp_path / "report", capsys)
    assert (code, error["code"]) == (ExitCode.STORAGE, "fault.report_unwritable")
    assert "is full: 63 MiB are free, and a run needs 64" in error["message"]
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        BaseExceptionGroup("tasks", [OSError(errno.ENOSPC, "No space left on device")]),
    ],
)
def test_a_disk_that_fills_up_during_a_run_is_named(error, tmp_path, monkeypatch, capsys):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("localnet.faults.runner._run", fail)
    code, told = run_kill_one(tmp_path / "report", capsys)
    assert code == ExitCode.STORAGE
    assert told["message"] == f"cannot write to {tmp_path / 'report'}: No space left on device"


@pytest.mark.parametrize(
    ("stop", "exit_code"), [(KeyboardInterrupt(), 130), (_StoppedError(ExitCode.TERMINATED), 143)]
)
def test_a_run_that_was_stopped_says_by_what_and_how_to_repeat_it(
    stop, exit_code, tmp_path, monkeypatch, capsys
):
    def end(*arguments):
        raise stop

    monkeypatch.setattr("localnet.faults.runner._run", end)
    code, told = run_kill_one(tmp_path / "report", capsys)
    assert (code, told["exit_code"], told["code"]) == (exit_code, exit_code, "fault.interrupted")
    assert told["next"] == f"run it again: rota fault run kill_one --report {tmp_path / 'report'}"
