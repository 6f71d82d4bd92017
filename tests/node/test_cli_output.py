"""What the command line prints: whole on narrow terminals, in words where it cannot go on."""

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from engine.instructions import Instruction, MarketOrder, PlaceOrder, Side
from engine.limits import CLIENT_ID_MAX, ORDER_SIZE_MAX_LOTS, PRICE_MAX_TICKS
from engine.receipts import ReasonCode
from engine.refusals import BUNDLE_REFUSALS, REFUSALS
from mempool.refusal import RefusalCode
from node.cli import main as main_module
from node.cli.amounts import AmountError, format_fee, parse_price, parse_size
from node.cli.main import run
from node.cli.output import record, table
from node.cli.reasons import OUTCOME_REASONS, REFUSAL_REASONS, explain
from node.cli.submission import _engine_refusal, describe_outcome
from node.cli.views import (
    AccountInfo,
    MarketInfo,
    PositionInfo,
    ReceiptInfo,
    query_account_and_markets,
)
from node.client_stream import DoorError
from node.exit_codes import ExitCode

MARKET = MarketInfo(1, "X-PERP", 1_000_000, 1, 1, 1, False, 1, 2, None, None, 0)


def test_a_table_keeps_every_cell_whole_on_a_narrow_terminal() -> None:
    stream = StringIO()
    console = Console(file=stream, width=80, force_terminal=True, no_color=True)
    command = "tail -f " + "x" * 120 + "/node.jsonl"
    console.print(table(["node", "id>", "log!"], [("node0", "ab" * 32, command)]), soft_wrap=True)
    assert "ab" * 32 in stream.getvalue()
    assert command in stream.getvalue()


@pytest.mark.parametrize("width", [50, 80])
def test_the_last_column_is_broken_between_words_where_the_terminal_ends(width: int) -> None:
    stream = StringIO()
    console = Console(file=stream, width=width)
    rows = [("a_scenario", 60, "words " * 40 + "x" * 60), ("other", 5, "few words")]
    console.print(table(["scenario", "runs for>", "shows"], rows), soft_wrap=True)
    lines = stream.getvalue().splitlines()
    assert "x" * 60 in stream.getvalue()
    assert all(len(line) <= width for line in lines if "xxx" not in line)
    assert lines[2].startswith(" " * 22 + "words words")
    assert lines[-1] == "other              5  few words"


def test_columns_that_are_asked_for_hold_without_a_terminal_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert run(["exit-codes"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60
    monkeypatch.delenv("COLUMNS")
    assert run(["exit-codes"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) > 80


def test_lines_of_tables_and_records_end_without_blanks() -> None:
    stream = StringIO()
    console = Console(file=stream, width=80)
    console.print(table(["a", "b"], [("1", "long"), ("2", "")], title="T"), soft_wrap=True)
    assert stream.getvalue() == "T\na  b\n1  long\n2\n"
    assert record([("key", 1), ("longer key", "")]) == "key         1\nlonger key"


def test_a_price_or_size_beyond_the_engine_names_the_most_there_is() -> None:
    assert parse_price(str(PRICE_MAX_TICKS), MARKET) == PRICE_MAX_TICKS
    assert parse_size(str(ORDER_SIZE_MAX_LOTS), MARKET) == ORDER_SIZE_MAX_LOTS
    with pytest.raises(AmountError) as caught:
        parse_price(str(PRICE_MAX_TICKS + 1), MARKET)
    assert caught.value.advice == f"choose at most {PRICE_MAX_TICKS}"
    with pytest.raises(AmountError) as caught:
        parse_size("9" * 24, MARKET)
    assert caught.value.advice == f"choose at most {ORDER_SIZE_MAX_LOTS}"


def test_numbers_beyond_the_protocol_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    order = ["order", "place", "X-PERP", "buy", "1", "--price", "1"]
    for words in (
        [*order, "--client-id", str(CLIENT_ID_MAX + 1)],
        ["order", "cancel", "9" * 30],
        ["inspect", "qc", "9" * 30],
    ):
        assert run(words) == ExitCode.USAGE
        assert "usage.invalid" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["localnet", "up"], ["localnet", "up", "--detach"]])
def test_a_localnet_where_no_folder_can_be_is_refused_by_its_path(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert run([*words, "--dir", str(file)]) == ExitCode.CONFIG
    error = capsys.readouterr().err
    assert str(file) in error
    assert "localnet.unwritable" in error


def test_a_home_where_no_folder_can_be_is_refused_by_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("password\n")
    words = ["node", "init", "--name", "north", "--home", str(file), "--password-file", str(file)]
    assert run(words) == ExitCode.CONFIG
    error = capsys.readouterr().err
    assert str(file) in error
    assert "home.unwritable" in error


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_an_error_that_nobody_foresaw_is_told_in_one_line_with_its_traceback_on_stderr(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_name: str) -> str:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(main_module, "version", fail)
    assert run(["version", *flags]) == ExitCode.UNEXPECTED
    captured = capsys.readouterr()
    assert "Traceback" in captured.err
    if flags:
        assert json.loads(captured.out)["error"]["code"] == "bug"
    else:
        assert "error: unexpected ZeroDivisionError: by zero [bug]" in captured.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_full_disk_under_stdout_is_an_error_without_a_traceback(flags: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "node.cli.main", "exit-codes", *flags],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == ExitCode.STORAGE
    assert "Traceback" not in ended.stderr
    if not flags:
        assert "output.unwritable" in ended.stderr


@pytest.mark.parametrize(
    ("receipt", "words"),
    [
        (
            ReceiptInfo("cancelled", "order.ioc_remainder", 7, 0, 0, 0, 0, 0),
            "nothing filled; remainder cancelled, order 7",
        ),
        (
            ReceiptInfo("partially_filled", "order.ioc_remainder", 7, 2, 0, 10, 0, 0),
            "partially filled, order 7, filled 2 at about 5, fee 0.00, remainder cancelled",
        ),
        (ReceiptInfo("resting", "ok", 7, 0, 3, 0, 0, 0), "resting, order 7, resting 3"),
        (ReceiptInfo("cancelled", "ok", 7, 0, 0, 0, 0, 1), "cancelled, 1 order"),
        (ReceiptInfo("cancelled", "ok", 0, 0, 0, 0, 0, 0), "there was no order to cancel"),
        (
            ReceiptInfo("refused", "order.fok_unfillable", 0, 0, 0, 0, 0, 0),
            "refused, the book could not fill the whole order at once [order.fok_unfillable]",
        ),
        (
            ReceiptInfo("refused", "order.of_a_newer_node", 0, 0, 0, 0, 0, 0),
            "refused, this version of rota does not know the code [order.of_a_newer_node]",
        ),
    ],
)
def test_receipts_are_told_in_words(receipt: ReceiptInfo, words: str) -> None:
    assert describe_outcome(receipt, MARKET) == words


@pytest.mark.parametrize("code", [*RefusalCode, *ReasonCode])
def test_every_code_has_words_and_a_refusal_says_what_to_do(code: RefusalCode | ReasonCode) -> None:
    reason = explain(code.value)
    assert reason.meaning[0].islower()
    assert code.value not in reason.meaning
    refusals = {each for codes in REFUSALS.values() for each in codes} | {*BUNDLE_REFUSALS}
    assert reason.advice or (isinstance(code, ReasonCode) and code not in refusals)


def test_a_code_of_the_engine_and_the_pool_means_the_same_in_both() -> None:
    for code in {each.value for each in RefusalCode} & {each.value for each in ReasonCode}:
        assert REFUSAL_REASONS[RefusalCode(code)] == OUTCOME_REASONS[ReasonCode(code)]


async def test_a_refusal_for_the_price_band_gives_the_band_of_this_moment() -> None:
    market = msgspec.structs.replace(MARKET, band_low_ticks=54_000, band_high_ticks=66_000)

    class Client:
        async def query(self, name: str) -> list[dict[str, object]]:
            assert name == "markets"
            return [msgspec.structs.asdict(market)]

    error = await _engine_refusal(Client(), "order.price_band", MARKET, bytes(32))
    assert error.code == "order.price_band"
    assert error.message.endswith("X-PERP takes 54000 to 66000 at this moment")
    assert "from 54000 to 66000" in error.advice


def test_a_fee_below_a_cent_is_told_in_full() -> None:
    for fee, words in ((0, "0.00"), (2_700, "0.0027"), (-1, "-0.000001"), (10_000, "0.01")):
        assert format_fee(fee) == words


async def test_a_refusal_for_margin_tells_what_the_account_has() -> None:
    class Client:
        async def query(self, name: str, account: bytes) -> dict[str, object]:
            assert (name, account) == ("account", b"a" * 32)
            money = dict.fromkeys(AccountInfo.__struct_fields__[:4], 5_000_000)
            return {**money, "positions": [], "orders": []}

    error = await _engine_refusal(Client(), "margin.insufficient", None, b"a" * 32)
    assert error.message.endswith("equity 5.00, initial margin now 5.00")


async def test_a_refusal_for_margin_tells_what_the_order_needed_and_what_would_fit() -> None:
    market = msgspec.structs.replace(
        MARKET,
        unit_microquote=1_000_000,
        mark_price_ticks=100,
        initial_margin_ppm=100_000,
        taker_fee_ppm=10_000,
    )
    money = dict.fromkeys(AccountInfo.__struct_fields__[:4], 0) | {"equity_microquote": 35_000_000}
    answers = {
        "account": {**money, "positions": [], "orders": []},
        "markets": [msgspec.structs.asdict(market)],
    }

    class Client:
        async def query(self, name: str, *_: object) -> object:
            return answers[name]

    async def ask(order: Instruction) -> str:
        error = await _engine_refusal(Client(), "margin.insufficient", market, b"a" * 32, order)
        return error.message.partition("initial margin now ")[2]

    # A lot needs 10 of margin and 1 of fee; at 120 it loses 20 to the mark, and 1.2 of fee.
    order = PlaceOrder(market.market, Side.BUY, 100, 9)
    assert await ask(order) == "0.00, with this order about 99.00 more; about 3 would fit"
    order = MarketOrder(market.market, Side.BUY, 120, 2)
    assert await ask(order) == "0.00, with this order about 62.40 more; about 1 would fit"
    order = PlaceOrder(market.market, Side.SELL, 50, 2)
    assert (await ask(order)).endswith("about 121.00 more; no size that opens would fit")
    answers["account"]["margin_mode"] = "portfolio"
    assert await ask(order) == "0.00"


@pytest.mark.parametrize("listed_after", [1, 2, 9])
async def test_an_account_is_asked_for_until_its_markets_are_listed(
    listed_after: int,
) -> None:
    position = dict.fromkeys(PositionInfo.__struct_fields__, 0) | {
        "market": MARKET.market,
        "greeks": None,
    }
    account = {
        "quote_microquote": 0,
        "equity_microquote": 0,
        "initial_margin_microquote": 0,
        "maintenance_margin_microquote": 0,
        "positions": [position],
        "orders": [],
    }
    asked = {"account": 0, "markets": 0}

    class Client:
        async def query(self, name: str, *_: bytes) -> object:
            asked[name] += 1
            if name == "account":
                return account
            return [msgspec.structs.asdict(MARKET)] if asked[name] >= listed_after else []

    client: Any = Client()
    if listed_after > 3:
        with pytest.raises(DoorError, match="not listed"):
            await query_account_and_markets(client, bytes(32))
        assert asked == {"account": 3, "markets": 3}
    else:
        _, view, markets = await query_account_and_markets(client, bytes(32))
        assert view.positions[0].market in markets
        assert asked == {"account": listed_after, "markets": listed_after}


def test_without_its_market_a_receipt_is_told_in_lots() -> None:
    receipt = ReceiptInfo("partially_filled", "ok", 7, 2, 3, 4_000_000, 0, 0)
    assert describe_outcome(receipt, None) == (
        "partially filled, order 7, filled 2 lots for 4.00, fee 0.00, resting 3 lots"
    )


@pytest.mark.parametrize(
    ("content", "flags", "code"),
    [
        ("1,2,3,6,5,true\n", ["--speed", "fast"], "usage.invalid"),
        ("1,2,3,6,5,true\n", ["--speed", "nan"], "usage.invalid"),
        ("1,2,3,6,5,true\nnot a trade\n", [], "tape.malformed"),
        ("", [], "tape.malformed"),
    ],
)
def test_a_wrong_tape_or_speed_is_refused_before_anything_starts(
    content: str,
    flags: list[str],
    code: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tape = tmp_path / "tape.csv"
    tape.write_text(content)
    directory = tmp_path / "net"
    words = ["localnet", "up", "--dir", str(directory), "--tape", str(tape), *flags, "--json"]
    assert run(words) == ExitCode.USAGE
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert not directory.exists()
