"""Failing schedules are cut down, written down, and repeated."""

import re
import shlex
from pathlib import Path

import pytest
from msgspec.structs import replace

from consensus.outbox import Outbox
from localnet.sim import cli as sim_cli
from localnet.sim.bundle import SLUG_MAX, make_folder_name, make_replay_line, record_run
from localnet.sim.faults import ClockFault, CrashFault, DelayFault, PartitionFault
from localnet.sim.generator import generate
from localnet.sim.links import Partition
from localnet.sim.network import World
from localnet.sim.recorder import write_trace
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Liar, Network, Schedule, encode_schedule, load_schedule
from localnet.sim.shrink import NothingToShrinkError, name_failure, shrink
from localnet.sim.timeline import render_timeline
from localnet.sim.violation import Violation
from localnet.verdicts import Verdict
from node.cli.main import run
from node.core import NodeCore
from node.exit_codes import ExitCode


@pytest.fixture
def planted(monkeypatch):
    """A bug: a node whose clock was ever stepped back by 100 ms or more, and that was partitioned
    besides, breaks an invariant of its own."""
    step, set_clock = NodeCore.step, World.set_clock

    def set_and_note(self, index, offset_ms):
        if offset_ms <= -100 and any(isinstance(rule, Partition) for rule in self.rules):
            self.hosts[index].machine.is_spoiled = True
        set_clock(self, index, offset_ms)

    def step_or_fail(self, now_ms, event):
        if getattr(self, "is_spoiled", False):
            raise AssertionError("planted")
        return step(self, now_ms, event)

    monkeypatch.setattr(World, "set_clock", set_and_note)
    monkeypatch.setattr(NodeCore, "step", step_or_fail)


def make_noisy_schedule() -> Schedule:
    """400 faults, of which two together are a failure."""
    harmless = [
        DelayFault(at_ms=2 * number, duration_ms=1, least_ms=0, most_ms=1) for number in range(398)
    ]
    partition = PartitionFault(at_ms=50, duration_ms=400, side=(0,))
    clock = ClockFault(at_ms=100, duration_ms=100, host=2, offset_ms=-300)
    return Schedule(
        seed=3,
        powers=(2, 2, 2, 2, 1),
        views=6,
        network=Network(drop_permille=5),
        liars=(Liar(member=4, behaviour="silent"),),
        faults=(*harmless[:200], partition, *harmless[200:], clock),
    )


def test_four_hundred_faults_end_at_the_two_that_matter(planted) -> None:
    schedule = make_noisy_schedule()
    assert len(schedule.faults) == 400
    shrunk = shrink(schedule)
    small = shrunk.schedule
    assert shrunk.is_complete
    assert [type(fault) for fault in small.faults] == [PartitionFault, ClockFault]
    assert (small.liars, small.network, small.powers) == ((), Network(), (1, 1, 1, 1))
    assert small.views < 6
    assert small.traffic is None
    again = run_schedule(small).violation
    assert again == shrunk.violation
    assert again is not None
    assert "planted" in again.detail


def test_a_budget_ends_shrinking_with_what_there_is(planted) -> None:
    shrunk = shrink(make_noisy_schedule(), runs_max=4)
    assert (shrunk.runs, shrunk.is_complete) == (4, False)
    assert len(shrunk.schedule.faults) < 400
    assert run_schedule(shrunk.schedule).violation is not None


def test_what_breaks_no_rule_is_not_shrunk(run_sim, tmp_path) -> None:
    with pytest.raises(NothingToShrinkError):
        shrink(Schedule(views=2))
    path = tmp_path / "good.json"
    path.write_bytes(encode_schedule(Schedule(views=2)))
    code, document = run_sim("shrink", str(path))
    assert (code, document["error"]["code"]) == (5, "sim.no_violation")


def test_where_nothing_can_be_written_nothing_is_shrunk(run_sim, tmp_path, monkeypatch) -> None:
    path = tmp_path / "schedule.json"
    path.write_bytes(encode_schedule(Schedule(views=2)))
    monkeypatch.setattr(sim_cli, "shrink", lambda *_: pytest.fail("work for nothing"))
    code, document = run_sim("shrink", str(path), "--out", str(tmp_path / "absent" / "min.json"))
    assert (code, document["error"]["code"]) == (72, "sim.unwritable")


def test_where_no_page_can_be_written_nothing_is_run(run_sim, tmp_path, monkeypatch) -> None:
    path = tmp_path / "schedule.json"
    path.write_bytes(encode_schedule(Schedule(views=2)))
    monkeypatch.setattr(sim_cli, "write_timeline", lambda *_: pytest.fail("work for nothing"))
    code, document = run_sim("replay", str(path), "--timeline", str(tmp_path / "absent" / "x.html"))
    assert (code, document["error"]["code"]) == (72, "sim.unwritable")


def test_what_breaks_no_rule_leaves_the_file_for_the_result_as_it_was(run_sim, tmp_path) -> None:
    path, out = tmp_path / "schedule.json", tmp_path / "min.json"
    path.write_bytes(encode_schedule(Schedule(views=2)))
    assert run_sim("shrink", str(path), "--out", str(out))[0] == ExitCode.REJECTED
    assert not out.exists()
    out.write_text("mine")
    assert run_sim("shrink", str(path), "--out", str(out))[0] == ExitCode.REJECTED
    assert out.read_text() == "mine"


def test_a_violation_leaves_a_bundle_that_repeats_it(
    run_sim, one_process, tmp_path, monkeypatch
) -> None:
    send = Outbox.send
    monkeypatch.setattr(Outbox, "send", lambda self, to, message, after=(): send(self, to, message))
    arguments = ["--seeds", "1..2", "--views", "5", "--jobs", "1", "--keep", str(tmp_path)]
    code, report = run_sim("run", *arguments)
    assert code == 20
    assert report["bundles"] == [str(tmp_path / "1"), str(tmp_path / "2")]
    names = {path.name for path in (tmp_path / "1").iterdir()}
    assert names == {"schedule.json", "minimal.json", "trace.txt", "timeline.html", "README.md"}
    assert not (tmp_path / "2" / "minimal.json").exists()
    assert "`rota sim shrink schedule.json`" in (tmp_path / "2" / "README.md").read_text()
    for number, name in (("1", "minimal.json"), ("2", "schedule.json")):
        page = (tmp_path / number / "timeline.html").read_text()
        assert f"<code>rota sim replay {name}  # in this folder</code>" in page
    monkeypatch.chdir(tmp_path / "1")
    commands = re.findall(
        r"^rota sim (replay .*)$", (tmp_path / "1" / "README.md").read_text(), re.M
    )
    assert len(commands) == 2
    for command in commands:
        code, document = run_sim(*shlex.split(command, comments=True))
        assert (code, document["violation"]["oracle"]) == (20, "SignedOnce")
    minimal = load_schedule(tmp_path / "1" / "minimal.json")
    assert minimal.faults == ()
    assert "sends proposal of view 1" in (tmp_path / "1" / "trace.txt").read_text()
    code, document = run_sim("shrink", str(tmp_path / "2" / "schedule.json"))
    assert (code, document["faults"]) == (0, 0)
    assert (tmp_path / "2" / "schedule.min.json").exists()


def test_a_failing_file_of_ones_own_names_what_to_do_next(planted, tmp_path, capsys) -> None:
    file = tmp_path / "my own.json"
    file.write_bytes(encode_schedule(make_noisy_schedule()))
    code = run(["sim", "replay", str(file)])
    assert code == 1
    said = capsys.readouterr().err
    assert f"rota sim replay '{file}' --timeline run.html draws it" in said
    assert f"rota sim shrink '{file}' cuts it down" in said


def test_recording_changes_nothing_and_the_page_stands_alone() -> None:
    schedule = Schedule(
        seed=8, views=12, faults=(CrashFault(at_ms=100, duration_ms=300, host=2),), name="<b>&"
    )
    outcome, recorder = record_run(schedule)
    assert outcome == run_schedule(schedule)
    page = render_timeline(schedule, outcome, recorder)
    assert "<script" not in page
    assert not re.search(r"(src|href)=", page)
    assert "<b>&" not in page
    assert "says executed at height" in write_trace(recorder, outcome)
    for word in ("node0", "node3", "crash host=2", 'class="down"', "commits height 3"):
        assert word in page
    trace = write_trace(recorder, outcome)
    assert re.search(r"ms  node2 +view +\d+  is killed", trace)
    assert re.search(r"node0 .* hears vote of view \d+ for block [0-9a-f]{8} from node", trace)


def test_a_random_run_is_drawn_to_a_file(run_sim, tmp_path) -> None:
    path, page = tmp_path / "schedule.json", tmp_path / "timeline.html"
    path.write_bytes(encode_schedule(generate(4, views=5)))
    code, document = run_sim("replay", str(path), "--timeline", str(page))
    assert (code, document["violation"]) == (0, None)
    assert page.read_text().endswith("</html>")
    missing = tmp_path / "none" / "timeline.html"
    code, document = run_sim("replay", str(path), "--timeline", str(missing))
    assert (code, document["error"]["code"]) == (72, "sim.unwritable")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("", "7"),
        ("twins halves 4+1", "twins-halves-4-1-7"),
        ("../../x", "x-7"),
        ("/etc/passwd", "etc-passwd-7"),
        ("..", "7"),
        ("a" * 500, "a" * SLUG_MAX + "-7"),
    ],
)
def test_no_name_of_a_schedule_leads_out_of_the_folder_for_failures(name, folder) -> None:
    assert make_folder_name(Schedule(seed=7, name=name)) == folder


def test_the_line_that_repeats_a_run_is_quoted_for_a_shell() -> None:
    line = make_replay_line(Path("it's here") / "x.json")
    assert shlex.split(line) == ["rota", "sim", "replay", "it's here/x.json"]


def test_what_fails_in_another_phase_or_for_another_reason_is_not_the_same() -> None:
    def fail(detail: str, phase: str = "rest") -> Violation:
        return Violation("invariant of node.core", detail, 7, phase, Verdict.CRASH)

    first = name_failure(fail("node 1: height 17 after 3 (check, line 90)"))
    assert first == name_failure(fail("node 2: height 4 after 13 (check, line 91)"))
    assert first != name_failure(fail("node 2: height 4 after 13 (check, line 91)", "heal"))
    assert first != name_failure(fail("node 2: view 4 after 13 (check, line 91)"))
    three = "node0 queued 1; node1 queued 0; node2 queued 5"
    assert name_failure(fail(three)) == name_failure(fail("node0 queued 1; node1 queued 2"))
    assert name_failure(fail("at 1f2e3d4c")) == name_failure(fail("at 99aabbcc"))


def test_a_schedule_beyond_f_is_not_cut_down_to_one_within(planted) -> None:
    noisy = make_noisy_schedule()
    liars = tuple(Liar(member=member, behaviour="silent") for member in (3, 4))
    beyond = replace(noisy, faults=noisy.faults[198:202] + noisy.faults[-1:], liars=liars)
    assert not beyond.is_within_f()
    shrunk = shrink(beyond)
    assert not shrunk.schedule.is_within_f()
    assert shrunk.violation.detail.endswith(run_schedule(beyond).violation.detail[-20:])
