"""node.toml: one schema, four sources, errors that say what to do."""

import sys
from pathlib import Path

import pytest

from node.config import (
    ConfigError,
    ConsensusSection,
    Endpoint,
    NodeConfig,
    NodeSection,
    PeerEntry,
    parse_endpoint,
)
from node.config_file import describe_keys, load_config, render_config


@pytest.fixture
def path(tmp_path: Path) -> Path:
    config = NodeConfig(
        version=1,
        node=NodeSection(name="node0"),
        peers={"node1": PeerEntry(address="127.0.0.1:9110", certificate=b"certificate")},
    )
    path = tmp_path / "node.toml"
    path.write_text(render_config(config))
    return path


def fails(path: Path, **sources) -> ConfigError:
    sources.setdefault("environment", {})
    with pytest.raises(ConfigError) as caught:
        load_config(path, **sources)
    assert caught.value.code.startswith("config.")
    assert caught.value.exit_code == 3
    assert caught.value.advice
    return caught.value


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_a_written_file_reads_back_as_the_same_configuration(tmp_path: Path) -> None:
    config = NodeConfig(
        version=1,
        node=NodeSection(name="north", accept_weak_keystores=True),
        consensus=ConsensusSection(min_block_interval_ms=7),
        peers={"south": PeerEntry(address="[::1]:9110", certificate=bytes(range(256)))},
    )
    path = tmp_path / "node.toml"
    path.write_text(render_config(config))
    assert load_config(path, environment={}).config == config


def test_defaults_are_written_as_comments_so_that_better_ones_reach_old_homes(path: Path) -> None:
    text = path.read_text()
    assert "\n#min_block_interval_ms = 20\n" in text
    assert '\nlisten = "127.0.0.1:9100"\n' in text


def test_each_source_wins_over_the_weaker_ones_and_is_named(path: Path) -> None:
    append(path, "")
    text = path.read_text().replace("#min_block_interval_ms = 20", "min_block_interval_ms = 21")
    path.write_text(text)
    environment = {
        "ROTA__CONSENSUS__MIN_BLOCK_INTERVAL_MS": "22",
        "ROTA__CONSENSUS__IDLE_INTERVAL_MS": "222",
        "ROTA__PEERS__NODE1__ADDRESS": "127.0.0.1:9999",
        "ROTA_HOME": "unrelated",
    }
    loaded = load_config(
        path, environment=environment, overrides={"consensus.min_block_interval_ms": "23"}
    )
    assert loaded.config.consensus.min_block_interval_ms == 23
    assert loaded.config.consensus.idle_interval_ms == 222
    assert loaded.config.peers["node1"].endpoint() == Endpoint("127.0.0.1", 9999)
    origins = {each.key: each.origin for each in loaded.settings()}
    assert origins["consensus.min_block_interval_ms"] == "flag --set"
    assert origins["consensus.idle_interval_ms"] == "env ROTA__CONSENSUS__IDLE_INTERVAL_MS"
    assert origins["node.name"] == "node.toml"
    assert origins["consensus.straggler_wait_ms"] == "default"
    without_flag = load_config(path, environment=environment)
    assert without_flag.config.consensus.min_block_interval_ms == 22
    assert load_config(path, environment={}).config.consensus.min_block_interval_ms == 21


@pytest.mark.parametrize(
    ("text", "key", "suggestion"),
    [
        ("[consensu]\n", "consensu", "consensus"),
        ("[peers.node2]\nadress = 'x'\n", "peers.node2.adress", "peers.node2.address"),
    ],
)
def test_an_unknown_key_in_the_file_is_refused_with_a_suggestion(
    path: Path, text: str, key: str, suggestion: str
) -> None:
    append(path, text)
    error = fails(path)
    assert str(path) in error.message
    assert f"unknown key {key}" in error.message
    assert error.advice == f"did you mean {suggestion}?"


def test_an_unknown_key_of_environment_or_flag_is_refused_and_its_source_named(path: Path) -> None:
    error = fails(path, environment={"ROTA__LOG__LEVLE": "info"})
    assert error.message == "env ROTA__LOG__LEVLE: unknown key log.levle"
    assert error.advice == "did you mean log.level?"
    error = fails(path, overrides={"nonsense": "1"})
    assert error.message == "flag --set: unknown key nonsense"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("consensus.min_block_interval_ms", "fast"),
        ("consensus.min_block_interval_ms", "0"),
        ("consensus.min_block_interval_ms", "1.5"),
        ("log.level", "loud"),
        ("node.name", "Not A Name"),
        ("node.accept_weak_keystores", "perhaps"),
        ("node", "x"),
        ("consensus.min_block_interval_ms.deeper", "1"),
        ("version", "1"),
        ("door.listen", "nowhere"),
        ("door.listen", "127.0.0.1:0"),
        ("door.listen", "::1:9000"),
        ("door.listen", "127.0.0.1:9100"),
        ("consensus.idle_interval_ms", "1"),
        ("consensus.base_view_timeout_ms", "200"),
        ("peers.node0.address", "127.0.0.1:1"),
        ("peers.node1.certificate", "not base64!"),
        ("mempool.batch_size_bytes", "99999999999999999999"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_its_key(
    path: Path, key: str, value: str
) -> None:
    assert key.split(".")[0] in fails(path, overrides={key: value}).message


@pytest.mark.parametrize("value", ["9" * 5_000, "[" * 2_000 + "]" * 2_000], ids=["long", "deep"])
def test_what_is_toml_but_cannot_be_held_is_refused_as_a_file(tmp_path: Path, value: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(f"version = {value}")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)  # property tests that ran before may have left a higher one
    try:
        with pytest.raises(ConfigError, match="not TOML"):
            load_config(path)
    finally:
        sys.setrecursionlimit(limit)


def test_what_is_wrong_in_a_file_is_quoted_in_brief(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(f"version = {'[' * 60 + ']' * 60}")
    with pytest.raises(ConfigError, match="version is") as caught:
        load_config(path)
    assert len(caught.value.message) < len(str(path)) + 100


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    assert "rota node init" in fails(path).advice
    path.write_bytes(b"\xff\xfe")
    assert "not TOML" in fails(path).message
    path.write_text("version = 1\nversion = 1\n")
    assert "not TOML" in fails(path).message
    path.write_text("version = 2\n[node]\nname = 'a'\n")
    assert "version is 2" in fails(path).message
    path.write_text("version = 1\n")
    assert "node" in fails(path).message
    path.write_bytes(b"#" * ((1 << 20) + 1))
    assert "larger than" in fails(path).message


def test_every_key_is_described_with_type_bounds_and_meaning() -> None:
    keys = {each.key: each for each in describe_keys()}
    assert keys["consensus.min_block_interval_ms"].default == 20
    assert keys["consensus.min_block_interval_ms"].type == "integer, 1 to 60000"
    assert "peers.NAME.address" in keys
    assert all(each.description.endswith(".") for each in keys.values())


@pytest.mark.parametrize("text", ["", ":1", "host:", "host:65536", "host:-1", "host:٣", "a:b:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|port must|brackets"):
        parse_endpoint(text)


def test_addresses_print_as_they_are_read() -> None:
    for text in ("127.0.0.1:9100", "[::1]:9100", "node.example:65535"):
        assert str(parse_endpoint(text)) == text
