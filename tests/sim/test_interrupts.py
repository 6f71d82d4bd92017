"""What was found is told, whatever ends a campaign and wherever it cannot be written down."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

import localnet.sim.bundle as bundle
import localnet.sim.mutants_cli as mutants_cli
import localnet.sim.shrink as shrink
import localnet.sim.workers as workers
from consensus.outbox import Outbox
from localnet.sim.campaign import Finding
from localnet.sim.faults import CrashFault
from localnet.sim.interrupts import Interruption
from localnet.sim.mutants.hunt import hunt
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Schedule, load_schedule, save_schedule
from localnet.sim.violation import Violation
from localnet.sim.workers import run_all
from localnet.verdicts import Verdict

FAST = ("--views", "3", "-n", "4", "--jobs", "1")


@pytest.fixture
def break_safety(monkeypatch, one_process):
    """From now on nodes send before their disks remember."""
    send = Outbox.send

    def break_it() -> None:
        monkeypatch.setattr(
            Outbox, "send", lambda self, to, message, after=(): send(self, to, message)
        )

    return break_it


@pytest.fixture
def signal_in_run(monkeypatch):
    """Lets a signal come in the middle of the run of a seed."""

    def arm(seed: int, number: signal.Signals) -> None:
        def run(schedule, prepare=None):
            if schedule.seed == seed:
                os.kill(os.getpid(), number)
            return run_schedule(schedule, prepare)

        monkeypatch.setattr(workers, "run_schedule", run)

    return arm


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_campaign_reports_what_it_has(
    run_sim, signal_in_run, number: signal.Signals, code: int
) -> None:
    before = signal.getsignal(number)
    signal_in_run(4, number)
    exit_code, document = run_sim("run", "--seeds", "1..500", *FAST)
    assert (exit_code, document["exit_code"], document["verdict"]) == (code, code, "pass")
    assert (document["runs"], document["interrupted"]) == (3, True)
    assert signal.getsignal(number) is before


def test_an_interrupted_campaign_that_found_something_exits_by_the_verdict(
    run_sim, signal_in_run, break_safety, tmp_path
) -> None:
    break_safety()
    signal_in_run(2, signal.SIGTERM)
    exit_code, document = run_sim("run", "--seeds", "1..500", *FAST)
    assert (exit_code, document["exit_code"], document["interrupted"]) == (20, 20, True)
    assert [each["seed"] for each in document["violations"]] == [1]
    kept = {path.name for path in (tmp_path / "sim-failures" / "1").iterdir()}
    assert "schedule.json" in kept
    assert "minimal.json" not in kept  # Who interrupts is not kept waiting.


def test_a_campaign_that_is_not_interrupted_says_so(run_sim) -> None:
    assert run_sim("run", "--seeds", "1", *FAST)[1]["interrupted"] is False


def test_a_signal_between_two_results_ends_before_the_next() -> None:
    done = []
    with Interruption() as interruption:
        for item in interruption.until(iter(range(9))):
            if item == 2:
                os.kill(os.getpid(), signal.SIGINT)
            done.append(item)
        assert done == [0, 1, 2]
        assert interruption.exit_code == 130
        # Further work needs a further signal.
        assert list(interruption.until(iter(range(3)))) == [0, 1, 2]


def test_what_is_done_in_one_piece_ends_at_a_signal_and_says_so() -> None:
    done = []

    def work() -> None:
        done.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        done.append(2)

    with Interruption() as interruption:
        assert not interruption.attempt(work)
        assert interruption.attempt(lambda: done.append(3))
        assert interruption.exit_code == 143
    assert done == [1, 3]


@pytest.fixture
def failing_file(tmp_path) -> Path:
    """A schedule that fails while safety is broken, with two faults that do not matter."""
    faults = tuple(CrashFault(at_ms=at_ms, duration_ms=50, host=1) for at_ms in (300, 500))
    path = tmp_path / "failing.json"
    save_schedule(path, Schedule(seed=1, views=6, faults=faults))
    return path


def signal_in_shrinking(monkeypatch, run: int, number: signal.Signals) -> None:
    """Lets a signal come in the middle of one of the runs of a shrinking, from 1 on."""
    count = 0

    def run_it(schedule):
        nonlocal count
        count += 1
        if count == run:
            os.kill(os.getpid(), number)
        return run_schedule(schedule)

    monkeypatch.setattr(shrink, "run_schedule", run_it)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_shrinking_leaves_the_smallest_that_it_found(
    run_sim, monkeypatch, break_safety, failing_file, number: signal.Signals, code: int
) -> None:
    break_safety()
    signal_in_shrinking(monkeypatch, 3, number)
    exit_code, document = run_sim("shrink", str(failing_file))
    assert (exit_code, document["interrupted"], document["complete"]) == (code, True, False)
    smallest = load_schedule(failing_file.with_suffix(".min.json"))
    assert smallest.faults == ()
    assert smallest.views == 6, "the second smaller one was not run to its end"
    violation = run_schedule(smallest).violation
    assert violation is not None
    assert violation.oracle == document["oracle"]


def test_a_shrinking_that_is_interrupted_before_anything_failed_writes_nothing(
    run_sim, monkeypatch, failing_file
) -> None:
    signal_in_shrinking(monkeypatch, 1, signal.SIGTERM)
    code, document = run_sim("shrink", str(failing_file))
    assert (code, document["error"]["code"]) == (143, "sim.interrupted")
    assert not failing_file.with_suffix(".min.json").exists()


def signal_in_hunt(monkeypatch, name: str, **outcome) -> None:
    def hunt_it(mutant, scenarios, **options):
        if mutant.name == name:
            os.kill(os.getpid(), signal.SIGINT)
        return replace(hunt(mutant, scenarios, **options), **outcome)

    monkeypatch.setattr(mutants_cli, "hunt", hunt_it)


TWO_MUTANTS = ("mutants", "--only", "vote_again", "--only", "nonce_again", "--jobs", "1")


def test_an_interrupted_hunt_reports_the_mutants_that_it_has(run_sim, monkeypatch) -> None:
    signal_in_hunt(monkeypatch, "nonce_again")
    exit_code, document = run_sim(*TWO_MUTANTS)
    assert (exit_code, document["interrupted"], document["killed"]) == (130, True, 1)
    assert [each["name"] for each in document["mutants"]] == ["vote_again"]


def test_an_interrupted_hunt_that_knows_a_survivor_exits_by_that(run_sim, monkeypatch) -> None:
    signal_in_hunt(monkeypatch, "nonce_again", killed=False)
    exit_code, document = run_sim(*TWO_MUTANTS)
    assert (exit_code, document["interrupted"]) == (23, True)
    assert document["survived"] == ["vote_again"]


def test_workers_are_deaf_to_the_signals_that_end_a_command() -> None:
    (mask,) = run_all(partial(signal.pthread_sigmask, signal.SIG_BLOCK), [()], 2, str)
    assert {signal.SIGINT, signal.SIGTERM} <= mask
    ours = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert not {signal.SIGINT, signal.SIGTERM} & ours


@pytest.mark.parametrize("place", ["/proc/x", "a file"])
def test_a_place_that_cannot_be_written_is_refused_before_the_first_seed(
    run_sim, monkeypatch, tmp_path, place: str
) -> None:
    (tmp_path / "a file").write_text("")

    def run(schedule):
        pytest.fail("a seed was run")

    monkeypatch.setattr(workers, "run_schedule", run)
    code, document = run_sim("run", "--seeds", "1", *FAST, "--keep", place)
    assert (code, document["error"]["code"]) == (72, "sim.unwritable")


def test_looking_whether_a_place_can_be_written_leaves_nothing_behind(run_sim, tmp_path) -> None:
    (tmp_path / "kept").mkdir()
    assert run_sim("run", "--seeds", "1", *FAST, "--keep", "made/deep")[0] == 0
    assert run_sim("run", "--seeds", "1", *FAST, "--keep", "kept/deep")[0] == 0
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]


def test_a_violation_is_told_though_its_folder_cannot_be_written(
    run_sim, break_safety, monkeypatch
) -> None:
    def write(directory: Path, finding, runs_max: int):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, "write_bundle", write)
    break_safety()
    said = []
    monkeypatch.setattr("node.cli.output.Output.note", lambda self, text: said.append(text))
    code, document = run_sim("run", "--seeds", "1..2", *FAST)
    assert (code, document["verdict"], document["bundles"]) == (20, "safety", [])
    assert [each["seed"] for each in document["violations"]] == [1, 2]
    assert any("cannot write sim-failures: No space left on device" in text for text in said)


def test_a_bundle_keeps_nothing_of_an_earlier_one(tmp_path) -> None:
    folder = tmp_path / "1"
    folder.mkdir()
    for name in ("minimal.json", "notes of mine.txt"):
        (folder / name).write_text("old")
    schedule = Schedule(seed=1, views=2)
    violation = Violation("SignedOnce", "twice", 1, "attack", Verdict.SAFETY)
    bundle.write_bundle(tmp_path, Finding(schedule, violation, "00"), shrink_runs_max=2)
    assert not (folder / "minimal.json").exists()
    assert (folder / "notes of mine.txt").read_text() == "old"
