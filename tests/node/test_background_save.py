"""A process of its own saves; whatever happens to it, the engine hears of it and goes on."""

import os
import signal
from dataclasses import dataclass

import pytest

from engine.errors import InvariantViolation
from node.storage.errors import StorageError
from node.workers.background_save import BackgroundSave


@dataclass
class FakeState:
    name: str = ""
    height: int = 7


class FakeStore:
    """What `write` does here happens in the other process."""

    def __init__(self, write):
        self.write = write
        self.kept = []

    def remove_obsolete(self, height):
        self.kept.append((height, os.getpid()))


def make(write, detach=lambda: None):
    return BackgroundSave(FakeStore(write), detach)


def test_the_state_is_saved_as_it_was_and_in_another_process(tmp_path):
    state = FakeState("before")
    saves = make(lambda state: (tmp_path / "saved").write_text(f"{state.name} {os.getpid()}"))
    saves.begin(state)
    state.name = "after"
    saves.finish()
    saved = (tmp_path / "saved").read_text()
    assert saved.startswith("before")
    assert not saved.endswith(str(os.getpid()))


def test_what_a_save_made_obsolete_is_removed_by_the_engines_process_once_it_is_done(tmp_path):
    os.mkfifo(tmp_path / "stuck")
    store = FakeStore(lambda state: (tmp_path / "stuck").read_bytes())
    saves = BackgroundSave(store, lambda: None)
    saves.begin(FakeState(height=3))
    assert store.kept == []
    (tmp_path / "stuck").write_bytes(b"go on")
    saves.finish()
    assert store.kept == [(3, os.getpid())]


def test_one_save_waits_for_the_one_before(tmp_path):
    def write(state):
        with open(tmp_path / "log", "a") as log:
            log.write(f"begin {state.name}\n")
            log.flush()
            log.write(f"end {state.name}\n")

    saves = make(write)
    for name in "abc":
        saves.begin(FakeState(name))
    saves.finish()
    lines = (tmp_path / "log").read_text().split("\n")
    assert lines[:-1] == [f"{what} {name}" for name in "abc" for what in ("begin", "end")]


def fail_with_code(_state):
    raise StorageError("storage.full", "no space left")


def break_down(_state):
    raise ZeroDivisionError


def die(_state):
    os.kill(os.getpid(), signal.SIGKILL)


def leave(_state):
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("save", "code", "words"),
    [
        (fail_with_code, "storage.full", "no space left"),
        (break_down, "storage.failed", "ended with 2"),
        (die, "storage.failed", "ended with -9"),
        (leave, "storage.failed", "ended with 2"),
    ],
)
@pytest.mark.parametrize("how", ["begin", "finish"])
def test_a_save_that_failed_is_told_once_by_whatever_comes_next(save, code, words, how):
    saves = make(save)
    saves.begin(FakeState())
    with pytest.raises(StorageError, match=words) as raised:
        saves.begin(FakeState()) if how == "begin" else saves.finish()
    assert raised.value.code == code
    saves.finish()


def find_imbalance(_state):
    raise InvariantViolation("equity is not what balances must sum to")


@pytest.mark.parametrize("how", ["begin", "finish"])
def test_books_that_do_not_balance_are_no_failure_of_the_disk(how):
    saves = make(find_imbalance)
    saves.begin(FakeState())
    with pytest.raises(InvariantViolation, match="equity is not"):
        saves.begin(FakeState()) if how == "begin" else saves.finish()
    saves.finish()


def test_without_room_for_a_process_the_save_is_made_in_place_and_leaves_nothing_open(
    monkeypatch, capsys
):
    def no_fork():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", no_fork)
    written = []
    store = FakeStore(written.append)
    saves = BackgroundSave(store, lambda: None)
    before = len(os.listdir("/proc/self/fd"))
    state = FakeState(height=3)
    saves.begin(state)
    assert written == [state]
    assert store.kept == [(3, os.getpid())]
    assert "temporarily unavailable" in capsys.readouterr().err
    assert len(os.listdir("/proc/self/fd")) == before
    saves.finish()
    with pytest.raises(StorageError, match="no space left"):
        make(fail_with_code).begin(state)


def test_the_other_process_lets_go_of_what_belongs_to_the_engines(tmp_path):
    read_end, write_end = os.pipe()
    os.mkfifo(tmp_path / "stuck")
    saves = make(
        lambda state: (tmp_path / "stuck").read_bytes(), detach=lambda: os.close(write_end)
    )
    saves.begin(FakeState())
    os.close(write_end)
    # The end is seen although the saving process still lives.
    assert os.read(read_end, 1) == b""
    os.close(read_end)
    (tmp_path / "stuck").write_bytes(b"go on")
    saves.finish()
