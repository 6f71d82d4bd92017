"""A broken behaviour of somebody's own is told as theirs, with the line, and not as a bug."""

from pathlib import Path

import pytest

from localnet.byzantine import BehaviourFailedError, find_behaviour
from localnet.byzantine.guard import find_failure
from localnet.faults.node_main import main
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Liar, Schedule, save_schedule
from node.cli.main import run

HEAD = """from localnet.byzantine import Behaviour
from consensus.effects import SetTimer


class Grudge(Behaviour):
    "A lie."

    name = "grudge"

"""

BROKEN = {
    "raise": ("    def send(self, now_ms, send):\n        1 / 0\n", "11 in Grudge.send: ZeroDiv"),
    "later": (
        "    def send(self, now_ms, send):\n        yield send\n        yield self.nothing\n",
        "12 in Grudge.send: AttributeError",
    ),
    "bare": (
        "    def send(self, now_ms, send):\n        return send\n",
        "10 in Grudge.send: returned Send, which is no tuple of effects",
    ),
    "none": (
        "    def bend(self, now_ms, effect):\n        return (None,)\n",
        "10 in Grudge.bend: returned None, which is no effect",
    ),
    "heard": (
        "    def hear(self, now_ms, event):\n        return 'x'\n",
        "10 in Grudge.hear: returned str, which is no event",
    ),
    "volunteer": (
        "    def volunteer(self, now_ms, event):\n        raise KeyError(3)\n",
        "11 in Grudge.volunteer: KeyError: 3",
    ),
    "exit": (
        "    def send(self, now_ms, send):\n        raise SystemExit(0)\n",
        "11 in Grudge.send: SystemExit: 0",
    ),
    "exit_at_once": (
        "    def __init__(self, tools):\n        raise SystemExit(0)\n",
        "11 in Grudge.__init__: SystemExit: 0",
    ),
    "init": (
        "    def __init__(self, tools):\n        raise OSError('no')\n",
        "11 in Grudge.__init__: OSError: no",
    ),
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a behaviour's file, and a schedule with it beside it."""

    def write(text: str) -> Path:
        (tmp_path / "crash.py").write_text(text)
        schedule = Schedule(views=3, liars=(Liar(member=3, behaviour="crash.py:Grudge"),))
        monkeypatch.chdir(tmp_path)
        save_schedule(tmp_path / "schedule.json", schedule)
        return tmp_path / "schedule.json"

    return write


@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_what_is_wrong_with_a_behaviour_is_told_with_its_line(run_sim, write, kind: str) -> None:
    body, words = BROKEN[kind]
    code, document = run_sim("replay", str(write(HEAD + body)))
    assert (code, document["error"]["code"]) == (3, "byz.behaviour_failed")
    assert document["error"]["message"].startswith(f"crash.py:{words}")
    assert "mend your behaviour" in document["error"]["next"]


def test_a_file_that_a_schedule_makes_run_is_named_before_it_runs(write, capsys) -> None:
    schedule = write("import sys\nprint('here I am', file=sys.stderr)\n" + HEAD)
    for command in ("replay", "shrink"):
        run(["sim", command, str(schedule)])
        said = capsys.readouterr().err
        assert f"runs {schedule.parent / 'crash.py'}, which {schedule} names" in said
        if command == "replay":
            assert said.index("runs ") < said.index("here I am")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_of_this_name\n", "crash.py:1: ModuleNotFoundError"),
        ("\nclass Grudge(\n", "crash.py:2: SyntaxError"),
        ("\nraise SystemExit(0)\n", "crash.py:2: SystemExit: 0"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_told_with_its_line(tmp_path, text, words) -> None:
    path = tmp_path / "crash.py"
    path.write_text(text)
    with pytest.raises(BehaviourFailedError, match=words):
        find_behaviour(f"{path}:Grudge")


def test_a_worker_tells_it_as_it_is(run_sim, write) -> None:
    path = write(HEAD + BROKEN["raise"][0])
    code, document = run_sim("twins", "run", str(path.parent), "--jobs", "2")
    assert (code, document["error"]["code"]) == (3, "byz.behaviour_failed")
    assert document["error"]["message"].startswith("crash.py:11 in Grudge.send")


def test_a_process_tells_it_before_it_starts(write, capsys, tmp_path) -> None:
    write("import nothing_of_this_name\n")
    assert run(["byz", "run", str(tmp_path), "--behaviour", "crash.py:Grudge"]) == 3
    assert "[byz.behaviour_failed]" in capsys.readouterr().err


def test_a_behaviour_lies_beside_its_schedule_wherever_one_stands(
    write, tmp_path, monkeypatch
) -> None:
    body = "    def send(self, now_ms, send):\n        return ()\n"
    path = write(HEAD + body)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(["sim", "replay", str(path)]) == 0
    assert run(["sim", "replay", "../schedule.json"]) == 0


def test_a_behaviour_without_a_name_is_called_as_its_class(run_sim, write, tmp_path) -> None:
    head = HEAD.replace('    name = "grudge"\n', "")
    path = write(head + "    def send(self, now_ms, send):\n        return ()\n")
    assert run_sim("replay", str(path))[0] == 0
    assert find_behaviour(f"{tmp_path / 'crash.py'}:Grudge").name == "Grudge"


def test_a_schedule_is_saved_with_the_behaviours_that_it_names(write, tmp_path) -> None:
    from localnet.sim.schedule import load_schedule

    schedule = load_schedule(write(HEAD + "    def send(self, now_ms, send):\n        return ()\n"))
    copy = tmp_path / "copy" / "schedule.json"
    copy.parent.mkdir()
    save_schedule(copy, schedule)
    assert (copy.parent / "crash.py").read_bytes() == (tmp_path / "crash.py").read_bytes()
    assert str(tmp_path) not in copy.read_text()
    (tmp_path / "crash.py").unlink()
    assert run_schedule(load_schedule(copy)).violation is None


def test_a_process_that_a_behaviour_ended_is_told_as_such(
    write, capsys, tmp_path, monkeypatch
) -> None:
    write("import nothing_of_this_name\n")
    options = ["--home", str(tmp_path), "--behaviour", "crash.py:Grudge"]
    monkeypatch.setattr("sys.argv", ["node_main", *options])
    assert main() == 3
    said = capsys.readouterr().err
    failure = find_failure(f"a line before\n{said}")
    assert failure is not None
    assert failure.message.startswith("crash.py:1: ModuleNotFoundError")
    assert find_failure("error: something else [config.invalid]") is None
