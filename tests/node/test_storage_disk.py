"""What the file operations promise about power cuts they ask the kernel for: no test without a
power cut notices a sync that is missing."""

import os

import pytest

from node.storage.disk import Disk, sync_directory, sync_file

CONTENT = b"twelve bytes"
KEPT_BYTES = 5


@pytest.fixture
def synced(monkeypatch):
    """What was synced, as (inode, size at that moment), in order."""
    calls = []

    def recording(sync):
        def record(file):
            sync(file)
            status = os.fstat(file)
            calls.append((status.st_ino, status.st_size))

        return record

    monkeypatch.setattr(os, "fsync", recording(os.fsync))
    monkeypatch.setattr(os, "fdatasync", recording(os.fdatasync))
    return calls


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def test_a_file_is_synced(path, synced):
    sync_file(path)
    assert synced == [(path.stat().st_ino, len(CONTENT))]


def test_a_file_is_synced_with_what_was_just_written(path, synced):
    disk = Disk()
    file = disk.open_append(path)
    disk.write(file, [CONTENT])
    disk.sync_data(file)
    disk.close(file)
    assert synced == [(path.stat().st_ino, 2 * len(CONTENT))]


def test_a_file_is_synced_once_it_is_cut_off(path, synced):
    Disk().truncate(path, KEPT_BYTES)
    assert synced == [(path.stat().st_ino, KEPT_BYTES)]


@pytest.mark.parametrize("sync", [sync_directory, Disk().sync_directory])
def test_a_directory_is_synced(tmp_path, synced, sync):
    sync(tmp_path)
    assert [inode for inode, _ in synced] == [tmp_path.stat().st_ino]
