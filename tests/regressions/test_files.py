"""Files that made their readers raise what nobody catches: found by `rota sim fuzz`."""

from pathlib import Path

import msgspec
import pytest

from localnet.faults.table import read_table
from localnet.sim.schedule import ScheduleError, decode_schedule
from node.genesis import GenesisError
from node.genesis_file import load_genesis
from node.home import NodeHome
from node.network import NetworkError, load_network

DEEP = b'{"version":1,"unknown":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
NO_UTF8 = b'{"version":1,"\xff":1}'
BROKEN = (DEEP, NO_UTF8)


@pytest.mark.parametrize("data", BROKEN)
def test_a_genesis_that_nests_too_deep_or_is_no_text_is_a_bad_genesis(
    tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "genesis.json"
    path.write_bytes(data)
    with pytest.raises(GenesisError):
        load_genesis(path)


@pytest.mark.parametrize("data", BROKEN)
def test_a_marker_that_nobody_can_read_still_keeps_a_node_from_starting(
    tmp_path: Path, data: bytes
) -> None:
    home = NodeHome(tmp_path)
    for path in (home.halted_path, home.state_path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    halted = home.read_halted()
    assert halted is not None
    assert halted.code == "halt.unreadable"
    assert home.read_state() is None


@pytest.mark.parametrize("data", [DEEP.replace(b"unknown", b"liars"), NO_UTF8])
def test_a_schedule_that_nests_too_deep_or_is_no_text_is_a_bad_schedule(data: bytes) -> None:
    with pytest.raises(ScheduleError):
        decode_schedule(data)


@pytest.mark.parametrize("data", [b"[" * 20_000, b'[{"id":1,"\xff":'])
def test_a_table_of_faults_raises_one_kind_of_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "faults.json"
    path.write_bytes(data)
    with pytest.raises(msgspec.MsgspecError):
        read_table(path)


@pytest.mark.parametrize(
    ("was", "is_now"),
    [
        (b"127.0.0.1:1", b"127.0.0.1"),
        (b"127.0.0.1:2", b"127.0.0.1:99999"),
        (b"ab" * 32, b"no" * 32),
        (b"ab" * 32, b"ab"),
        (b"node0", b"\xff"),
        (b'"accounts"', b'"deep":' + b"[" * 20_000 + b"]" * 20_000 + b',"accounts"'),
    ],
)
def test_a_network_with_a_bad_address_or_chain_is_refused_when_it_is_opened(
    tmp_path: Path, was: bytes, is_now: bytes
) -> None:
    manifest = (
        b'{"version":1,"seed":1,"chain_id":"' + b"ab" * 32 + b'","nodes":[{"name":"node0",'
        b'"power":1,"peer":"127.0.0.1:1","door":"127.0.0.1:2"}],"accounts":[]}'
    )
    path = tmp_path / "localnet.json"
    path.write_bytes(manifest)
    assert load_network(tmp_path).nodes
    path.write_bytes(manifest.replace(was, is_now))
    with pytest.raises(NetworkError):
        load_network(tmp_path)
