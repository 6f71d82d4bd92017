"""What befalls an account in words, and the command that shows it."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from engine.instructions import Side
from engine.receipts import (
    AuctionEvent,
    DeadManEvent,
    DeleverageEvent,
    DepositEvent,
    Event,
    Fill,
    FundingPaidEvent,
    LiquidationEvent,
    LiquidationStep,
    OrderEvent,
    ReasonCode,
    SessionEvent,
    SessionState,
    SettlementEvent,
    SliceEvent,
    Status,
    TransferEvent,
    WakeEvent,
    WithdrawalEvent,
    WithdrawalState,
)
from localnet.network import create_network
from node.account_events import KINDS
from node.cli import target, watch
from node.cli.account_events import _TELLERS, Reader, describe_entry
from node.cli.main import run
from node.cli.views import MarketInfo
from node.client_stream import DoorError
from node.exit_codes import ExitCode
from node.network import Network
from node.plain import to_plain

ME, BOB, EVE = b"m" * 32, b"b" * 32, b"e" * 32
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
READER = Reader(ME, {7: MarketInfo(**MARKET)}, {BOB: "bob"})
M = 1_000_000


def plain(entry: Fill | Event, height: int = 5, leaf: int = 0) -> dict[str, Any]:
    kind = KINDS[type(entry)].name
    return {"height": height, "kind": kind, "leaf": leaf, **to_plain(entry)}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            Fill(7, 1_005, 25, Side.BUY, 3, 4, ME, BOB, -2 * M, M, 5),
            "sold 0.25 at 100.5 as maker, order 3, fee -2.00, 0.05 left",
        ),
        (
            Fill(9, 1_005, 25, Side.BUY, 3, 4, BOB, ME, 0, M, 0),
            "bought 25 lots at 1005 ticks as taker, order 4, fee 1.00",
        ),
        (
            OrderEvent(7, 3, 8, ME, ReasonCode.ORDER_EXPIRED, 10, 0),
            "order 3 (client id 8) ended with 0.10 untraded: ",
        ),
        (
            OrderEvent(7, 3, 0, ME, ReasonCode.ORDER_REDUCE_ONLY_SHRUNK, 10, 5),
            "order 3 shrank by 0.10, 0.05 left: ",
        ),
        (
            WakeEvent(7, 3, 0, ME, Status.PARTIALLY_FILLED, ReasonCode.OK, 9, 10, 5, 10 * M, M, 30),
            "order 3 woke: partially filled, as order 9, filled 0.10 for 10.00, fee 1.00, "
            "resting 0.05, 0.30 left for later slices",
        ),
        (DeadManEvent(ME, 1, 1), "the dead man's switch cancelled 1 order"),
        (DepositEvent(ME, M, bytes(32), False), "1.00 arrived, held back"),
        (
            WithdrawalEvent(4, ME, b"\x12" * 20, M, WithdrawalState.REFUNDED),
            f"withdrawal 4 of 1.00 to 0x{'12' * 20}: refunded",
        ),
        (TransferEvent(ME, BOB, M), "gave 1.00 to bob"),
        (TransferEvent(EVE, ME, M), f"received 1.00 from {EVE.hex()[:16]}"),
        (
            SessionEvent(ME, EVE, SessionState.AUTHORISED),
            f"session key {EVE.hex()} authorised, in force from height 13",
        ),
        (SessionEvent(ME, EVE, SessionState.REVOKED), f"session key {EVE.hex()} revoked"),
        (SessionEvent(ME, EVE, SessionState.EXPIRED), f"session key {EVE.hex()} expired"),
        (FundingPaidEvent(ME, -M), "paid 1.00 of funding, of all markets"),
        (SettlementEvent(ME, 7, -30, M), "a position of -0.30 expired: received 1.00"),
        (
            LiquidationEvent(ME, LiquidationStep.CLOSED, M, 2 * M, 7, -10, 9 * M, M),
            "sold 0.10 to close, worth 9.00, the insurance fund received 1.00; equity 1.00, "
            "maintenance margin 2.00",
        ),
        (
            LiquidationEvent(ME, LiquidationStep.BEGUN, M, 2 * M),
            "below its maintenance margin: all orders are cancelled",
        ),
        (
            AuctionEvent(BOB, ME, 450_000, M, 0, M, M),
            "took 45 % of bob for a premium of 1.00",
        ),
        (
            AuctionEvent(ME, BOB, 450_000, 2 * M, M, M, M),
            "bob took 45 % of it all for a premium of 2.00, of which the insurance fund paid 1.00",
        ),
        (
            SliceEvent(7, BOB, ME, 10, 9 * M),
            "position up by 0.10 at about 90.0, paid 9.00, with bob",
        ),
        (
            SliceEvent(7, ME, BOB, 10, 9 * M),
            "position down by 0.10 at about 90.0, received 9.00, with bob",
        ),
        (
            DeleverageEvent(7, BOB, ME, -10, -9 * M, 0),
            "deleveraged: position down by 0.10 at about 90.0, received 9.00, with bob",
        ),
    ],
)
def test_an_entry_is_told_from_the_side_of_its_reader(entry: Fill | Event, words: str) -> None:
    assert describe_entry(plain(entry), READER).startswith(words)


def test_every_kind_that_concerns_accounts_has_words_and_unknown_ones_are_shown_as_they_are() -> (
    None
):
    assert set(_TELLERS) == {kind.name for kind in KINDS.values() if kind.concerns}
    entry = {"kind": "of_tomorrow", "height": 1, "leaf": 2, "what": "ever"}
    assert json.loads(describe_entry(entry, READER))["what"] == "ever"


def test_an_entry_without_its_fields_is_the_nodes_fault() -> None:
    with pytest.raises(DoorError) as caught:
        describe_entry({"kind": "fill", "height": 1, "leaf": 2}, READER)
    assert caught.value.code == "door.malformed"


class Door:
    """Nodes whose archive has one entry at each height; the first goes away in between."""

    def __init__(self) -> None:
        self.connections = 0
        self.certified = 6
        self.breaks_at: int | None = None

    async def query(self, name: str, *arguments: object) -> Any:
        if name == "markets":
            return [MARKET]
        if name == "account":
            raise DoorError("account.unknown", "no account has this id")
        if name == "status":
            return {"certified_height": self.certified}
        _, height, leaf = arguments
        assert isinstance(height, int)
        if self.breaks_at is not None and height >= self.breaks_at:
            self.breaks_at = None
            raise DoorError("door.closed", "gone")
        expired = OrderEvent(7, 3, 0, ME, ReasonCode.ORDER_EXPIRED, 10, 0)
        found = [plain(expired, height)] if height <= self.certified and not leaf else []
        return {
            "events": found,
            "next_height": min(height, self.certified) + 1,
            "next_leaf": 0,
            "certified_height": self.certified,
        }


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return create_network(tmp_path_factory.mktemp("net") / "net", port_first=25_200)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    door = Door()

    def run_with_door(host: str, port: int, work: Callable[[Any], Awaitable[Any]]) -> Any:
        door.connections += 1
        return trio.run(work, door)

    monkeypatch.setattr(target, "run_with_door", run_with_door)
    monkeypatch.setattr(watch, "RECONNECT_PAUSE_S", 0)
    return door


def test_the_past_is_told_in_lines_with_where_to_go_on(
    door: Door, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["account", "watch", "alice", "--dir", str(network.path), "--past"]
    assert run([*words, "--from", "3", "--json"]) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [(each["height"], each["symbol"]) for each in lines] == [
        (height, "X-PERP") for height in range(3, 7)
    ]
    assert printed.err.rstrip().endswith("--from 6:1")
    assert run([*words, "--count", "2"]) == 0
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["height", "1", "2"]
    assert printed.err.rstrip().endswith("--from 2:1")


def test_of_an_account_that_is_not_there_yet_is_said_how_it_comes_to_be(
    door: Door, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["account", "watch", "bob", "--dir", str(network.path), "--past"]
    assert run(words) == 0
    assert "no such account yet; an account exists from its first" in capsys.readouterr().err
    assert run([*words, "--sub", "3"]) == 0
    assert "transfer AMOUNT --to-sub 3 --account bob" in capsys.readouterr().err


@pytest.mark.parametrize("breaks_at", [3, 5])
def test_what_one_node_has_begun_to_tell_another_goes_on_with(
    door: Door, network: Network, capsys: pytest.CaptureFixture[str], breaks_at: int
) -> None:
    door.breaks_at = breaks_at
    words = ["account", "watch", "alice", "--dir", str(network.path), "--past", "--json"]
    assert run(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["height"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert door.connections == 2


@pytest.mark.parametrize("place", ["0", "soon", "5:", "-1", "1:2:3"])
def test_a_place_that_is_none_is_a_usage_error(door: Door, network: Network, place: str) -> None:
    words = ["account", "watch", "alice", "--dir", str(network.path), f"--from={place}"]
    assert run(words) == ExitCode.USAGE
    assert door.connections == 0
