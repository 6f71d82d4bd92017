"""What the order commands make of their words, and how they tell what is open and waiting."""

import json
import shlex
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from crypto.codec import decode
from engine.accounts.sub_accounts import compute_sub_account_id
from engine.instructions import (
    Amend,
    ArmDeadMan,
    Bundle,
    Cancel,
    CancelAll,
    ConditionalOrder,
    Instruction,
    MarketOrder,
    OnBehalf,
    OneCancelsOther,
    PlaceOrder,
    SelfTradeMode,
    Side,
    TimeInForce,
    TrailingStop,
    Transfer,
    TriggerKind,
    TriggerSource,
    TwapOrder,
    Withdraw,
)
from localnet.network import create_network
from mempool.envelope import decode_envelope
from node.cli import target
from node.cli.amounts import (
    AmountError,
    format_duration,
    format_time,
    parse_distance,
    parse_duration_ms,
)
from node.cli.main import run
from node.cli.order_legs import SOURCES
from node.cli.views import MarketInfo
from node.client_stream import DoorError
from node.exit_codes import ExitCode
from node.network import Network
from node.protocol import ReceiptEvent, ReceiptLevel, SubmitResult

BUY, SELL = Side.BUY, Side.SELL
IOC, GTC, FOK, POST = TimeInForce.IOC, TimeInForce.GTC, TimeInForce.FOK, TimeInForce.POST_ONLY
STOP, TAKE_PROFIT = TriggerKind.STOP, TriggerKind.TAKE_PROFIT
INDEX, LAST = TriggerSource.INDEX, TriggerSource.LAST
MODE = SelfTradeMode.CANCEL_MAKER
NOW_MS = 1_000_000

MARKET = {
    "market": 7,
    "symbol": "X-PERP",
    "tick_size_microquote": 100_000,
    "lots_per_base": 100,
    "unit_microquote": 1_000,
    "index_price_ticks": 1_000,
    "is_stale": False,
    "band_low_ticks": 900,
    "band_high_ticks": 1_100,
    "best_bid_ticks": 990,
    "best_ask_ticks": 1_095,
    "open_orders": 3,
}
INFO = MarketInfo(**MARKET)
"""A tick is 0.1, a lot 0.01; the index is 100."""

ORDER = {
    "order_id": 5,
    "market": 7,
    "side": "buy",
    "price_ticks": 950,
    "size_lots": 20,
    "tif": "gtc",
    "reduce_only": False,
    "client_id": 3,
}
CONDITIONAL = {
    "order_id": 6,
    "market": 7,
    "side": "sell",
    "kind": "stop",
    "source": "index",
    "trigger_ticks": 900,
    "offset_ticks": 0,
    "price_ticks": 890,
    "slack_ticks": 0,
    "size_lots": 10,
    "client_id": 4,
    "tif": "ioc",
    "reduce_only": True,
    "good_til_ms": 0,
    "partner_order_id": 8,
    "is_fired": False,
}
TRAILING = {
    **CONDITIONAL,
    "order_id": 8,
    "side": "buy",
    "source": "last",
    "trigger_ticks": 1_020,
    "offset_ticks": 20,
    "price_ticks": 0,
    "slack_ticks": 5,
    "client_id": 0,
    "partner_order_id": 6,
    "good_til_ms": 60_000,
    "is_fired": True,
}
TWAP = {
    "order_id": 7,
    "market": 7,
    "side": "buy",
    "price_ticks": 1_010,
    "size_lots": 100,
    "filled_lots": 30,
    "client_id": 9,
    "reduce_only": False,
    "slices": 10,
    "next_slice": 4,
    "next_slice_ms": 90_000,
}
ACCOUNT = {
    "quote_microquote": 1,
    "equity_microquote": 1,
    "initial_margin_microquote": 0,
    "maintenance_margin_microquote": 0,
    "positions": [],
    "orders": [ORDER],
    "conditionals": [CONDITIONAL, TRAILING],
    "twaps": [TWAP],
    "dead_man_deadline_ms": 3_600_000,
}
RECEIPT = {
    "status": "resting",
    "code": "ok",
    "order_id": 11,
    "filled_lots": 0,
    "resting_lots": 10,
    "filled_notional_microquote": 0,
    "fee_microquote": 0,
    "cancelled_count": 0,
}


class Door:
    """A node that takes every envelope and answers with one receipt."""

    def __init__(self) -> None:
        self.welcome = SimpleNamespace(
            chain_id=bytes(32), committed_height=5, node="node0", time_ms=NOW_MS
        )
        self.receipt: dict[str, Any] = RECEIPT
        self.instructions: list[Instruction] = []
        self.asked: list[object] = []
        """The accounts that were asked for."""
        self.is_empty = False
        """There is no account."""
        self._envelope_id = b""

    async def query(self, name: str, *arguments: object) -> Any:
        self.asked += arguments
        if self.is_empty and name != "markets":
            raise DoorError("account.unknown", "no account has this id")
        return {"markets": [MARKET], "account": ACCOUNT}[name]

    async def subscribe(self, *_: object) -> Any:
        return SimpleNamespace(receive=self._receive)

    async def submit(self, envelopes: list[bytes]) -> tuple[SubmitResult, ...]:
        (data,) = envelopes
        envelope = decode_envelope(data)
        self.instructions += decode(Bundle, envelope.body).instructions
        self._envelope_id = envelope.header.envelope_id()
        return (SubmitResult(self._envelope_id, None),)

    async def _receive(self) -> ReceiptEvent:
        level = ReceiptLevel.EXECUTED
        return ReceiptEvent(0, 0, self._envelope_id, level, 6, None, [self.receipt])


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return create_network(tmp_path_factory.mktemp("net") / "net", port_first=25_000)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    door = Door()

    def run_with_door(host: str, port: int, work: Callable[[Any], Awaitable[Any]]) -> Any:
        return trio.run(work, door)

    monkeypatch.setattr(target, "run_with_door", run_with_door)
    return door


@pytest.fixture
def order(door: Door, network: Network, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run an order command with `--json`."""

    def order(*words: str, exit_code: int = 0) -> Any:
        assert run(["order", *words, "--dir", str(network.path), "--json"]) == exit_code
        return json.loads(capsys.readouterr().out)

    return order


@pytest.mark.parametrize(
    ("line", "instruction"),
    [
        ("place x-perp buy 0.1 --price 95", PlaceOrder(7, BUY, 950, 10)),
        (
            "place X-PERP sell 2 --price 105.5 --tif post --reduce-only --client-id 4"
            " --good-for 1.5m --self-trade decrement",
            PlaceOrder(7, SELL, 1_055, 200, POST, True, SelfTradeMode.DECREMENT, 4, 1_090_000),
        ),
        ("market X-PERP buy 0.1", MarketOrder(7, BUY, 1_100, 10)),
        ("market X-PERP sell 0.1", MarketOrder(7, SELL, 981, 10)),
        ("market X-PERP sell 0.1 --slippage 2", MarketOrder(7, SELL, 970, 10)),
        (
            "market X-PERP sell 0.1 --price 80 --reduce-only --client-id 2",
            MarketOrder(7, SELL, 800, 10, True, MODE, 2),
        ),
        (
            "stop X-PERP sell 0.1 --trigger 90",
            ConditionalOrder(7, SELL, STOP, INDEX, 900, 891, 10),
        ),
        (
            "stop X-PERP buy 0.1 --trigger 110 --price 111 --tif gtc --source last --good-for 10",
            ConditionalOrder(7, BUY, STOP, LAST, 1_100, 1_110, 10, GTC, good_til_ms=1_010_000),
        ),
        (
            "take-profit X-PERP sell 0.1 --trigger 110 --slippage 0 --reduce-only --client-id 6",
            ConditionalOrder(7, SELL, TAKE_PROFIT, INDEX, 1_100, 1_100, 10, IOC, True, MODE, 6),
        ),
        ("trailing X-PERP sell 0.1 --offset 5", TrailingStop(7, SELL, INDEX, 50, 10, 10)),
        (
            "trailing X-PERP buy 0.1 --offset 2.55% --slippage 0.5 --tif fok --source last",
            TrailingStop(7, BUY, LAST, 25, 5, 10, FOK),
        ),
        (
            "oco X-PERP sell 0.1 --stop 90 --limit 110 --client-id 8 --reduce-only",
            OneCancelsOther(
                PlaceOrder(7, SELL, 1_100, 10, POST, True, MODE, 8),
                ConditionalOrder(7, SELL, STOP, INDEX, 900, 891, 10, IOC, True, MODE, 9),
            ),
        ),
        (
            "oco X-PERP buy 0.1 --take-profit 90 --trail 1% --good-for 1s",
            OneCancelsOther(
                ConditionalOrder(
                    7, BUY, TAKE_PROFIT, INDEX, 900, 909, 10, good_til_ms=NOW_MS + 1_000
                ),
                TrailingStop(7, BUY, INDEX, 10, 10, 10, good_til_ms=NOW_MS + 1_000),
            ),
        ),
        (
            "oco X-PERP buy 0.1 --stop 110 --leg 'sell stop 90' --client-id 3",
            OneCancelsOther(
                ConditionalOrder(7, BUY, STOP, INDEX, 1_100, 1_111, 10, client_id=3),
                ConditionalOrder(7, SELL, STOP, INDEX, 900, 891, 10, client_id=4),
            ),
        ),
        (
            "oco X-PERP sell 0.1 --leg '0.2 limit 105 reduce-only' --leg 'buy take-profit 90"
            " price=91 source=last tif=gtc'",
            OneCancelsOther(
                PlaceOrder(7, SELL, 1_050, 20, POST, True),
                ConditionalOrder(7, BUY, TAKE_PROFIT, LAST, 900, 910, 10, GTC),
            ),
        ),
        (
            "oco X-PERP sell 0.1 --leg 'trailing 5 slippage=2' --leg 'buy 0.3 trailing 1%'",
            OneCancelsOther(
                TrailingStop(7, SELL, INDEX, 50, 20, 10), TrailingStop(7, BUY, INDEX, 10, 10, 30)
            ),
        ),
        (
            "twap X-PERP buy 5 --price 101 --duration 10m",
            TwapOrder(7, BUY, 1_010, 500, 600_000, 30_000),
        ),
        (
            "twap X-PERP sell 5 --price 99 --duration 1h --interval 500ms --client-id 1",
            TwapOrder(7, SELL, 990, 500, 3_600_000, 500, False, MODE, 1),
        ),
        ("amend 5 --size 0.1", Amend(5, 0, 950, 10)),
        ("amend --client-id 3 --price 96.5", Amend(0, 3, 965, 20)),
        ("amend 6 --price 96 --size 1", Amend(6, 0, 960, 100)),
        ("cancel 5", Cancel(5)),
        ("cancel --client-id 3", Cancel(0, 3)),
        ("cancel-all", CancelAll()),
        ("cancel-all --market X-PERP", CancelAll(7)),
        ("dead-man 60s", ArmDeadMan(60_000)),
        ("dead-man off", ArmDeadMan(0)),
    ],
)
def test_the_words_of_a_command_become_this_instruction(
    line: str, instruction: Instruction, order: Callable[..., Any], door: Door
) -> None:
    document = order(*shlex.split(line))
    assert document["receipt"] == RECEIPT
    assert door.instructions == [instruction]


SUB_LINES = [
    ("place X-PERP buy 0.1 --price 95 --sub 2", OnBehalf(2, PlaceOrder(7, BUY, 950, 10))),
    ("dead-man off --sub 32", OnBehalf(32, ArmDeadMan(0))),
    ("amend 5 --size 0.1 --sub 1", OnBehalf(1, Amend(5, 0, 950, 10))),
]


@pytest.mark.parametrize(("line", "instruction"), SUB_LINES)
def test_any_order_can_be_one_of_a_sub_account(
    line: str, instruction: Instruction, order: Callable[..., Any], door: Door, network: Network
) -> None:
    order(*line.split())
    assert door.instructions == [instruction]
    owner = network.account("alice").account
    assert isinstance(instruction, OnBehalf)
    assert {*door.asked} <= {compute_sub_account_id(owner, instruction.sub)}


@pytest.mark.parametrize(
    ("line", "instruction"),
    [
        ("transfer 2.5 --to-sub 1", Transfer(2_500_000, b"", 1)),
        ("transfer 1 --to-sub 0 --sub 3", OnBehalf(3, Transfer(1_000_000))),
        (f"transfer 0.000001 --to {'ab' * 32}", Transfer(1, b"\xab" * 32)),
        (f"withdraw 7 0x{'cd' * 20}", Withdraw(7_000_000, b"\xcd" * 20)),
    ],
)
def test_collateral_is_moved_in_units_of_quote(
    line: str,
    instruction: Instruction,
    door: Door,
    network: Network,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["account", *line.split(), "--dir", str(network.path), "--json"]) == 0
    assert door.instructions == [instruction]


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("transfer 1", "transfer --help"),
        ("transfer 1 --to bob --to-sub 1", "transfer --help"),
        ("transfer 0 --to bob", "like 250 or 0.5"),
        ("transfer 0.0000001 --to bob", "at most six decimals"),
        ("transfer x --to bob", "like 250 or 0.5"),
        ("transfer 99999999999 --to bob", "at most 72057594037"),
        ("transfer 1 --to-sub 33", "transfer --help"),
        ("withdraw 1 0x12", "withdraw --help"),
        (f"withdraw 1 {'zz' * 20}", "withdraw --help"),
    ],
)
def test_collateral_that_cannot_be_meant_is_not_sent(
    line: str, advice: str, door: Door, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["account", *line.split(), "--dir", str(network.path), "--json"]
    assert run(words) == ExitCode.USAGE
    assert door.instructions == []
    assert advice in json.loads(capsys.readouterr().out)["error"]["next"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("market X-PERP buy 1 --price 99 --slippage 1%", "exclude each other"),
        ("stop X-PERP buy 1 --trigger 99 --price 99 --slippage 1%", "exclude each other"),
        ("stop X-PERP buy 1 --trigger 99.99", "not a positive multiple of 0.1"),
        ("trailing X-PERP buy 1 --offset 101%", "no part of a price"),
        ("trailing X-PERP buy 1 --offset far", "not a decimal number"),
        ("oco X-PERP buy 1 --stop 99", "give two of"),
        ("oco X-PERP buy 1 --stop 99 --limit 98 --trail 1%", "give two of"),
        ("oco X-PERP buy 1 --limit 99 --leg 'sell limit 101'", "one leg at most is a limit"),
        ("oco X-PERP buy 1 --stop 99 --leg stop", "names no kind and price"),
        ("oco X-PERP buy 1 --stop 99 --leg 'hold stop 5'", "names no kind and price"),
        ("oco X-PERP buy 1 --stop 99 --leg 'limit 98 tif=gtc'", "rests as it is"),
        ("oco X-PERP buy 1 --stop 99 --leg 'trailing 2 price=98'", "nothing that a trailing leg"),
        ("oco X-PERP buy 1 --stop 99 --leg 'stop 98 source=sky'", "nothing that a stop leg"),
        ("oco X-PERP buy 1 --stop 99 --leg '0.001 stop 98'", "not a positive multiple of 0.01"),
        ("twap X-PERP buy 1 --price 99 --duration soon", "is no duration"),
        ("twap X-PERP buy 1 --price 99 --duration 0s", "is no duration"),
        ("amend 5", "give --price, --size or both"),
        ("amend --price 99", "one of the two"),
        ("cancel", "one of the two"),
        ("cancel 5 --client-id 3", "one of the two"),
        ("dead-man never", "is no duration"),
        ("place X-PERP buy 1 --price 99 --good-for 1y", "is no duration"),
        ("place Y-PERP buy 1 --price 99", "no market 'Y-PERP'"),
    ],
)
def test_words_that_cannot_be_meant_are_told_and_nothing_is_sent(
    line: str, words: str, order: Callable[..., Any], door: Door
) -> None:
    error = order(*shlex.split(line), exit_code=ExitCode.USAGE)["error"]
    assert words in error["message"]
    assert error["next"]
    assert door.instructions == []


def test_an_amend_of_an_order_that_is_not_there_asks_nobody_to_judge_it(
    order: Callable[..., Any], door: Door
) -> None:
    error = order("amend", "99", "--size", "1", exit_code=ExitCode.REJECTED)["error"]
    assert error["code"] == "order.unknown"
    assert error["next"].startswith("see `rota order list`")
    assert door.instructions == []


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("order list --sub 5", "transfer AMOUNT --to-sub 5"),
        ("order amend 1 --size 1 --sub 5", "transfer AMOUNT --to-sub 5"),
        ("order place X-PERP buy 1 --price 10 --sub 5", "transfer AMOUNT --to-sub 5"),
        (
            "order cancel-all --sub 5 --account bob",
            "transfer AMOUNT --to-sub 5 --account bob",
        ),
        ("account show bob --sub 5", "transfer AMOUNT --to-sub 5 --account bob"),
        ("account solvency --sub 5", "transfer AMOUNT --to-sub 5"),
        ("account margin cross --sub 5", "transfer AMOUNT --to-sub 5"),
        ("market liquidations alice --sub 5", "transfer AMOUNT --to-sub 5"),
    ],
)
def test_who_asks_for_a_sub_account_that_is_not_there_is_told_how_to_open_it(
    line: str, command: str, door: Door, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    door.is_empty = True
    door.receipt = {**RECEIPT, "status": "refused", "code": "account.unknown"}
    words = [*line.split(), "--dir", str(network.path), "--json"]
    assert run(words) == ExitCode.REJECTED
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["message"]) == ("account.unknown", "there is no sub-account 5 yet")
    assert error["next"].endswith(f"account {command}")


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("twap X-PERP buy 0.30 --price 10 --duration 2m --interval 0.5s", "from 1s to 1h"),
        ("twap X-PERP buy 0.30 --price 10 --duration 2d --interval 1h", "the interval, to 1d"),
        ("twap X-PERP buy 0.30 --price 10 --duration 40s", "30s or 1m"),
        ("twap X-PERP buy 0.03 --price 10 --duration 2m", "at least 0.04"),
    ],
)
def test_a_schedule_that_is_refused_is_told_with_one_that_is_not(
    line: str, advice: str, order: Callable[..., Any], door: Door
) -> None:
    door.receipt = {**RECEIPT, "status": "refused", "code": "twap.schedule_invalid"}
    error = order(*line.split(), exit_code=ExitCode.REJECTED)["error"]
    assert error["code"] == "twap.schedule_invalid"
    assert advice in error["next"]


def test_a_withdrawal_that_is_too_small_is_told_with_the_least_one(
    door: Door, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    door.receipt = {**RECEIPT, "status": "refused", "code": "withdraw.too_small"}
    chain_id = network.genesis().chain_id()
    words = ["account", "withdraw", "0.000001", "11" * 20, "--dir", str(network.path), "--json"]
    for door.welcome.chain_id, advice in ((chain_id, "at least 1.00"), (bytes(32), "genesis show")):
        assert run(words) == ExitCode.REJECTED
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["code"] == "withdraw.too_small"
        assert advice in error["next"]


@pytest.mark.parametrize(
    ("code", "order_id", "words"),
    [
        ("margin.insufficient", 0, "the old order is cancelled"),
        ("order.not_amendable", 6, "nothing was changed"),
        ("order.size_not_positive", 5, "nothing was changed"),
        ("order.unknown", 0, "nothing was changed"),
    ],
)
def test_a_refused_amend_tells_whether_the_old_order_is_gone(
    code: str, order_id: int, words: str, order: Callable[..., Any], door: Door
) -> None:
    door.receipt = {**RECEIPT, "status": "refused", "code": code, "order_id": order_id}
    error = order("amend", "5", "--size", "1", exit_code=ExitCode.REJECTED)["error"]
    assert error["code"] == code
    assert error["next"].startswith(words)


def test_the_receipt_of_a_pair_is_told_with_the_number_of_the_other_order(
    order: Callable[..., Any], door: Door
) -> None:
    words = ("oco", "X-PERP", "sell", "0.1", "--limit", "110", "--stop", "90")
    assert order(*words)["other_order_id"] == 12
    door.receipt = {**RECEIPT, "status": "cancelled", "code": "order.self_trade"}
    assert "other_order_id" not in order(*words)


def test_all_that_is_open_and_waiting_is_one_list_for_programs(order: Callable[..., Any]) -> None:
    symbol = {"symbol": "X-PERP"}
    assert order("list") == [
        {**ORDER, **symbol, "kind": "limit"},
        {**CONDITIONAL, **symbol},
        {**TWAP, **symbol, "kind": "twap"},
        {**TRAILING, **symbol, "kind": "trailing_stop"},
    ]


@pytest.mark.parametrize("command", [["order", "list"], ["account", "show"]])
def test_people_see_what_waits_in_tables(
    command: list[str], door: Door, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--dir", str(network.path)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "5 X-PERP buy 0.20 95.0 gtc 3" in lines
    assert "6 X-PERP stop sell 0.10 index <= 90.0 89.0 ioc yes 4 pair of 8" in lines
    trailing = "8 X-PERP trailing buy 0.10 last >= 102.0 102.5 ioc yes"
    assert f"{trailing} pair of 6, fired, until 1970-01-01 00:01:00Z" in lines
    assert "7 X-PERP buy 1.00 0.30 101.0 4 of 10 1970-01-01 00:01:30Z 9" in lines
    if command[0] == "account":
        assert "dead man's switch 1970-01-01 01:00:00Z" in lines


def test_a_node_that_knows_nothing_of_what_waits_is_read_too(
    order: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("conditionals", "twaps", "dead_man_deadline_ms"):
        monkeypatch.delitem(ACCOUNT, name)
    assert order("list") == [{**ORDER, "symbol": "X-PERP", "kind": "limit"}]


def test_every_price_that_an_order_can_watch_has_a_name() -> None:
    assert sorted(SOURCES.values()) == sorted(TriggerSource)
    assert {name.value.upper() for name in SOURCES} == {source.name for source in TriggerSource}


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [
        ("1", 1_000),
        ("0.5", 500),
        ("500ms", 500),
        ("1.5m", 90_000),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        ("0.001s", 1),
    ],
)
def test_durations_are_exact(text: str, duration_ms: int) -> None:
    assert parse_duration_ms(text) == duration_ms
    assert parse_duration_ms(format_duration(duration_ms)) == duration_ms


@pytest.mark.parametrize("text", ["", "0", "-1s", "1.5ms", "1w", "s", " 1s", "nan", "1" * 13, "٣s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(AmountError, match="is no duration"):
        parse_duration_ms(text)
    with pytest.raises(AmountError, match="too long") as caught:
        parse_duration_ms("400d")
    assert caught.value.advice == "choose at most 366d"


def test_distances_are_in_quote_or_a_part_of_a_price_rounded_down() -> None:
    assert parse_distance("0", INFO, 1_000) == 0
    assert parse_distance("0.00", INFO, 1_000) == 0
    assert parse_distance("2.5", INFO, 1_000) == 25
    assert parse_distance("1%", INFO, 999) == 9
    assert parse_distance("100 %", INFO, 999) == 999
    for text in ("-1%", "%", "1%%", "100.1%", "1e2%", "9" * 31 + "%"):
        with pytest.raises(AmountError):
            parse_distance(text, INFO, 999)


def test_a_time_beyond_all_calendars_is_never() -> None:
    assert format_time(0) == "1970-01-01 00:00:00Z"
    assert format_time(2**63 - 1) == "never"
