"""A localnet on disk: reproducible keys, own ports, and nothing deleted that is not its own."""

import json
import shutil
import socket
from pathlib import Path

import pytest

from localnet.folder import is_unfinished, mark_unfinished, remove_network
from localnet.markets import ACCOUNTS, MARKETS
from localnet.network import (
    HOST,
    PORT_LAST,
    PortInUseError,
    choose_port_bases,
    compute_node_keys,
    create_network,
    is_port_free,
    open_network,
    validate_ports_free,
)
from node.cli.main import run
from node.config import Endpoint
from node.exit_codes import ExitCode
from node.network import NetworkError, load_network

PORT = 21_500


def test_every_home_passes_the_checks_of_a_start(tmp_path: Path) -> None:
    network = create_network(tmp_path / "net", port_first=PORT)
    assert load_network(tmp_path / "net").manifest == network.manifest
    genesis = network.genesis()
    assert genesis.chain_id() == network.chain_id
    certificates = set()
    for index, node in enumerate(network.nodes):
        home = network.home(node.name)
        config = home.load_config().config
        assert home.validate_member(config, home.load_genesis()) == index
        home.keystores.load("localnet", accept_weak=True)
        assert (config.peer.listen, config.door.listen) == (node.peer, node.door)
        assert sorted(config.peers) == [each.name for each in network.nodes if each is not node]
        certificates.add(frozenset(entry.certificate for entry in config.peers.values()))
    assert len(certificates) == len(network.nodes)
    ports = [port for node in network.nodes for port in (node.peer, node.door)]
    assert len(set(ports)) == len(ports)


def test_accounts_have_deposits_fee_credit_and_keys(tmp_path: Path) -> None:
    network = create_network(tmp_path / "net", port_first=PORT)
    genesis = network.genesis()
    deposited = {each.account for each in genesis.engine.deposits}
    credited = {each.account for each in genesis.fee_credits}
    assert {"alice", "bob"} <= {each.name for each in network.accounts}
    assert len(network.accounts) == len(ACCOUNTS)
    for account in network.accounts:
        assert account.account in deposited
        assert account.account in credited
        assert len(network.account_secret(account.name)) == 32
    assert all(member.oracle_key in credited for member in genesis.members)
    with pytest.raises(NetworkError, match="carol"):
        network.account("carol")
    with pytest.raises(NetworkError, match="node9"):
        network.node("node9")


def test_all_markets_trade_in_whole_microquote() -> None:
    assert len(MARKETS) >= 4
    for market in MARKETS:
        assert market.unit_microquote * market.lots_per_base == market.tick_size_microquote
        assert market.maintenance_margin_ppm < market.initial_margin_ppm


def test_the_same_seed_gives_the_same_keys_and_another_seed_others(tmp_path: Path) -> None:
    first = create_network(tmp_path / "a", seed=7, port_first=PORT)
    second = create_network(tmp_path / "b", seed=7, port_first=PORT)
    other = create_network(tmp_path / "c", seed=8, port_first=PORT)
    assert first.genesis().members == second.genesis().members
    assert first.accounts == second.accounts
    assert other.genesis().members != first.genesis().members
    keys = [compute_node_keys(7, f"node{index}") for index in range(3)]
    secrets = [secret for key in keys for secret in (key.identity, key.consensus, key.oracle)]
    assert len(set(secrets)) == len(secrets)


@pytest.mark.parametrize("stakes", [(), (1, 1, 1), (1000, 1, 1, 1), (0, 1, 1, 1), (1,) * 200])
def test_stakes_that_make_no_committee_are_refused_and_leave_nothing(
    tmp_path: Path, stakes: tuple[int, ...]
) -> None:
    with pytest.raises(NetworkError):
        create_network(tmp_path / "net", stakes=stakes, port_first=PORT)
    assert not (tmp_path / "net").exists()


def test_opening_resumes_and_refuses_to_change_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "net"
    made = open_network(path, stakes=(5, 5, 5, 5), seed=1, port_first=PORT)
    assert open_network(path, stakes=None, seed=None).manifest == made.manifest
    assert open_network(path, stakes=(5, 5, 5, 5), seed=1).manifest == made.manifest
    with pytest.raises(NetworkError, match="stakes"):
        open_network(path, stakes=(5, 5, 5, 6), seed=None)
    with pytest.raises(NetworkError, match="seed"):
        open_network(path, stakes=None, seed=2)
    with pytest.raises(NetworkError, match="already"):
        create_network(path, port_first=PORT)


def test_removing_takes_a_localnet_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "net"
    create_network(path, port_first=PORT)
    (path / "notes.txt").write_text("mine")
    with pytest.raises(NetworkError, match=r"notes\.txt"):
        remove_network(path)
    assert load_network(path)
    (path / "notes.txt").unlink()
    (path / "run").mkdir()
    # What a node left beside its keys goes with them, so the same keys start afresh.
    (path / "node0" / "keys" / "signing-00.json").write_text("{}")
    remove_network(path)
    assert [each.name for each in path.iterdir()] == ["run"]
    remove_network(tmp_path / "never")


def everything_in(path: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file()}


@pytest.mark.parametrize("files", [["notes.txt"], ["north/keys/identity.json"], ["run/mine.sh"]])
def test_a_folder_that_is_no_localnet_is_neither_filled_nor_emptied(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = everything_in(tmp_path)
    for flags in ([], ["--reset"], ["--detach"], ["--detach", "--reset"]):
        code = run(["localnet", "up", "--dir", str(tmp_path), "--json", *flags])
        error = json.loads(capsys.readouterr().out)["error"]
        assert (code, error["code"]) == (ExitCode.CONFIG, "localnet.foreign_folder")
        assert files[0].split("/")[0] in error["message"]
    with pytest.raises(NetworkError):
        remove_network(tmp_path)
    with pytest.raises(NetworkError):
        create_network(tmp_path, port_first=PORT)
    assert everything_in(tmp_path) == before


def test_a_link_in_a_localnet_is_not_followed_when_it_is_reset(tmp_path: Path) -> None:
    create_network(tmp_path / "net", port_first=PORT)
    (tmp_path / "mine").mkdir()
    (tmp_path / "net" / "node9").symlink_to(tmp_path / "mine")
    with pytest.raises(NetworkError, match="node9"):
        remove_network(tmp_path / "net")


@pytest.mark.parametrize("last", ["genesis.json", "node1", "accounts"])
def test_a_localnet_whose_making_was_cut_short_is_made_anew(tmp_path: Path, last: str) -> None:
    path = tmp_path / "net"
    whole = create_network(path, port_first=PORT)
    assert not is_unfinished(path)
    # As it stands before the manifest is written; how much is there already does not matter.
    mark_unfinished(path)
    (path / "localnet.json").unlink()
    if last != "accounts":
        shutil.rmtree(path / "accounts")
    assert is_unfinished(path)
    again = open_network(path, stakes=None, seed=None, port_first=PORT)
    assert again.manifest.nodes == whole.manifest.nodes
    assert not is_unfinished(path)


def test_a_folder_without_a_whole_localnet_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NetworkError) as caught:
        load_network(tmp_path)
    assert caught.value.code == "localnet.missing"
    for content in ("{", '{"version":1}', '{"version":2,"seed":1,"chain_id":"","nodes":[]}'):
        (tmp_path / "localnet.json").write_text(content)
        with pytest.raises(NetworkError) as caught:
            load_network(tmp_path)
        assert "--reset" in caught.value.advice


def test_ports_that_others_use_are_passed_over_at_creation_and_named_at_start(
    tmp_path: Path,
) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_port_free(Endpoint(HOST, port))
    with socket.socket() as taken:
        taken.bind((HOST, PORT))
        taken.listen()
        assert PORT not in choose_port_bases(4, PORT)
    network = create_network(tmp_path / "net", port_first=PORT)
    validate_ports_free(network)
    with socket.socket() as taken:
        taken.bind(network.nodes[2].door_endpoint())
        taken.listen()
        with pytest.raises(PortInUseError) as caught:
            validate_ports_free(network)
    assert network.nodes[2].door in caught.value.message
    assert "node2" in caught.value.message
    assert caught.value.exit_code == 73


def test_the_search_for_ports_is_bounded() -> None:
    with pytest.raises(PortInUseError):
        choose_port_bases(1, PORT_LAST + 1)
