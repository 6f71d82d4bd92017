"""Who is under liquidation, what the insurance fund holds, and bids."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from crypto.codec import decode
from engine.instructions import Bid, Bundle
from engine.receipts import AuctionEvent, FundingPaidEvent, SliceEvent
from localnet.network import create_network
from mempool.envelope import decode_envelope
from node.account_events import KINDS
from node.cli import target
from node.cli.main import run
from node.client_stream import DoorError
from node.exit_codes import ExitCode
from node.network import Network
from node.plain import to_plain
from node.protocol import ReceiptEvent, ReceiptLevel, SubmitResult

M = 1_000_000
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
    "best_bid_ticks": None,
    "best_ask_ticks": None,
    "open_orders": 0,
}
INSURANCE = {
    "insurance_microquote": 900 * M,
    "started_microquote": 1_000 * M,
    "fees_microquote": 5 * M,
    "funding_pool_microquote": 0,
    "settlement_pool_microquote": 0,
    "is_liquidating": True,
    "closing": 1,
    "auctions": 1,
    "insolvent": 1,
    "negative": 1,
    "debts_microquote": 906 * M,
    "is_gated": True,
}


def make_view(account: bytes, stage: str = "auction") -> dict[str, Any]:
    is_sold = stage != "closing"
    return {
        "account": account,
        "stage": stage,
        "equity_microquote": 30 * M,
        "maintenance_margin_microquote": 46 * M,
        "elapsed_ms": 5,
        "next_stage_ms": 1_000_000,
        "is_waiting": False,
        "offer_microquote": 3 * M * is_sold,
        "offer_ppm": 65_217 * is_sold,
        "for_sale_ppm": 450_749 * is_sold,
        "insured_microquote": 0,
        "holdings": [{"market": 7, "size_lots": -150, "value_microquote": -150 * M}],
    }


class Door:
    """A node at which one account is under liquidation."""

    def __init__(self, account: bytes) -> None:
        self.welcome = SimpleNamespace(chain_id=bytes(32), committed_height=5, node="node0")
        self.account = account
        self.view: dict[str, Any] | None = make_view(account)
        self.instructions: list[Any] = []
        self.events: list[dict[str, Any]] = []
        self._envelope_id = b""

    async def query(self, name: str, *arguments: Any) -> Any:
        if name == "account" and arguments == (bytes(32),):
            raise DoorError("account.unknown", "no account has this id")
        account = {
            "quote_microquote": 1,
            "equity_microquote": 1,
            "initial_margin_microquote": 0,
            "maintenance_margin_microquote": 0,
            "positions": [],
            "orders": [],
            "liquidation": self.view,
        }
        is_first = arguments == (None,)
        pages = [self.view] if self.view is not None and is_first else []
        return {
            "account": account,
            "markets": [MARKET],
            "liquidations": pages,
            "insurance": INSURANCE,
            "events": {
                "events": self.events,
                "next_height": 7,
                "next_leaf": 0,
                "certified_height": 6,
            },
        }[name]

    async def subscribe(self, *_: object) -> Any:
        return self

    async def submit(self, envelopes: list[bytes]) -> tuple[SubmitResult, ...]:
        envelope = decode_envelope(envelopes[0])
        self.instructions += decode(Bundle, envelope.body).instructions
        self._envelope_id = envelope.header.envelope_id()
        return (SubmitResult(self._envelope_id, None),)

    async def receive(self) -> ReceiptEvent:
        receipt = {
            "status": "accepted",
            "code": "ok",
            "order_id": 0,
            "filled_lots": 0,
            "resting_lots": 0,
            "filled_notional_microquote": 0,
            "fee_microquote": 0,
            "cancelled_count": 0,
        }
        return ReceiptEvent(0, 0, self._envelope_id, ReceiptLevel.EXECUTED, 6, None, [receipt])


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return create_network(tmp_path_factory.mktemp("net") / "net", port_first=25_400)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch, network: Network) -> Door:
    door = Door(network.account("bob").account)
    monkeypatch.setattr(target, "run_with_door", lambda host, port, work, **_: trio.run(work, door))
    return door


@pytest.fixture
def rota(network: Network, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def rota(*words: str, exit_code: int = 0) -> str:
        assert run([*words, "--dir", str(network.path)]) == exit_code
        return capsys.readouterr().out

    return rota


def test_who_is_under_liquidation_is_listed_by_name_with_what_is_for_sale(
    door: Door, rota: Callable[..., str]
) -> None:
    (_, row) = rota("market", "liquidations").splitlines()
    for word in ("bob", "30.00", "46.00", "3.00", "6.5217 %", "45.0749 %", "auction"):
        assert word in row
    (document,) = json.loads(rota("market", "liquidations", "--json"))
    assert document["offer_ppm"] == 65_217
    detail = rota("market", "liquidations", "bob")
    assert "X-PERP" in detail
    assert "-1.50" in detail
    door.view = None
    assert rota("market", "liquidations") == "nobody is under liquidation\n"
    assert json.loads(rota("market", "liquidations", "--json")) == []
    assert json.loads(rota("market", "liquidations", "bob", "--json")) is None


def test_the_insurance_fund_is_shown_with_what_it_has_lost(
    door: Door, rota: Callable[..., str]
) -> None:
    shown = rota("market", "insurance")
    assert "900.00 (-100.00 since genesis)" in shown
    assert "closed: 1 account lacks 906.00, more than fund and fees hold" in shown
    assert json.loads(rota("market", "insurance", "--json")) == INSURANCE


@pytest.mark.parametrize(
    ("words", "portion_ppm", "premium_ppm"),
    [((), 1_000_000, 65_217), (("--part", "25%", "--premium", "0.5%"), 250_000, 5_000)],
)
def test_a_bid_asks_for_what_is_offered_unless_it_is_said_otherwise(
    door: Door, rota: Callable[..., str], words: tuple[str, ...], portion_ppm: int, premium_ppm: int
) -> None:
    rota("order", "bid", "bob", *words, "--json")
    assert door.instructions == [Bid(door.account, portion_ppm, premium_ppm)]


def test_a_bid_tells_what_it_brought(
    door: Door, rota: Callable[..., str], network: Network
) -> None:
    alice, other = network.account("alice").account, b"o" * 32
    door.events = [
        {"height": 6, "leaf": leaf, "kind": KINDS[type(each)].name, **to_plain(each)}
        for leaf, each in enumerate(
            (
                SliceEvent(7, door.account, alice, -150, -150 * M),
                AuctionEvent(door.account, alice, 450_000, 3 * M, 0, M, M),
                SliceEvent(7, other, alice, -100, -100 * M),
                AuctionEvent(door.account, other, 50_000, M, 0, M, M),
                FundingPaidEvent(alice, M),
            )
        )
    ]
    told = rota("order", "bid", "bob").splitlines()
    assert told[:3] == [
        "accepted",
        "X-PERP: position down by 1.50 at about 100.0, received 150.00, with bob",
        "took 45 % of bob for a premium of 3.00",
    ]
    taken = json.loads(rota("order", "bid", "bob", "--json"))["taken"]
    assert [(each["kind"], each["symbol"]) for each in taken] == [
        ("slice", "X-PERP"),
        ("auction", None),
    ]


def test_nothing_is_bid_for_an_account_that_is_not_there(
    door: Door, rota: Callable[..., str]
) -> None:
    words = ("order", "bid", bytes(32).hex(), "--sub", "1", "--json")
    answer = json.loads(rota(*words, exit_code=ExitCode.REJECTED))
    assert answer["error"]["code"] == "auction.unknown"


def test_nothing_is_bid_for_what_is_not_for_sale(door: Door, rota: Callable[..., str]) -> None:
    for view in (None, make_view(door.account, "closing")):
        door.view = view
        answer = json.loads(rota("order", "bid", "bob", "--json", exit_code=ExitCode.REJECTED))
        assert answer["error"]["code"] == "auction.unknown"
    for words in (("--part", "101%"), ("--part", "all"), ("--premium", "0.00001%")):
        answer = json.loads(rota("order", "bid", "bob", *words, "--json", exit_code=2))
        assert answer["error"]["code"] == "usage.amount"
    assert door.instructions == []
