"""The engine's views as clients get them: by name, from hostile arguments, as plain maps.

Those of `node.protocol.QUERIES` that are the engine's: the node itself answers the others.

A struct becomes a map by field name, an enumeration the name of its value in lower case; numbers
mean something to our own structs alone.
"""

from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from crypto.codec import DecodeError, decode_lenient, encode
from crypto.digest import DIGEST_SIZE_BYTES
from engine.commitment.proofs import prove_leaf
from engine.commitment.root import (
    SYSTEM_KEY,
    account_key,
    chain_key,
    compute_state_root,
    market_key,
    withdrawal_key,
)
from engine.limits import DEPTH_LEVELS_MAX
from engine.liquidation.views import view_insurance, view_liquidations
from engine.state import EngineState
from engine.views import (
    AccountView,
    view_account,
    view_book,
    view_markets,
    view_order,
    view_waiting,
)
from node.plain import to_plain
from node.workers.errors import WorkerQueryError

BOOK_LEVELS_DEFAULT: Final = 20

ACCOUNTS_PAGE_MAX: Final = 1_000
"""Accounts in one answer; the last id is where the next page starts after."""


LIQUIDATIONS_PAGE_MAX: Final = 100
"""Accounts under liquidation in one answer, likewise: each is margined."""


class AccountSummary(Struct, frozen=True):
    """One line of `accounts`."""

    account: bytes
    quote_microquote: int
    open_orders: int


class LeafProof(Struct, frozen=True):
    """The answer to `proof`, of the newest state: whether that is certified is another question."""

    height: int
    market_root: bytes
    key: bytes
    """The leaf's (`engine.commitment.root`)."""
    proof: bytes
    """Of its value, or that there is none (`engine.commitment.proofs`)."""


class Views:
    """Answers queries about one state. Never changes it."""

    def __init__(self, state: EngineState) -> None:
        self._state = state
        self._account_ids: list[bytes] = []
        """All of them in order: accounts are only ever added."""
        self._views: Final[dict[str, Callable[[tuple[Any, ...]], object]]] = {
            "markets": self._markets,
            "book": self._book,
            "accounts": self._accounts,
            "account": self._account,
            "orders": self._orders,
            "order": self._order,
            "liquidations": self._liquidations,
            "insurance": self._insurance,
            "proof": self._proof,
        }

    def answer(self, name: str, arguments: bytes) -> bytes:
        """The encoded view. Raises `WorkerQueryError`."""
        view = self._views.get(name)
        if view is None:
            known = ", ".join(sorted(self._views))
            raise WorkerQueryError("query.unknown", f"no view {name!r}; there are: {known}")
        try:
            decoded: tuple[Any, ...] = decode_lenient(tuple[Any, ...], arguments)
        except DecodeError as error:
            raise WorkerQueryError("query.malformed", str(error)) from error
        return encode(to_plain(view(decoded)))

    def _markets(self, arguments: tuple[Any, ...]) -> object:
        if arguments:
            raise WorkerQueryError("query.malformed", "markets takes no argument")
        return view_markets(self._state)

    def _book(self, arguments: tuple[Any, ...]) -> object:
        match arguments:
            case (int() | str() as market,):
                levels = BOOK_LEVELS_DEFAULT
            case (int() | str() as market, int(levels)) if 0 < levels <= DEPTH_LEVELS_MAX:
                pass
            case _:
                raise WorkerQueryError(
                    "query.malformed",
                    f"give a market id or symbol, and a number of levels up to {DEPTH_LEVELS_MAX}",
                )
        market_id = self._find_market(market) if isinstance(market, str) else market
        book = view_book(self._state, market_id, levels)
        if book is None:
            raise WorkerQueryError("market.unknown", f"no market has the id {market_id}")
        return book

    def _find_market(self, symbol: str) -> int:
        for market_id, market in self._state.markets.items():
            if market.params.symbol == symbol:
                return market_id
        raise WorkerQueryError("market.unknown", f"no market has the symbol {symbol[:32]!r}")

    def _accounts(self, arguments: tuple[Any, ...]) -> object:
        after, limit = _read_page(arguments, ACCOUNTS_PAGE_MAX)
        accounts = self._state.accounts
        if len(self._account_ids) != len(accounts):
            self._account_ids = sorted(accounts)
        start = bisect_right(self._account_ids, after)
        return [
            AccountSummary(each, accounts[each].quote, len(accounts[each].orders))
            for each in self._account_ids[start : start + limit]
        ]

    def _account(self, arguments: tuple[Any, ...]) -> AccountView:
        match arguments:
            case (bytes(account_id),) if _is_id(account_id):
                view = view_account(self._state, account_id)
            case _:
                raise WorkerQueryError("query.malformed", "give an account id of 32 bytes")
        if view is None:
            raise WorkerQueryError("account.unknown", "no account has this id")
        return view

    def _orders(self, arguments: tuple[Any, ...]) -> object:
        return self._account(arguments).orders

    def _order(self, arguments: tuple[Any, ...]) -> object:
        match arguments:
            case (int(order_id),):
                view = view_order(self._state, order_id) or view_waiting(self._state, order_id)
            case _:
                raise WorkerQueryError("query.malformed", "give an order id")
        if view is None:
            raise WorkerQueryError("order.unknown", f"no open order has the id {order_id}")
        return view

    def _liquidations(self, arguments: tuple[Any, ...]) -> object:
        return view_liquidations(self._state, *_read_page(arguments, LIQUIDATIONS_PAGE_MAX))

    def _insurance(self, arguments: tuple[Any, ...]) -> object:
        if arguments:
            raise WorkerQueryError("query.malformed", "insurance takes no argument")
        return view_insurance(self._state)

    def _proof(self, arguments: tuple[Any, ...]) -> LeafProof:
        match arguments:
            case ("account", bytes(account_id)) if _is_id(account_id):
                key = account_key(account_id)
            case ("market", int(number)) if 0 <= number < 2**32:
                key = market_key(number)
            case ("options", int(number)) if 0 <= number < 2**32:
                key = chain_key(number)
            case ("withdrawal", int(number)) if number >= 0:
                key = withdrawal_key(number)
            case ("system",):
                key = SYSTEM_KEY
            case _:
                raise WorkerQueryError(
                    "query.malformed",
                    "give `account` and an id, `market`, `options` or `withdrawal` and a number, "
                    "or `system`",
                )
        state = self._state
        return LeafProof(state.height, compute_state_root(state), key, prove_leaf(state, key))


def _read_page(arguments: tuple[Any, ...], limit_max: int) -> tuple[bytes, int]:
    """The account to start after and how many at most. Raises `WorkerQueryError`."""
    after, limit = b"", limit_max
    match arguments:
        case () | (None,):
            pass
        case (bytes(after),) if _is_id(after):
            pass
        case (None, int(limit)) if 0 < limit <= limit_max:
            pass
        case (bytes(after), int(limit)) if _is_id(after) and 0 < limit <= limit_max:
            pass
        case _:
            raise WorkerQueryError(
                "query.malformed",
                f"give the account id to start after or nil, and a limit up to {limit_max}",
            )
    return after, limit


def _is_id(account_id: bytes) -> bool:
    return len(account_id) == DIGEST_SIZE_BYTES
