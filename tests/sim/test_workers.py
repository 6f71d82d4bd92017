"""One pool of processes for all that is to be run: each task once, and deaths are told."""

import os

import pytest

from localnet.sim.mutants_cli import hunt_by_name
from localnet.sim.workers import WorkerDiedError, run_all


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_task_is_run_once(jobs: int) -> None:
    assert sorted(run_all(abs, range(-5, 0), jobs, str)) == [1, 2, 3, 4, 5]


def test_a_worker_that_dies_is_told_of_with_what_it_ran() -> None:
    with pytest.raises(WorkerDiedError, match=r"the worker of task 9 ended \(exit code 9\)"):
        list(run_all(os._exit, [9], 2, lambda task: f"task {task}"))


def test_mutants_are_hunted_by_the_same_pool() -> None:
    (found,) = run_all(hunt_by_name, [("vote_again", 3, False)], 2, str)
    assert found.killed


@pytest.mark.parametrize("jobs", [1, 2, 3])
@pytest.mark.parametrize("seed", [None, "1"])
def test_what_is_run_twice_is_run_by_two_processes_that_hash_differently(
    jobs: int, seed: str | None, monkeypatch
) -> None:
    if seed is None:
        monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    else:
        monkeypatch.setenv("PYTHONHASHSEED", seed)
    tasks = [word for number in range(6) for word in (f"word {number}",) * 2]
    found = list(run_all(hash, tasks, jobs, str, str))
    assert len(found) == len(tasks)
    assert len(set(found)) == len(tasks)
    assert os.environ.get("PYTHONHASHSEED") == seed


def test_only_what_is_run_twice_takes_a_second_process() -> None:
    found = [1, 2, 3, 2]
    assert list(run_all(abs, found, 1, str, str)) == found
