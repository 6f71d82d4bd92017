"""Keys that may have signed do not start without their records; whatever a crash leaves does."""

import shutil
from pathlib import Path

import pytest

from node import signing_marker
from node.exit_codes import ExitCode
from node.home import NodeHome, make_private_dir
from node.signing_marker import (
    mark_signing,
    marker_path,
    may_create_safety_records,
    validate_memory,
)
from node.storage.batches import BatchStore
from node.storage.errors import SafetyError, StorageError
from node.storage.safety import SafetyStore
from node.storage.segments import segment_path

CHAIN, OTHER_CHAIN, OWNER, KEY = b"c" * 32, b"d" * 32, b"owner", b"k" * 48


class PowerCutError(Exception):
    """Nothing after this happened."""


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    home = NodeHome(tmp_path)
    make_private_dir(home.keys_dir)
    return home


def begin(home: NodeHome) -> None:
    """A first start, as far as the node may sign."""
    validate_memory(home, CHAIN)
    make_private_dir(home.data_dir)
    create = may_create_safety_records(home, CHAIN)
    store = SafetyStore(home.safety_path, owner=OWNER, create=create)
    BatchStore(home.segments_dir).close()
    try:
        mark_signing(home, CHAIN, KEY)
    finally:
        store.close()


def lose_data(home: NodeHome) -> None:
    shutil.rmtree(home.data_dir)


def test_a_home_starts_again_and_again_with_its_records(home):
    for _ in range(3):
        begin(home)
        assert CHAIN.hex().encode() in marker_path(home, CHAIN).read_bytes()


def test_keys_that_may_have_signed_do_not_start_without_their_records(home):
    begin(home)
    lose_data(home)
    with pytest.raises(SafetyError) as caught:
        begin(home)
    assert (caught.value.code, caught.value.exit_code) == (
        "safety.missing",
        ExitCode.REFUSED_TO_SIGN,
    )
    assert "restore" in caught.value.advice
    assert "retire" in caught.value.advice
    assert not home.data_dir.exists()


def lose_folder(home: NodeHome) -> None:
    shutil.rmtree(home.segments_dir)


def lose_contents(home: NodeHome) -> None:
    lose_folder(home)
    home.segments_dir.mkdir()


@pytest.mark.parametrize("lose", [lose_folder, lose_contents])
def test_keys_that_may_have_signed_do_not_start_without_their_batches(home, lose):
    begin(home)
    lose(home)
    with pytest.raises(SafetyError) as caught:
        begin(home)
    assert (caught.value.code, caught.value.exit_code) == (
        "safety.batches_missing",
        ExitCode.REFUSED_TO_SIGN,
    )
    assert str(home.segments_dir) in caught.value.message
    assert "restore" in caught.value.advice
    assert "--follow" in caught.value.advice


def test_an_index_of_batches_that_was_removed_is_made_anew(home):
    begin(home)
    for path in home.segments_dir.iterdir():
        path.unlink()
    segment_path(home.segments_dir, 1).write_bytes(b"")
    begin(home)


def test_a_marker_that_cannot_be_read_still_counts(home):
    begin(home)
    lose_data(home)
    marker_path(home, CHAIN).write_bytes(b"")
    with pytest.raises(SafetyError):
        validate_memory(home, CHAIN)


def test_the_same_keys_may_begin_another_chain(home):
    begin(home)
    lose_data(home)
    validate_memory(home, OTHER_CHAIN)
    assert may_create_safety_records(home, OTHER_CHAIN)


def test_no_crash_of_a_first_start_keeps_a_home_from_starting(home, monkeypatch):
    real = {name: getattr(signing_marker, name) for name in ("sync_directory", "write_atomically")}
    left = [0]

    def cut_before(name):
        def step(*arguments):
            if not left[0]:
                raise PowerCutError(name)
            left[0] -= 1
            real[name](*arguments)

        return step

    for name in real:
        monkeypatch.setattr(signing_marker, name, cut_before(name))
    steps = 0
    while True:
        left[0] = steps
        try:
            begin(home)
            break
        except PowerCutError:
            assert not marker_path(home, CHAIN).exists()
            assert home.safety_path.exists()
            steps += 1
    assert steps == 4
    assert marker_path(home, CHAIN).exists()


def test_a_marker_is_left_before_any_record_and_a_crash_between_starts(home):
    begin(home)
    store = SafetyStore(home.safety_path, owner=OWNER)
    assert store.load() == {}
    store.close()
    begin(home)


def test_a_marker_that_cannot_be_written_ends_the_start(home, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(signing_marker, "write_atomically", fail)
    with pytest.raises(StorageError) as caught:
        begin(home)
    assert caught.value.code == "storage.full"
