"""What the commands make of a node's answers, and of an answer that does not come."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from engine.instructions import Cancel
from localnet.network import create_network
from node.cli import target
from node.cli.main import run
from node.cli.output import Output
from node.cli.submission import TimedOutError, submit_instruction
from node.cli.target import Identity
from node.exit_codes import ExitCode
from node.network import Network
from node.protocol import SubmitResult
from node.replay import ReplayReport

MARKET = {
    "market": 7,
    "symbol": "X-PERP",
    "tick_size_microquote": 1_000_000,
    "lots_per_base": 1,
    "unit_microquote": 1,
    "index_price_ticks": 1,
    "is_stale": False,
    "band_low_ticks": 1,
    "band_high_ticks": 2,
    "best_bid_ticks": None,
    "best_ask_ticks": None,
    "open_orders": 0,
    "matching": "auction",
}
ORDER = {
    "order_id": 5,
    "market": 7,
    "side": "buy",
    "price_ticks": 9,
    "size_lots": 2,
    "tif": "gtc",
    "reduce_only": False,
}
ACCOUNT = {
    "quote_microquote": 1,
    "equity_microquote": 1,
    "initial_margin_microquote": 0,
    "maintenance_margin_microquote": 0,
    "positions": [],
    "orders": [ORDER],
}
TRADES = [
    {"market": 7, "price_ticks": price, "size_lots": 1, "taker_side": "buy"} for price in (8, 9)
]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return create_network(tmp_path_factory.mktemp("net") / "net", port_first=24_000)


@pytest.fixture
def ask(
    network: Network, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Run a command with `--json` against a node that has these views."""
    views = {"markets": [MARKET], "account": ACCOUNT, "trades": TRADES}

    async def query(name: str, *_: object) -> Any:
        return views[name]

    def run_with_door(host: str, port: int, work: Callable[[Any], Awaitable[Any]]) -> Any:
        return trio.run(work, SimpleNamespace(query=query))

    def ask(*words: str, exit_code: int = 0) -> Any:
        assert run([*words, "--dir", str(network.path), "--json"]) == exit_code
        return json.loads(capsys.readouterr().out)

    monkeypatch.setattr(target, "run_with_door", run_with_door)
    return ask


def test_orders_and_trades_carry_the_symbol_beside_the_number_of_the_market(
    ask: Callable[..., Any],
) -> None:
    assert ask("order", "list") == [{**ORDER, "symbol": "X-PERP", "kind": "limit"}]
    trades = ask("market", "trades", "X-PERP")
    assert [(each["market"], each["symbol"]) for each in trades] == [(7, "X-PERP")] * 2
    assert [each["price_ticks"] for each in trades] == [9, 8]


def test_a_market_is_shown_with_how_it_matches(ask: Callable[..., Any]) -> None:
    assert ask("market", "show", "x-perp")["matching"] == "auction"
    assert [each["matching"] for each in ask("market", "list")] == ["auction"]


def test_an_account_is_shown_with_its_name_and_found_by_the_first_digits_of_its_id(
    ask: Callable[..., Any], network: Network
) -> None:
    identifier = network.account("bob").account.hex()
    for text in ("bob", identifier, identifier[:16], identifier[:8].upper()):
        document = ask("account", "show", text)
        assert (document["name"], document["orders"]) == ("bob", [ORDER])
    assert ask("account", "show", "ab" * 32)["name"] is None
    for text in (identifier[:7], "0" * 16, identifier + "00"):
        error = ask("account", "show", text, exit_code=ExitCode.USAGE)["error"]
        assert error["code"] == "account.unknown"


def test_digits_that_two_accounts_begin_with_name_neither(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [SimpleNamespace(name=name, account=b"\x12" * 31 + name.encode()) for name in "ab"]

    def account(name: str) -> Any:
        raise KeyError(name)

    twins = SimpleNamespace(accounts=entries, account=account)
    monkeypatch.setattr(target, "load_network", lambda _: twins)
    with pytest.raises(KeyError):
        target.account_id(network.path, "12" * 8)
    assert target.account_id(network.path, "12" * 31 + "61") == entries[0].account


async def test_an_order_without_a_result_in_time_leaves_its_id_to_programs(
    capsys: pytest.CaptureFixture[str], autojump_clock: trio.testing.MockClock
) -> None:
    async def submit(envelopes: list[bytes]) -> tuple[SubmitResult, ...]:
        return (SubmitResult(bytes(32), None),)

    async def subscribe(*_: object) -> Any:
        return SimpleNamespace(receive=trio.sleep_forever)

    welcome = SimpleNamespace(chain_id=bytes(32), committed_height=5, node="node0")
    client: Any = SimpleNamespace(welcome=welcome, submit=submit, subscribe=subscribe)
    output = Output()
    output.is_json = True
    with pytest.raises(TimedOutError) as caught:
        await submit_instruction(
            client, Identity("me", bytes(32), bytes([7]) * 32), Cancel(4), None, output, 9, "ask "
        )
    output.operator_error(caught.value)
    error = json.loads(capsys.readouterr().out)["error"]
    assert len(error["envelope_id"]) == 64
    assert error["next"].endswith(f"ask {error['envelope_id']}")
    assert error["code"] == "order.timeout"


def test_a_replay_of_a_home_that_is_not_there_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["replay", str(tmp_path / "nowhere"), "--json"]) == ExitCode.CONFIG
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"] == f"there is no home at {tmp_path / 'nowhere'}"


def test_a_replay_says_why_envelopes_were_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = ReplayReport(
        base_height=0,
        chain_id=bytes(32),
        heights=9,
        batches=9,
        envelopes=9,
        refused=5,
        refused_codes={"envelope.expired": 3, "envelope.nonce_used": 2},
        instructions=9,
        fills=9,
        opaque_transactions=0,
        checkpoints_compared=1,
        certificates_compared=1,
        state_root=bytes(32),
        state_root_height=9,
    )
    monkeypatch.setattr("node.replay.replay", lambda *_, **__: report)
    assert run(["replay", str(tmp_path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    words = ["envelopes", "refused", "5", "(3", "envelope.expired,", "2", "envelope.nonce_used)"]
    assert words in lines
    assert run(["replay", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["refused"] == 5
    assert document["refused_codes"] == {"envelope.expired": 3, "envelope.nonce_used": 2}
