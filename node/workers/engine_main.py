"""The engine worker: `python -m node.workers.engine_main`, started by `node.workers.engine`.

It holds the market state, runs blocks on it and lets the node look at it in between. It decodes
batches itself, so that no per-envelope work is left to the node's event loop.
"""

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from msgspec import Raw, Struct

from crypto.codec import decode_lenient, encode
from engine.apply import apply_block
from engine.block import BlockInput, EngineEnvelope, Reporter
from engine.errors import InvariantViolation
from engine.state import EngineState
from engine.views import view_account, view_book, view_markets, view_order
from mempool.batch import BatchBody
from mempool.envelope import NAMESPACE_ENGINE, BodyKind, Envelope
from node.storage.errors import StorageError, mapping_errors
from node.workers.child import serve_frames, settle_memory
from node.workers.engine_calls import (
    ExecuteRequest,
    ExecuteResult,
    Failed,
    Load,
    Loaded,
    QueryAnswer,
    QueryRequest,
    Request,
    Saved,
    SaveRequest,
)
from node.workers.engine_snapshots import load_newest, save_snapshot

ACCOUNTS_PER_ANSWER_MAX: Final = 1_000

_NIL: Final = Raw(encode(None))


class AccountSummary(Struct, frozen=True, array_like=True):
    """One line of the `accounts` view."""

    account: bytes
    quote_microquote: int
    open_orders: int


class QueryRefused(Exception):  # noqa: N818 - a refusal of a user's request, not a failure
    """The query cannot be answered; goes back to whoever asked."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class EngineServer:
    """Answers requests one by one."""

    def __init__(self) -> None:
        self._state: EngineState | None = None
        self._chain_id = b""
        self._directory = Path()
        self._has_failed = False

    def answer(self, frame: bytes) -> bytes:
        """Carry out one request; what goes wrong in the engine is answered with `Failed`."""
        # After a failure the state may be half changed; nobody may see it.
        if self._has_failed:
            return encode(Failed("engine.failed", "the engine has failed before"))
        request: Request = decode_lenient(Request, frame)  # type: ignore[arg-type]  # a union
        try:
            return encode(self._carry_out(request))
        except StorageError as error:
            failed = Failed(error.code, error.message)
        except (InvariantViolation, AssertionError) as error:
            failed = Failed("engine.invariant", _describe(error))
        except Exception as error:
            failed = Failed("engine.failed", _describe(error))
        self._has_failed = True
        return encode(failed)

    def _carry_out(self, request: Request) -> Struct:
        if isinstance(request, Load):
            return self._load(request)
        assert self._state is not None, "the first request loads a state"
        if isinstance(request, ExecuteRequest):
            return execute(self._state, request)
        if isinstance(request, SaveRequest):
            return self._save(self._state, request.height)
        return _answer_query(self._state, request)

    def _load(self, request: Load) -> Loaded:
        self._chain_id, self._directory = request.chain_id, Path(request.directory)
        with mapping_errors(f"load from {self._directory}"):
            self._state, skipped = load_newest(self._directory, self._chain_id, request.genesis)
        settle_memory()
        return Loaded(self._state.height, skipped)

    def _save(self, state: EngineState, height: int) -> Saved:
        if state.height != height:
            return Saved(False)
        with mapping_errors(f"save to {self._directory}"):
            save_snapshot(self._directory, self._chain_id, state)
        return Saved(True)


def execute(state: EngineState, request: ExecuteRequest) -> ExecuteResult:
    """Decode the envelopes that count and run the block."""
    block = BlockInput(
        request.height,
        request.time_ms,
        request.seed,
        tuple(_engine_envelopes(request)),
        reporters=tuple(Reporter(key, power) for key, power in request.reporters),
    )
    output = apply_block(state, block)
    return ExecuteResult(
        output.height,
        encode(output),
        output.state_root,
        output.receipts_root,
        output.stats.instructions,
        output.stats.fills,
    )


def _engine_envelopes(request: ExecuteRequest) -> Iterator[EngineEnvelope]:
    """What the header ledger let through and the engine understands. Batches were checked when
    they were stored, so decoding them cannot fail."""
    for body, refused in request.batches:
        skipped = frozenset(refused)
        for position, data in enumerate(decode_lenient(BatchBody, body).envelopes):
            if position in skipped:
                continue
            envelope = decode_lenient(Envelope, data)
            header = envelope.header
            if header.kind is BodyKind.PLAIN and header.namespace == NAMESPACE_ENGINE:
                yield EngineEnvelope(
                    header.envelope_id(), header.sender, header.nonce, envelope.body
                )


# ---- queries -------------------------------------------------------------------------------


def _answer_query(state: EngineState, request: QueryRequest) -> QueryAnswer:
    """Any arguments whatsoever may come; a client sent them."""
    view = VIEWS.get(request.name)
    try:
        if view is None:
            raise QueryRefused("query.unknown", f"the engine has no view {request.name!r}")
        return QueryAnswer(Raw(encode(view(state, request.arguments))))
    except QueryRefused as refusal:
        return QueryAnswer(_NIL, refusal.code, refusal.detail)


def _view_markets(state: EngineState, arguments: tuple[Any, ...]) -> object:
    if arguments:
        raise QueryRefused("query.malformed", "`markets` takes no argument")
    return view_markets(state)


def _view_book(state: EngineState, arguments: tuple[Any, ...]) -> object:
    match arguments:
        case (int(market), int(depth)):
            book = view_book(state, market, depth)
            if book is None:
                raise QueryRefused("market.unknown", f"there is no market {market}")
            return book
    raise QueryRefused("query.malformed", "give a market id and a depth")


def _view_accounts(state: EngineState, arguments: tuple[Any, ...]) -> object:
    """By account id, at most `ACCOUNTS_PER_ANSWER_MAX`, from an id on (included)."""
    match arguments:
        case ():
            start = b""
        case (bytes(start),):
            pass
        case _:
            raise QueryRefused("query.malformed", "give nothing, or the account id to start from")
    ids = sorted(account for account in state.accounts if account >= start)
    accounts = (state.accounts[each] for each in ids[:ACCOUNTS_PER_ANSWER_MAX])
    return [
        AccountSummary(account.account_id, account.quote, len(account.orders))
        for account in accounts
    ]


def _view_account(state: EngineState, arguments: tuple[Any, ...]) -> object:
    """Nil for an account that the engine does not know."""
    return view_account(state, _account_id(arguments))


def _view_orders(state: EngineState, arguments: tuple[Any, ...]) -> object:
    account = view_account(state, _account_id(arguments))
    return () if account is None else account.orders


def _view_order(state: EngineState, arguments: tuple[Any, ...]) -> object:
    """Nil for an order that is not open."""
    match arguments:
        case (int(order_id),):
            return view_order(state, order_id)
    raise QueryRefused("query.malformed", "give an order id")


def _account_id(arguments: tuple[Any, ...]) -> bytes:
    match arguments:
        case (bytes(account),):
            return account
    raise QueryRefused("query.malformed", "give an account id")


VIEWS: Final[dict[str, Callable[[EngineState, tuple[Any, ...]], object]]] = {
    "markets": _view_markets,
    "book": _view_book,
    "accounts": _view_accounts,
    "account": _view_account,
    "orders": _view_orders,
    "order": _view_order,
}


def _describe(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


if __name__ == "__main__":
    serve_frames(EngineServer().answer)
