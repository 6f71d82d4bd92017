"""`rota account session`, acting with a session key, and what `rota account show` adds."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from localnet.network import create_network
from mempool.envelope import BodyKind, decode_envelope
from mempool.keys import AuthorizeKey, KeyScope, RevokeKey, decode_key_changes
from node.cli import target
from node.cli.main import run
from node.client_stream import DoorError
from node.exit_codes import ExitCode
from node.network import Network
from node.protocol import ReceiptEvent, ReceiptLevel, SubmitResult

NOW_MS = 1_000_000
KEY = bytes.fromhex("3b" * 32)
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
ACCOUNT = {
    "quote_microquote": 5_000_000,
    "equity_microquote": 5_000_000,
    "initial_margin_microquote": 0,
    "maintenance_margin_microquote": 0,
    "positions": [],
    "orders": [],
    "withdrawals": [
        {
            "withdrawal_id": 4,
            "destination": b"d" * 20,
            "amount_microquote": 1_500_000,
            "height": 77,
        }
    ],
    "owner": b"o" * 32,
    "sub": 3,
    "sub_accounts": [{"sub": 1, "account": b"s" * 32, "equity_microquote": 2_000_000}],
    "sessions": [
        {
            "key": KEY,
            "scope": "trade",
            "expires_ms": 3_600_000,
            "markets": [7, 9],
            "subs": [0],
            "spend_max_microquote": 10_000_000,
            "spent_microquote": 250_000,
        },
        {
            "key": b"z" * 32,
            "scope": "cancel",
            "expires_ms": 3_600_000,
            "markets": [],
            "subs": [],
            "spend_max_microquote": None,
            "spent_microquote": 0,
        },
    ],
    "fee_tier": {
        "tier": 1,
        "volume_microquote": 6_000_000_000,
        "taker_reduction_ppm": 50,
        "maker_reduction_ppm": 0,
        "next_volume_microquote": 25_000_000_000,
        "epoch_volume_microquote": 85_000_000_000,
        "epoch_ends_ms": 1_796_000_000_000,
    },
}


class Door:
    """A node that orders every envelope, or refuses it when it comes to that."""

    def __init__(self) -> None:
        self.welcome = SimpleNamespace(
            chain_id=bytes(32), committed_height=5, node="node0", time_ms=NOW_MS
        )
        self.envelopes: list[Any] = []
        self.level = ReceiptLevel.ORDERED
        self.code: str | None = None
        self.results: Any = None

    async def query(self, name: str, *_: object) -> Any:
        return {"markets": [MARKET], "account": ACCOUNT}[name]

    async def subscribe(self, *_: object) -> Any:
        return SimpleNamespace(receive=self._receive)

    async def submit(self, envelopes: list[bytes]) -> tuple[SubmitResult, ...]:
        (data,) = envelopes
        self.envelopes.append(decode_envelope(data))
        return (SubmitResult(self.envelopes[-1].header.envelope_id(), None),)

    async def _receive(self) -> ReceiptEvent:
        envelope_id = self.envelopes[-1].header.envelope_id()
        return ReceiptEvent(0, 0, envelope_id, self.level, 6, self.code, self.results)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return create_network(tmp_path_factory.mktemp("net") / "net", port_first=26_000)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    door = Door()
    monkeypatch.setattr(target, "run_with_door", lambda host, port, work: trio.run(work, door))
    return door


@pytest.fixture
def account(door: Door, network: Network, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run an account command with `--json`."""

    def account(*words: str, exit_code: int = 0) -> Any:
        assert run(["account", *words, "--dir", str(network.path), "--json"]) == exit_code
        return json.loads(capsys.readouterr().out)

    return account


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ([], AuthorizeKey(KEY, NOW_MS + 86_400_000, KeyScope.TRADE)),
        (
            ["--scope", "cancel", "--expires-in", "2h"],
            AuthorizeKey(KEY, NOW_MS + 7_200_000, KeyScope.CANCEL),
        ),
        (
            [
                *("--scope", "full", "--market", "x-perp", "--sub", "3", "--sub", "0"),
                *("--spend-max", "1000.5"),
            ],
            AuthorizeKey(KEY, NOW_MS + 86_400_000, KeyScope.FULL, (7,), (0, 3), 1_000_500_000),
        ),
    ],
)
def test_authorise_says_it_in_the_clear(account, door, network, words, change) -> None:
    answer = account("session", "authorise", KEY.hex(), *words)
    (envelope,) = door.envelopes
    assert envelope.header.kind is BodyKind.KEYS
    assert envelope.header.sender == envelope.header.signer == network.account("alice").account
    assert decode_key_changes(envelope.body) == (change,)
    assert (answer["key"], answer["in_force_from_height"]) == (KEY.hex(), 14)


def test_revoke_names_the_key_of_a_localnet_account_too(account, door, network) -> None:
    account("session", "revoke", "bob", "--account", "alice")
    (envelope,) = door.envelopes
    assert decode_key_changes(envelope.body) == (RevokeKey(network.account("bob").account),)


def test_a_refused_change_says_why_and_what_to_do(account, door) -> None:
    door.level, door.code = ReceiptLevel.REFUSED, "key.dead"
    error = account("session", "revoke", KEY.hex(), exit_code=ExitCode.REJECTED)["error"]
    assert error["code"] == "key.dead"
    assert "make a new key" in error["next"]


def test_a_key_with_an_account_signs_in_the_name_of_that_account(
    account, door, network, tmp_path
) -> None:
    door.level = ReceiptLevel.EXECUTED
    door.results = [
        {
            "status": "accepted",
            "code": "ok",
            "order_id": 0,
            "filled_lots": 0,
            "resting_lots": 0,
            "filled_notional_microquote": 0,
            "fee_microquote": 0,
            "cancelled_count": 0,
        }
    ]
    password = tmp_path / "password"
    password.write_text("localnet\n")
    keystore = network.path / "accounts" / "bob.json"
    account(
        "transfer",
        "5",
        "--to-sub",
        "1",
        "--account",
        "alice",
        "--key",
        str(keystore),
        "--password-file",
        str(password),
    )
    header = door.envelopes[0].header
    assert header.sender == network.account("alice").account
    assert header.signer == network.account("bob").account


def test_show_lists_what_an_account_has_besides(door, network, capsys) -> None:
    assert run(["account", "show", "alice", "--dir", str(network.path)]) == 0
    shown = capsys.readouterr().out
    for words in (
        "sub-account 3",
        "1, volume 6,000.00, taker 50 and maker 0 ppm less; next from 25,000.00; "
        "85,000.00 more counts from 2026-11-30 ",
        "0x" + "64" * 20,
        "1.50",
        "X-PERP, 9",
        "0.25 of 10.00",
        "no cap",
    ):
        assert words in shown


def test_keys_are_listed_by_themselves_too(account, door, network, capsys) -> None:
    assert [each["key"] for each in account("session", "list", "bob")] == [
        KEY.hex(),
        (b"z" * 32).hex(),
    ]


def test_keys_of_the_localnet_need_no_password_said(account, door, network) -> None:
    keystore = network.path / "accounts" / "bob.json"
    words = ("session", "revoke", KEY.hex(), "--key", str(keystore))
    account(*words)
    assert door.envelopes[0].header.signer == network.account("bob").account


def test_a_sub_account_that_is_not_there_is_told_how_it_is_opened(
    account, door, monkeypatch
) -> None:
    async def query(name: str, *_: object) -> Any:
        raise DoorError("account.unknown", "no account has this id")

    monkeypatch.setattr(door, "query", query)
    error = account("show", "alice", "--sub", "2", exit_code=ExitCode.REJECTED)["error"]
    assert "account transfer AMOUNT --to-sub 2" in error["next"]
