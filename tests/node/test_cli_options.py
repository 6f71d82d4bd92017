"""Options as commands show them: the chain, one series, and positions with greeks."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio

from localnet.network import create_network
from node.cli import target
from node.cli.main import run
from node.exit_codes import ExitCode

EXPIRY_MS = 1_796_000_000_000


def make_market(number: int, symbol: str, **more: Any) -> dict[str, Any]:
    return {
        "market": number,
        "symbol": symbol,
        "tick_size_microquote": 100_000,
        "lots_per_base": 100,
        "unit_microquote": 1_000,
        "index_price_ticks": 1_000,
        "is_stale": False,
        "band_low_ticks": 900,
        "band_high_ticks": 1_100,
        "best_bid_ticks": None,
        "best_ask_ticks": None,
        "open_orders": 0,
        "mark_price_ticks": 50,
        **more,
    }


def make_greeks(delta_micro: int) -> dict[str, int]:
    return {
        "delta_micro": delta_micro,
        "gamma_micro": 1_500,
        "vega_micro": 2_250_000,
        "theta_micro": -750_000,
    }


def make_series(number: int, is_call: bool, strike: int) -> dict[str, Any]:
    option = {
        "underlying": 7,
        "is_call": is_call,
        "expiry_ms": EXPIRY_MS,
        "strike_ticks": strike,
        "forward_microquote": 100_250_000,
        "vol_ppm": 553_000,
        "is_closed": False,
        "greeks": make_greeks(503_000 if is_call else -20),
        "short_initial_ppm": 150_000,
        "short_initial_min_ppm": 130_000,
        "short_maintenance_ppm": 75_000,
    }
    symbol = f"X-{strike}-{'C' if is_call else 'P'}"
    return make_market(number, symbol, option=option, index_price_ticks=50)


MARKETS = [
    make_market(7, "X-PERP"),
    make_series(20, True, 1_000),
    make_series(21, False, 1_000),
    make_series(22, True, 900),
]
ACCOUNT = {
    "quote_microquote": 1,
    "equity_microquote": 1,
    "initial_margin_microquote": 0,
    "maintenance_margin_microquote": 0,
    "orders": [],
    "positions": [
        {
            "market": 20,
            "size_lots": 100,
            "value_microquote": 5_000_000,
            "open_buy_lots": 0,
            "open_sell_lots": 0,
            "greeks": make_greeks(503_000),
        }
    ],
}


class Door:
    async def query(self, name: str, *_: object) -> Any:
        return {"markets": MARKETS, "account": ACCOUNT}[name]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("net") / "net"
    return str(create_network(path, port_first=25_600).path)


@pytest.fixture
def rota(
    directory: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    monkeypatch.setattr(target, "run_with_door", lambda host, port, work: trio.run(work, Door()))

    def rota(*words: str, exit_code: int = 0) -> str:
        assert run([*words, "--dir", directory]) == exit_code
        return capsys.readouterr().out

    return rota


def test_calls_and_puts_of_a_strike_stand_side_by_side(rota: Callable[..., str]) -> None:
    title, columns, low, middle = rota("market", "options", "x-perp").splitlines()
    assert title.startswith("X-PERP 2026-11-30 ")
    assert title.endswith("forward 100.25")
    assert columns.split().count("delta") == 2
    assert low.split()[5:] == ["90.0", "55.30", "%", *"-----"]
    assert middle.split() == [
        *("-", "5.0", "-", "0.5030", "0.00", "100.0", "55.30", "%"),
        *("-", "5.0", "-", "0.0000", "0.00"),
    ]
    (chain,) = json.loads(rota("market", "options", "--json"))
    assert [each["strike_ticks"] for each in chain["strikes"]] == [900, 1_000]
    assert chain["strikes"][0]["put"] is None


def test_a_market_without_options_is_no_chain(rota: Callable[..., str]) -> None:
    rota("market", "options", "Y-PERP", exit_code=ExitCode.USAGE)


def test_one_series_is_shown_with_its_terms_and_greeks(rota: Callable[..., str]) -> None:
    shown = rota("market", "show", "X-1000-C")
    for words in ("call, European", "X-PERP", "100.0", "55.3 %", "0.503, 0.0015", "-0.75 a day"):
        assert words in shown
    assert "European" not in rota("market", "show", "X-PERP")


def test_margins_and_index_of_an_option_are_those_that_hold(rota: Callable[..., str]) -> None:
    shown = rota("market", "show", "X-1000-C")
    short = "short: 15 % of the index less what it is out of the money, at least 13 %\n"
    assert f"long: its mark; {short}" in shown
    assert "long: its mark; short: 7.5 % of the index\n" in shown
    assert "at least 13 %, at most the strike\n" in rota("market", "show", "X-1000-P")
    (index,) = [line for line in shown.splitlines() if line.startswith("index")]
    assert index.split() == ["index", "100.0"]
    listed = [line.split() for line in rota("market", "list").splitlines()[1:]]
    assert [words[0] for words in listed] == ["X-PERP", "X-900-C", "X-1000-C", "X-1000-P"]
    assert {words[1] for words in listed} == {"100.0"}


@pytest.mark.parametrize(("mode", "takes"), [("cross", "close"), ("portfolio", "close or hedge")])
def test_an_account_below_its_initial_margin_says_so(
    rota: Callable[..., str], monkeypatch: pytest.MonkeyPatch, mode: str, takes: str
) -> None:
    assert "below initial margin" not in rota("account", "show", "alice")
    monkeypatch.setitem(ACCOUNT, "initial_margin_microquote", 2_000_001)
    monkeypatch.setitem(ACCOUNT, "margin_mode", mode)
    shown = rota("account", "show", "alice")
    assert f"below initial margin  by 2.00: only orders that {takes} are taken\n" in shown


def test_positions_in_options_come_with_all_greeks(rota: Callable[..., str]) -> None:
    lines = rota("account", "show", "alice").splitlines()
    place = next(place for place, line in enumerate(lines) if line.startswith("position"))
    assert lines[place].split()[-3:] == ["gamma", "vega", "theta"]
    assert lines[place + 1].split()[-3:] == ["0.0015", "2.25", "-0.75"]
