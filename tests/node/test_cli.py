"""The command line: every command explains itself, --json is pure, errors have stable codes."""

import functools
import json
from pathlib import Path

import msgspec
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from committee.committee import Member
from crypto.bls import BLS
from crypto.keystore import KdfStrength
from localnet.cli import FOR_MAX_S
from localnet.network import SEED_MAX, create_network
from localnet.trading_floor import Traders
from node.cli.amounts import (
    AmountError,
    format_price,
    format_quote,
    format_size,
    parse_price,
    parse_size,
)
from node.cli.main import app, run
from node.cli.views import MarketInfo
from node.config import NODE_NAME_RULE
from node.exit_codes import ExitCode
from node.home import NodeHome, create_home
from node.keystores import KeyKind
from node.network import Network
from node.transport.certificate import validate_certificate


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return create_network(tmp_path_factory.mktemp("net") / "net", port_first=21_000)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROTA_HOME", "ROTA_LOCALNET", "ROTA_PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)


def all_commands() -> tuple[list[tuple[str, ...]], dict[tuple[str, ...], list[str]]]:
    """Every command by its words; every group by its words, with the names of what is in it."""
    found: list[tuple[str, ...]] = []
    groups: dict[tuple[str, ...], list[str]] = {}

    def walk(command, words: tuple[str, ...]) -> None:
        if not hasattr(command, "list_commands"):
            found.append(words)
            return
        groups[words] = command.list_commands(None)
        for name in groups[words]:
            walk(command.get_command(None, name), (*words, name))

    walk(typer.main.get_command(app), ())
    return found, groups


COMMANDS, GROUPS = all_commands()


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_and_a_json_form(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example" in text
    assert f"rota {' '.join(words)}" in text.split("Example")[1]
    assert "--json" in text


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
def test_every_group_has_help_with_examples_of_its_own_commands(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--help"]) == 0
    before, found, after = capsys.readouterr().out.partition("Example")
    assert found, before
    examples = [line.split() for line in after.splitlines() if line.startswith("    rota ")]
    assert examples
    for example in examples:
        assert tuple(example[1 : len(words) + 1]) == words
        assert example[len(words) + 1] in GROUPS[words]


def test_the_groups_of_both_packages_are_found_by_entry_point() -> None:
    groups = {words[0] for words in COMMANDS}
    assert groups >= {
        "account",
        "config",
        "genesis",
        "inspect",
        "key",
        "localnet",
        "market",
        "node",
        "order",
    }


def read_json(capsys: pytest.CaptureFixture[str]):
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    return json.loads(captured.out)


def test_json_output_is_one_document_and_nothing_else(
    network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    home = str(network.home("node0").path)
    directory = str(network.path)
    for words in (
        ["version"],
        ["exit-codes"],
        ["config", "keys"],
        ["config", "show", "--home", home, "--origin"],
        ["config", "check", "--home", home],
        ["key", "show", "--home", home],
        ["key", "verify", "--home", home],
        ["genesis", "show", "--dir", directory],
        ["genesis", "hash", "--dir", directory],
        ["localnet", "status", "--dir", directory],
        ["localnet", "logs", "--dir", directory],
        ["localnet", "down", "--dir", directory],
    ):
        assert run([*words, "--json"]) == 0, words
        read_json(capsys)


def test_a_genesis_is_shown_with_every_parameter(
    network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["genesis", "show", "--dir", str(network.path)]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {words[0]: words[1:] for words in shown if words}
    for name, value in (
        ("funding.interval", "1h"),
        ("options.short_initial", "15"),
        ("options.portfolio.im_factor", "125"),
        ("liquidation.insurance", "1000000"),
        ("matching", "continuous"),
    ):
        assert rows[name][0] == value, name
    assert rows["3"][0] == "100,000,000.00"


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["nonsense"], "usage.invalid", ExitCode.USAGE),
        (["version", "--nonsense"], "usage.invalid", ExitCode.USAGE),
        (["localnet"], "usage.invalid", ExitCode.USAGE),
        (["localnet", "up", "--detach", "--for", "1"], "usage.invalid", ExitCode.USAGE),
        (["localnet", "up", "--stakes", "1,x"], "usage.invalid", ExitCode.USAGE),
        (["localnet", "up", "--stakes", "1,1"], "usage.invalid", ExitCode.USAGE),
        (["localnet", "up", "--stakes", "0,1,1,1"], "usage.invalid", ExitCode.USAGE),
        (["localnet", "up", "--stakes", "9" * 5000], "usage.invalid", ExitCode.USAGE),
        (["order", "status", "abc"], "usage.invalid", ExitCode.USAGE),
        (["order", "place", "X", "hold", "1", "--price", "1"], "usage.invalid", ExitCode.USAGE),
        (["market", "list", "--node", "here:99999"], "usage.invalid", ExitCode.USAGE),
        (["market", "list", "--node", "127.0.0.1:1"], "door.unreachable", ExitCode.UNREACHABLE),
        (["market", "list", "--dir", "{empty}"], "localnet.missing", ExitCode.CONFIG),
        (["localnet", "kill", "node0", "--dir", "{net}"], "localnet.not_running", 4),
        (["localnet", "kill", "node9", "--dir", "{net}"], "node.unknown", ExitCode.USAGE),
        (["account", "show", "carol", "--dir", "{net}"], "account.unknown", ExitCode.USAGE),
        (["node", "status", "--home", "{net}/node0"], "door.unreachable", ExitCode.UNREACHABLE),
        (["config", "show", "--home", "{empty}"], "config.invalid", ExitCode.CONFIG),
        (["key", "show", "--home", "{empty}"], "keystore.missing", ExitCode.KEY),
        (["genesis", "show", "--dir", "{empty}"], "genesis.invalid", ExitCode.CONFIG),
    ],
)
def test_errors_carry_a_code_a_remedy_and_an_exit_code(
    words: list[str],
    code: str,
    exit_code: int,
    network: Network,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [word.format(net=network.path, empty=tmp_path) for word in words]
    assert run([*words, "--json"]) == exit_code
    error = read_json(capsys)["error"]
    assert (error["code"], error["exit_code"]) == (code, exit_code)
    assert error["message"]
    assert error["next"]
    assert run(words) == exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert "next: " in captured.err
    assert code in captured.err


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--for", "nan", f"nan is not at most {FOR_MAX_S}"),
        ("--for", "-1", "-1 is not at least 0.1"),
        ("--for", "inf", f"inf is not at most {FOR_MAX_S}"),
        ("--for", "soon", "'soon' is not a number"),
        ("--seed", "-1", "-1 is not at least 0"),
        ("--seed", str(SEED_MAX + 1), f"{SEED_MAX + 1} is not at most {SEED_MAX}"),
        ("--seed", "x", "'x' is not a whole number"),
        ("-n", "0", "0 is not at least 4"),
        ("-n", "1000", "1000 is not at most 16"),
        ("--port-base", "80", "80 is not at least 1024"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_bound_in_one_line(
    option: str, value: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["localnet", "up", "--dir", str(tmp_path / "net"), option, value]
    assert run(words) == ExitCode.USAGE
    message, advice = capsys.readouterr().err.splitlines()
    assert message.startswith("error: Invalid value for '")
    assert message.endswith(f": {problem} [usage.invalid]")
    assert advice == "next: see rota localnet up --help"
    assert run([*words, "--json"]) == ExitCode.USAGE
    assert problem in read_json(capsys)["error"]["message"]
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("size", ["-1", "-0.5"])
def test_a_size_with_a_sign_is_told_from_an_option(
    size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["order", "place", "BTC-PERP", "buy", size, "--price", "60000", "--json"]
    assert run(words) == ExitCode.USAGE
    assert "above zero" in read_json(capsys)["error"]["message"]


def test_a_word_that_is_no_choice_is_named_with_the_choices_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["order", "place", "BTC-PERP", "long", "1", "--price", "60000", "--json"]
    assert run(words) == ExitCode.USAGE
    message = read_json(capsys)["error"]["message"]
    assert message == "Invalid value for 'side': 'long' is not one of 'buy', 'sell'."


def test_the_largest_seed_makes_a_localnet(tmp_path: Path) -> None:
    network = create_network(tmp_path / "net", seed=SEED_MAX, port_first=21_000)
    assert network.genesis().seed == SEED_MAX
    Traders(network, seed=SEED_MAX)


def test_without_json_notes_stay_off_stdout(
    network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["localnet", "down", "--dir", str(network.path)]) == 0
    captured = capsys.readouterr()
    assert "it was not running" in captured.err
    assert run(["genesis", "hash", "--dir", str(network.path)]) == 0
    assert capsys.readouterr().out == network.chain_id.hex() + "\n"


def test_a_new_home_prints_its_public_identity_and_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    home = tmp_path / "home"
    words = ["node", "init", "--name", "north", "--home", str(home), "--json"]
    assert run([*words, "--password-file", str(password)]) == 0
    document = read_json(capsys)
    assert document["name"] == "north"
    member = msgspec.convert(document["genesis_member"], Member)
    keystores = NodeHome(home).keystores
    assert member.name == "north"
    assert member.identity_key == keystores.public_key(KeyKind.IDENTITY)
    assert member.consensus_key == keystores.public_key(KeyKind.CONSENSUS)
    assert member.oracle_key == keystores.public_key(KeyKind.ORACLE)
    assert not (home / "secrets" / "password").exists()
    assert run([*words, "--password-file", str(password)]) == ExitCode.CONFIG
    assert read_json(capsys)["error"]["code"] == "home.exists"


def test_what_two_new_homes_print_can_be_pasted_into_each_others_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cheap = functools.partial(create_home, strength=KdfStrength.LOCALNET)
    monkeypatch.setattr("node.cli.node.create_home", cheap)
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    tables, members = {}, {}
    for number, name in enumerate(("north", "south")):
        words = ["node", "init", "--name", name, "--home", str(tmp_path / name)]
        words += ["--peer", f"127.0.0.1:{9200 + number}", "--password-file", str(password)]
        assert run(words) == 0
        table, member = capsys.readouterr().out.split("\n\n")
        tables[name] = table
        members[name] = msgspec.json.decode(member.splitlines()[-1], type=Member)
    for name, other in (("north", "south"), ("south", "north")):
        home = NodeHome(tmp_path / name)
        with home.config_path.open("a") as file:
            file.write(f"\n{tables[other]}\n")
        entry = home.load_config().config.peers[other]
        validate_certificate(entry.certificate, members[other].identity_key)
        member = members[other]
        assert BLS.verify_possession(member.consensus_key, member.consensus_key_proof)


@pytest.mark.parametrize("name", ["", "North", "a b", "a/b", "-a", "nörd", "a.b", "a" * 33, "a\n"])
def test_a_name_that_would_need_quotes_somewhere_is_refused_with_the_rule(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["node", "init", "--name", name, "--home", str(tmp_path / "home"), "--json"]
    assert run(words) == ExitCode.USAGE
    error = read_json(capsys)["error"]
    assert (error["code"], repr(name) in error["message"]) == ("usage.invalid", True)
    assert NODE_NAME_RULE in error["message"]
    assert not (tmp_path / "home").exists()


# ---- exact amounts -------------------------------------------------------------------------


def make_market(tick_size_microquote: int, lots_per_base: int) -> MarketInfo:
    return MarketInfo(
        market=1,
        symbol="X-PERP",
        tick_size_microquote=tick_size_microquote,
        lots_per_base=lots_per_base,
        unit_microquote=1,
        index_price_ticks=1,
        is_stale=False,
        band_low_ticks=1,
        band_high_ticks=2,
        best_bid_ticks=None,
        best_ask_ticks=None,
        open_orders=0,
    )


BTC = make_market(100_000, 10_000)


def test_decimal_text_becomes_exact_ticks_and_lots() -> None:
    assert parse_price("60000", BTC) == 600_000
    assert parse_price("60000.1", BTC) == 600_001
    assert parse_price("0.10", BTC) == 1
    assert parse_size("0.0001", BTC) == 1
    assert parse_size("12", BTC) == 120_000


@pytest.mark.parametrize(
    "text", ["0", "0.0", "-1", "1e3", "", " 1", "1,5", "nan", "٣", "0.05", "1" * 31]
)
def test_a_price_between_ticks_or_no_number_is_refused(text: str) -> None:
    with pytest.raises(AmountError) as caught:
        parse_price(text, BTC)
    assert caught.value.exit_code == ExitCode.USAGE


def test_a_refused_number_names_its_neighbours() -> None:
    with pytest.raises(AmountError) as caught:
        parse_price("60000.15", BTC)
    assert caught.value.advice == "choose 60000.1 or 60000.2"


@given(
    ticks=st.integers(1, 2**32 - 1),
    tick_size=st.sampled_from([1, 10, 25, 1_000, 100_000, 5_000_000]),
    lots_per_base=st.sampled_from([1, 4, 10, 1_000, 10**8]),
)
def test_what_is_printed_reads_back_as_the_same_number(
    ticks: int, tick_size: int, lots_per_base: int
) -> None:
    market = make_market(tick_size, lots_per_base)
    assert parse_price(format_price(ticks, market), market) == ticks
    assert parse_size(format_size(ticks, market), market) == ticks
    assert format_size(-ticks, market) == "-" + format_size(ticks, market)


def test_amounts_of_quote_are_rounded_for_display_only() -> None:
    assert format_quote(1_234_567_890_000) == "1,234,567.89"
    assert format_quote(-5_000) == "-0.01"
    assert format_quote(-4_999) == "0.00"


def test_exit_codes_keep_their_numbers() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0,
        "UNEXPECTED": 1,
        "USAGE": 2,
        "CONFIG": 3,
        "UNREACHABLE": 4,
        "REJECTED": 5,
        "TIMED_OUT": 6,
        "KEY": 7,
        "SAFETY": 20,
        "LIVENESS": 21,
        "NONDETERMINISM": 22,
        "EXPECTATION": 23,
        "NOT_READY": 30,
        "HALTED": 70,
        "REFUSED_TO_SIGN": 71,
        "STORAGE": 72,
        "PORT_IN_USE": 73,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }
