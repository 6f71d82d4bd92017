"""A process of its own saves; whatever happens to it, the engine hears of it and goes on."""

import os
import signal

import pytest

from node.storage.errors import StorageError
from node.workers.background_save import BackgroundSave


class FakeStore:
    """What `save` does here happens in the other process."""

    def __init__(self, save):
        self.save = save


def make(save, detach=lambda: None):
    return BackgroundSave(FakeStore(save), detach)


def test_the_state_is_saved_as_it_was_and_in_another_process(tmp_path):
    state = ["before"]
    saves = make(lambda state: (tmp_path / "saved").write_text(f"{state} {os.getpid()}"))
    saves.begin(state)
    state[0] = "after"
    saves.finish()
    saved = (tmp_path / "saved").read_text()
    assert saved.startswith("['before']")
    assert not saved.endswith(str(os.getpid()))


def test_one_save_waits_for_the_one_before(tmp_path):
    def save(name):
        with open(tmp_path / "log", "a") as log:
            log.write(f"begin {name}\n")
            log.flush()
            log.write(f"end {name}\n")

    saves = make(save)
    for name in "abc":
        saves.begin(name)
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
    saves.begin(None)
    with pytest.raises(StorageError, match=words) as raised:
        saves.begin(None) if how == "begin" else saves.finish()
    assert raised.value.code == code
    saves.finish()


def test_without_room_for_a_process_the_save_fails_and_leaves_nothing_open(monkeypatch):
    def no_fork():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", no_fork)
    saves = make(lambda state: None)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StorageError, match="temporarily unavailable"):
        saves.begin(None)
    assert len(os.listdir("/proc/self/fd")) == before
    saves.finish()


def test_the_other_process_lets_go_of_what_belongs_to_the_engines(tmp_path):
    read_end, write_end = os.pipe()
    os.mkfifo(tmp_path / "stuck")
    saves = make(
        lambda state: (tmp_path / "stuck").read_bytes(), detach=lambda: os.close(write_end)
    )
    saves.begin(None)
    os.close(write_end)
    # The end is seen although the saving process still lives.
    assert os.read(read_end, 1) == b""
    os.close(read_end)
    (tmp_path / "stuck").write_bytes(b"go on")
    saves.finish()
