"""Ctrl-C at a localnet in the foreground."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from node.exit_codes import ExitCode


def test_ctrl_c_ends_a_localnet_with_all_its_processes(tmp_path: Path, patience_s: float) -> None:
    path = tmp_path / "net"
    words = ("localnet", "up", "--dir", str(path), "--port-base", str(15_900))
    with subprocess.Popen(
        [sys.executable, "-m", "node.cli.main", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "ready in" in line:
                break
        assert len(find_processes(path)) > 4
        # A terminal signals the whole group of its foreground.
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=patience_s)
    assert process.returncode == ExitCode.OK
    assert find_processes(path) == []


def find_processes(path: Path) -> list[str]:
    """Command lines of running processes that name this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                words = (entry / "cmdline").read_bytes()
                if os.fsencode(path) in words:
                    found.append(words.decode())
    return found
