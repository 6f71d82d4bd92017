"""Disks that are full, and data that is damaged, lost or in use."""

import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from engine.instructions import (
    Cancel,
)
from node.exit_codes import ExitCode
from node.home import NodeHome
from node.network import NetworkNode

LIMITED_NODE = "node3"


@pytest.fixture
def fallible(target) -> Iterator[NetworkNode]:
    """The node that a test brings down. However the test ends, it is up and whole for the next."""
    localnet = target.localnet
    pid = localnet.status()[LIMITED_NODE]["pid"]
    yield next(node for node in target.network.nodes if node.name == LIMITED_NODE)
    status = localnet.status()[LIMITED_NODE]
    if not status["up"] or status["pid"] == pid:
        localnet.restart(LIMITED_NODE)
    localnet.wait_caught_up(LIMITED_NODE)


def test_a_node_that_can_write_no_more_ends_with_72_and_loses_nothing(
    target, signer, fallible: NetworkNode, make_signer
) -> None:
    localnet = target.localnet
    home = target.network.home(LIMITED_NODE)
    before = make_signer(target, fallible.door_endpoint())
    acknowledged = before.good(Cancel(client_id=1))
    assert before.execute(acknowledged) == [["order.unknown"]]
    # As when the disk is full, every write fails, also those of the log and of stderr.
    pid = localnet.status()[LIMITED_NODE]["pid"]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    localnet.wait_dead(LIMITED_NODE)
    assert localnet.status()[LIMITED_NODE]["exit_code"] == ExitCode.STORAGE
    localnet.wait_for_blocks(3, "the other three")
    meanwhile = signer.good(Cancel(client_id=1))
    assert signer.execute(meanwhile) == [["order.unknown"]]

    localnet.restart(LIMITED_NODE)
    localnet.wait_caught_up(LIMITED_NODE)
    for envelope in (acknowledged, meanwhile):
        view = before.ask("envelope", envelope.envelope_id)
        assert view["level"] == "executed"
    assert home.read_halted() is None


@pytest.fixture
def stopped_home(target, signer, fallible: NetworkNode) -> Iterator[NodeHome]:
    """The home of a killed node with a history; whatever happens to its data is undone."""
    localnet = target.localnet
    home = target.network.home(fallible.name)
    assert signer.execute(signer.good(Cancel(client_id=1))) == [["order.unknown"]]
    localnet.wait_caught_up(fallible.name)
    localnet.kill(fallible.name)
    localnet.wait_dead(fallible.name)
    backup = home.path / "backup"
    shutil.copytree(home.data_dir, backup)
    yield home
    shutil.rmtree(home.data_dir)
    backup.rename(home.data_dir)


def overwrite_head(path: Path) -> None:
    # A killed process leaves its newest pages, often the first one too, in the log beside it.
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = bytearray(path.read_bytes())
    data[:64] = bytes(64)
    path.write_bytes(data)


def drop(path: Path) -> None:
    for each in path.parent.glob(path.name + "*"):
        each.unlink()


def cut_segments(path: Path) -> None:
    names = [each for each in path.iterdir() if not each.name.startswith("index.db")]
    assert names, "the node has stored batches"
    for each in names:
        os.truncate(each, 10)


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: list[tuple[str, Callable[[NodeHome], None], ExitCode, str]] = [
    ("safety.db is gone", lambda home: drop(home.safety_path), ExitCode.REFUSED_TO_SIGN,
     "safety.missing"),
    ("safety.db is garbage", lambda home: overwrite_head(home.safety_path), ExitCode.STORAGE,
     "storage.corrupt"),
    ("a bit in the log of safety.db",
     lambda home: flip_bit(home.safety_path.with_name("safety.db-wal")), ExitCode.STORAGE,
     "storage.corrupt"),
    ("chain.db is garbage", lambda home: overwrite_head(home.chain_path), ExitCode.STORAGE,
     "storage.corrupt"),
    ("segments are gone", lambda home: shutil.rmtree(home.segments_dir),
     ExitCode.REFUSED_TO_SIGN, "safety.batches_missing"),
    ("segments are cut", lambda home: cut_segments(home.segments_dir), ExitCode.STORAGE,
     "storage.corrupt"),
]  # fmt: skip


def test_damaged_data_is_told_apart_and_never_signed_over(target, stopped_home: NodeHome) -> None:
    pristine = stopped_home.path / "backup"
    for what, damage, exit_code, code in DAMAGES:
        damage(stopped_home)
        done = target.localnet.rota(
            "node", "start", "--home", str(stopped_home.path), "--set", "log.format=none", "--json"
        )
        error = json.loads(done.stdout)["error"]
        assert (done.returncode, error["code"]) == (exit_code, code), (what, done.stderr)
        assert error["next"], what
        shutil.rmtree(stopped_home.data_dir)
        shutil.copytree(pristine, stopped_home.data_dir)


def test_safety_records_that_another_process_holds_end_a_start_with_71(
    target, stopped_home: NodeHome
) -> None:
    holder = apsw.Connection(str(stopped_home.safety_path))
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    with holder:
        holder.execute("CREATE TABLE intruder (a)")
        done = target.localnet.rota("node", "start", "--home", str(stopped_home.path), "--json")
    holder.close()
    assert done.returncode == ExitCode.REFUSED_TO_SIGN
    assert json.loads(done.stdout)["error"]["code"] == "safety.locked"
