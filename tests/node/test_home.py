"""A node's home guards its files: modes, locks, the chain they belong to."""

import os
import stat
from pathlib import Path

import pytest

from committee.committee import Member
from crypto.bls import BLS, generate_secret
from crypto.ed25519 import ED25519
from crypto.keystore import KdfStrength
from engine.genesis import EngineGenesis, MarketParams
from node.config import NodeConfig, NodeSection, PeerEntry
from node.exit_codes import OperatorError
from node.genesis import Genesis
from node.home import (
    Halted,
    HomeBusyError,
    HomeError,
    NodeHome,
    RunState,
    create_home,
    write_atomically,
)
from node.keystores import (
    PASSWORD_SIZE_MAX_BYTES,
    KeyKind,
    NodeKeyError,
    NodeKeys,
    find_password,
    read_password,
)

KEYS = NodeKeys(identity=b"i" * 32, consensus=generate_secret(b"c" * 32), oracle=b"o" * 32)
CONFIG = NodeConfig(version=1, node=NodeSection(name="node0", accept_weak_keystores=True))
MARKET = MarketParams(1, "A-PERP", 100, 1, 50_000, 30_000, 0, 500, 100_000, 10_000)


OTHERS = [
    NodeKeys(bytes([n]) * 32, generate_secret(bytes([n]) * 32), bytes([n + 100]) * 32)
    for n in (1, 2, 3)
]


def make_genesis(**changes) -> Genesis:
    members = tuple(
        Member(
            name=f"node{index}",
            power=1000,
            consensus_key=BLS.public_key(keys.consensus),
            consensus_key_proof=BLS.prove_possession(keys.consensus),
            identity_key=ED25519.public_key(keys.identity),
            oracle_key=ED25519.public_key(keys.oracle),
        )
        for index, keys in enumerate([KEYS, *OTHERS])
    )
    values = {
        "version": 1,
        "chain_name": "test",
        "time_ms": 1,
        "seed": 1,
        "members": members,
        "engine": EngineGenesis(markets=(MARKET,)),
        "fee_credits": (),
    }
    return Genesis(**(values | changes))


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return create_home(
        tmp_path / "home",
        config=CONFIG,
        genesis=make_genesis(),
        keys=KEYS,
        password="secret",
        strength=KdfStrength.LOCALNET,
        store_password=True,
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_can_read_keys_and_secrets(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        home = create_home(
            tmp_path / "home",
            config=CONFIG,
            genesis=None,
            keys=KEYS,
            password="secret",
            strength=KdfStrength.LOCALNET,
            store_password=True,
        )
    finally:
        os.umask(before)
    for directory in (home.keys_dir, home.secrets_dir, home.data_dir, home.run_dir):
        assert mode(directory) == 0o700
    for kind in KeyKind:
        assert mode(home.keystores.path(kind)) == 0o600
    assert mode(home.password_path) == 0o600


def test_keys_come_back_with_the_stored_password_and_stay_out_of_repr(home: NodeHome) -> None:
    password = find_password(None, prompt="", fallback=home.password_path)
    keys = home.keystores.load(password, accept_weak=True)
    assert keys == KEYS
    assert KEYS.identity.hex() not in repr(keys)
    assert "iiii" not in repr(keys)


def test_a_home_is_never_laid_over_another(home: NodeHome) -> None:
    before = home.keystores.path(KeyKind.CONSENSUS).read_bytes()
    with pytest.raises(OperatorError) as caught:
        create_home(home.path, config=CONFIG, genesis=None, keys=KEYS, password="other")
    assert caught.value.code == "home.exists"
    assert home.keystores.path(KeyKind.CONSENSUS).read_bytes() == before


@pytest.mark.parametrize(
    ("code", "password", "accept_weak", "delete"),
    [
        ("keystore.wrong_password", "wrong", True, False),
        ("keystore.kdf_too_weak", "secret", False, False),
        ("keystore.missing", "secret", True, True),
    ],
)
def test_a_key_that_cannot_be_used_says_why_and_what_to_do(
    home: NodeHome, code: str, password: str, accept_weak: bool, delete: bool
) -> None:
    if delete:
        home.keystores.path(KeyKind.CONSENSUS).unlink()
    with pytest.raises(NodeKeyError) as caught:
        home.keystores.load(password, accept_weak=accept_weak)
    assert caught.value.code == code
    assert caught.value.exit_code == 7
    assert caught.value.advice


def test_a_node_finds_its_place_in_the_committee(home: NodeHome) -> None:
    assert home.validate_member(CONFIG, home.load_genesis()) == 0


def test_keys_of_another_member_are_refused_before_they_sign_anything(home: NodeHome) -> None:
    genesis = make_genesis()
    stranger = Member(
        **{
            **{name: getattr(genesis.members[0], name) for name in Member.__struct_fields__},
            "oracle_key": ED25519.public_key(b"x" * 32),
        }
    )
    with pytest.raises(NodeKeyError) as caught:
        home.validate_member(CONFIG, make_genesis(members=(stranger,)))
    assert caught.value.code == "key.not_member"
    assert "oracle.json" in caught.value.message


def test_names_that_the_genesis_does_not_know_are_refused(home: NodeHome) -> None:
    other = NodeConfig(version=1, node=NodeSection(name="nobody"))
    with pytest.raises(HomeError, match="no member"):
        home.validate_member(other, make_genesis())
    peers = {"ghost": PeerEntry(address="127.0.0.1:1", certificate=b"")}
    other = NodeConfig(version=1, node=NodeSection(name="node0"), peers=peers)
    with pytest.raises(HomeError, match="ghost"):
        home.validate_member(other, make_genesis())


def test_a_missing_or_broken_genesis_is_a_configuration_error(home: NodeHome) -> None:
    home.genesis_path.write_text("{}")
    with pytest.raises(HomeError) as caught:
        home.load_genesis()
    assert caught.value.exit_code == 3
    home.genesis_path.unlink()
    with pytest.raises(HomeError, match="cannot read"):
        home.load_genesis()


def test_data_of_one_chain_is_never_used_for_another(home: NodeHome) -> None:
    home.bind_chain(b"\x01" * 32)
    home.bind_chain(b"\x01" * 32)
    with pytest.raises(HomeError) as caught:
        home.bind_chain(b"\x02" * 32)
    assert caught.value.code == "home.other_chain"
    assert caught.value.exit_code == 3


def test_one_process_at_a_time_holds_a_home(home: NodeHome) -> None:
    with home.locked():
        with pytest.raises(HomeBusyError) as caught, NodeHome(home.path).locked():
            raise AssertionError("two processes in one home")
        assert str(os.getpid()) in caught.value.message
        assert caught.value.exit_code == 71
    with home.locked():
        pass


def test_a_halted_node_stays_halted_until_it_is_cleared(home: NodeHome) -> None:
    home.validate_not_halted()
    home.write_halted(Halted("root.mismatch", "height 7", 1))
    with pytest.raises(HomeError) as caught:
        home.validate_not_halted()
    assert caught.value.exit_code == 70
    assert caught.value.code == "root.mismatch"
    home.halted_path.write_text("torn")
    with pytest.raises(HomeError):
        home.validate_not_halted()
    home.clear_halted()
    home.validate_not_halted()


def test_the_last_state_survives_and_garbage_counts_as_none(home: NodeHome) -> None:
    assert home.read_state() is None
    state = RunState(pid=1, started_ms=2, committed_height=3, view=4)
    home.write_state(state)
    assert home.read_state() == state
    home.state_path.write_text("torn")
    assert home.read_state() is None


def test_password_files_are_read_by_their_first_line(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("pass word\r\nsecond line\n")
    assert read_password(path) == "pass word"
    for content in (b"", b"\n", b"\xff\n"):
        path.write_bytes(content)
        with pytest.raises(NodeKeyError):
            read_password(path)


def test_a_password_is_never_cut_off_at_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "password"
    longest = "x" * (PASSWORD_SIZE_MAX_BYTES - 1)
    path.write_text(longest + "\n")
    assert read_password(path) == longest
    path.write_text(longest + "xx")
    with pytest.raises(NodeKeyError) as caught:
        read_password(path)
    assert caught.value.code == "key.password_file"


def test_without_file_and_terminal_the_password_is_an_error_not_a_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        with pytest.raises(NodeKeyError) as caught:
            find_password(None, prompt="", fallback=tmp_path / "missing")
    assert caught.value.code == "key.no_password"


def test_what_is_written_atomically_is_durable_with_its_name(tmp_path: Path, monkeypatch) -> None:
    synced: list[tuple[Path, bytes]] = []
    path = tmp_path / "file"
    monkeypatch.setattr(
        "node.home.sync_directory", lambda folder: synced.append((folder, path.read_bytes()))
    )
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    write_atomically(path, b"unimportant", durable=False)
    assert synced == [(tmp_path, b"old"), (tmp_path, b"new")]
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
