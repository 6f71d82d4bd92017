"""What instructions came to, held against a book of our own.

Ids of orders count up, so they tell in which order the engine executed orders. Each is matched once
more in a `Mirror`; what the engine says of it (fills, receipts, events) must be the same, and so
must what is left open, and the root over it.

Not judged is what hangs on the index or on margin: such a refusal must only be one that could be.
Reduce-only orders and what waits for a price or a time, which wild traders send alone, end the
judgement; where there are options it does not begin.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import zip_longest
from struct import Struct
from typing import Final, NamedTuple

from crypto.codec import DecodeError, decode
from crypto.digest import ZERO_DIGEST, Domain, digest
from crypto.merkle import MerkleTree
from engine.block import BlockInput, BlockOutput, SessionGrant
from engine.instructions import (
    Amend,
    Bundle,
    Cancel,
    CancelAll,
    Instruction,
    MarketOrder,
    OnBehalf,
    OracleReport,
    PlaceOrder,
    TimeInForce,
    Transfer,
    Withdraw,
)
from engine.receipts import OrderEvent, ReasonCode, Receipt, Status
from engine.snapshots.whole import snapshot
from engine.state import EngineState
from engine.trading.market import Market
from localnet.sim.node_world import Engine
from localnet.sim.oracles.books import Books, derive_sub_account, round_up
from localnet.sim.oracles.mirror import Loss, Mirror, Trade
from localnet.sim.oracles.watchers import Execution, Watcher

_KEY: Final = Struct(">32sBQQQHH")
_ORDER: Final = Struct(">QIbQQQBBBQ")
_MARGIN_SLACK: Final = 10
"""Whoever has so many times what all positions and orders are worth has the margin for them."""


class _Task(NamedTuple):
    """One instruction and its receipt."""

    sender: bytes
    instruction: Instruction
    receipt: Receipt


class Trades(Watcher):
    """Judges every height once, as whoever executes it first tells it: all others must have the
    same roots, over state and receipts."""

    def __init__(
        self, engines: Mapping[int, Engine], books: Books, exempt: Iterable[int] = ()
    ) -> None:
        """`books` are kept before this is asked."""
        self.exempt = frozenset(exempt)
        self._engines = engines
        self._books = books
        self._mirror = Mirror(
            {market: params.open_orders_max for market, params in books.markets.items()}
        )
        self._last_id = 0
        self._keys: dict[bytes, dict[bytes, SessionGrant]] = {}
        """Session keys, none with a cap, by account and key."""
        self._height = 0
        self._root = b""
        self._priced: set[int] = set()
        """Markets in which an order was admitted once: they have an index for ever."""
        # Options are listed and marked by rules that are not written down here.
        self.is_judging = all(params.options is None for params in books.markets.values())
        self._calls = books.calls
        self._joined: set[int] = set()
        """Orders that came for an auction of this height."""

    def on_executed(self, index: int, execution: Execution) -> None:
        height = execution.request.height
        if height != self._height + 1 or not self.is_judging:
            return
        self._height, self._root = height, execution.output.state_root
        tasks = list(_pair(execution.block, execution.output))
        self._note_keys(execution.block)
        has_caps = any(each.spend_max_microquote for each in execution.block.session_grants)
        if has_caps or any(_is_beyond_rules(task.instruction) for task in tasks):
            self.is_judging = False
            return
        where, state = f"height {height}: ", self._engines[index].state
        self._run(execution.block.time_ms, tasks, state, where)
        self._compare_told(execution.output, where)
        self._compare_fees(execution.output, execution.block.time_ms, where)
        self._compare_open(state, f"node {index}, height {height}")

    # ---- one height ----------------------------------------------------------------------------

    def _run(self, time_ms: int, tasks: list[_Task], state: EngineState, where: str) -> None:
        mirror = self._mirror
        mirror.begin()
        mirror.expire(time_ms)
        admitted: list[tuple[_Task, PlaceOrder]] = []
        for task in tasks:
            if task.receipt.code is ReasonCode.ACCOUNT_UNKNOWN:
                sender = task.sender
                opened = self._books.opened.get(sender, self._height)
                assert opened == self._height, f"{where}{sender.hex()} has an account"
                continue
            match task.instruction:
                case Cancel() | CancelAll() | Amend() as ask:
                    ended = mirror.cancel(task.sender, ask)
                    if isinstance(ended, PlaceOrder):
                        admitted += self._admit(task, ended, where)
                    else:
                        _compare_cancelled(task, ended, where)
                case OracleReport() | Withdraw() | Transfer():
                    pass
                case MarketOrder() as order:
                    admitted += self._admit(task, _limit(order), where)
                case PlaceOrder() as order:
                    admitted += self._admit(task, order, where)
        admitted.sort(key=lambda each: each[0].receipt.order_id)
        makers = [order.tif is TimeInForce.POST_ONLY for _, order in admitted]
        assert makers == sorted(makers, reverse=True), f"{where}a taker goes before a post-only"
        called: dict[int, list[tuple[Receipt, bytes, PlaceOrder]]] = {}
        for task, order in admitted:
            said = task.receipt
            self._last_id += 1
            assert said.order_id == self._last_id, f"{where}order {said.order_id} out of turn"
            if order.market in self._calls and order.tif is not TimeInForce.POST_ONLY:
                assert order.market >= max(called, default=0), f"{where}auctions out of turn"
                called.setdefault(order.market, []).append((said, task.sender, order))
                continue
            assert not called or order.tif is TimeInForce.POST_ONLY, (
                f"{where}order {said.order_id} goes after an auction"
            )
            _compare_receipt(said, mirror.place(said, task.sender, order), where)
        for market, joined in called.items():
            # The index is set before anybody trades.
            due = mirror.call(market, joined, state.markets[market].index_price)
            for (said, _, _), each in zip(joined, due, strict=True):
                _compare_receipt(said, each, where)
        self._joined = {said.order_id for joined in called.values() for said, _, _ in joined}

    def _admit(
        self, task: _Task, order: PlaceOrder, where: str
    ) -> Iterator[tuple[_Task, PlaceOrder]]:
        """The order, unless it was refused for a reason that may be one."""
        said = task.receipt
        if said.status is not Status.REFUSED:
            self._priced.add(order.market)
            yield task, order
            return
        match said.code:
            case ReasonCode.ORDER_FOK_UNFILLABLE:
                is_true = order.tif is TimeInForce.FOK
            case ReasonCode.ORDER_POST_ONLY_WOULD_CROSS:
                is_true = order.tif is TimeInForce.POST_ONLY
            case ReasonCode.ORDER_SIZE_NOT_POSITIVE:
                is_true = order.size_lots <= 0
            case ReasonCode.ORDER_PRICE_NOT_POSITIVE:
                is_true = order.price_ticks <= 0
            case ReasonCode.ORACLE_NO_INDEX:
                is_true = order.market not in self._priced
            case ReasonCode.ORDER_DUPLICATE_CLIENT_ID | ReasonCode.ORDER_CLIENT_ID_INVALID:
                is_true = order.client_id != 0
            case ReasonCode.ORDER_GOOD_TIL_INVALID | ReasonCode.ORDER_EXPIRED:
                is_true = order.good_til_ms != 0
            case ReasonCode.MARGIN_INSUFFICIENT:
                is_true = not self._books.can_pay(task.sender, order, _MARGIN_SLACK)
            case _:
                is_true = True  # It hangs on the index, or on bounds far above all traffic.
        assert is_true, f"{where}{order} was refused as {said.code}"

    def _compare_told(self, output: BlockOutput, where: str) -> None:
        fills = [
            Trade(
                fill.market,
                fill.price_ticks,
                fill.size_lots,
                fill.taker_side,
                fill.maker_order_id,
                fill.taker_order_id,
                fill.maker,
                fill.taker,
                fill.maker_resting_lots,
            )
            for fill in output.fills
        ]
        losses = [
            Loss(event.order_id, event.code, event.removed_lots, event.resting_lots)
            for event in output.events
            if isinstance(event, OrderEvent)
        ]
        _compare_lists(fills, self._mirror.trades, where)
        _compare_lists(losses, self._mirror.losses, where)

    def _compare_fees(self, output: BlockOutput, time_ms: int, where: str) -> None:
        """In an auction whoever joins it pays a taker's fee, also where two of these trade."""
        notionals: Counter[int] = Counter()
        charged: Counter[int] = Counter()
        for fill in output.fills:
            if fill.market not in self._calls:
                continue
            notional = self._books.value(fill)
            for order_id, owner, fee in (
                (fill.maker_order_id, fill.maker, fill.maker_fee_microquote),
                (fill.taker_order_id, fill.taker, fill.taker_fee_microquote),
            ):
                maker_ppm, taker_ppm = self._books.find_rates(owner, fill.market, time_ms)
                notionals[order_id] += notional
                charged[order_id] += fee
                if order_id in self._joined:
                    due, paid = round_up(notionals[order_id] * taker_ppm), charged[order_id]
                else:
                    due, paid = round_up(notional * maker_ppm), fee
                assert paid == due, f"{where}order {order_id} pays {paid}, due {due}"

    def _compare_open(self, state: EngineState, where: str) -> None:
        found, due = len(state.orders), len(self._mirror.orders)
        assert found == due, f"{where}: {found} orders are open, due {due}"

    # ---- the end -------------------------------------------------------------------------------

    def validate(self, running: Iterable[int]) -> None:
        """At rest: engines at one height hold the same to the byte, and those at the last one that
        was judged hold these orders, under a root that covers them."""
        snapshots: dict[int, tuple[int, bytes]] = {}
        for index in running:
            state = self._engines[index].state
            other, known = snapshots.setdefault(state.height, (index, snapshot(state)))
            assert known == snapshot(state), (
                f"nodes {other} and {index} hold different states of height {state.height}"
            )
            if state.height == self._height and self.is_judging:
                self._compare_orders(index, state)

    def _compare_orders(self, index: int, state: EngineState) -> None:
        where = f"node {index}, height {self._height}"
        found = {
            order_id: (each.exposure.account.account_id, each.side, each.price, each.lots)
            for order_id, each in state.orders.items()
        }
        due = {
            order_id: (each.owner, int(each.order.side), each.order.price_ticks, each.lots)
            for order_id, each in self._mirror.orders.items()
        }
        assert found == due, f"{where}: other orders are open: {found.items() ^ due.items()}"
        tree = MerkleTree()
        tree.update_many(dict(self._make_leaves(state)))
        assert tree.root() == self._root, f"{where}: the state root covers something else"

    def _make_leaves(self, state: EngineState) -> Iterator[tuple[bytes, bytes]]:
        """What the root must be over: accounts as our own books have them, and all else."""
        for account_id, account in state.accounts.items():
            positions = b"".join(
                market.to_bytes(4, "big") + lots.to_bytes(8, "big", signed=True)
                for market in sorted(account.exposures)
                if (lots := self._books.positions[account_id, market])
            )
            quote = self._books.balances[account_id].to_bytes(8, "big", signed=True)
            rest = self._make_extensions(account_id)
            yield b"a" + account_id, quote + self._digest_orders(account_id) + positions + rest
        for number, market in state.markets.items():
            reports = b"".join(
                key
                + b"".join(
                    each.to_bytes(8, "big")
                    for each in (report.price_ticks, report.sequence, report.source_time_ms)
                )
                for key, report in sorted(market.reports.items())
            )
            value = market.index_price.to_bytes(8, "big") + bytes([market.stale])
            value += digest(Domain.STATE, reports) + self._make_mark(number, market)
            yield b"m" + number.to_bytes(4, "big"), value
        books = self._books
        pending = 0
        for number, each in books.leaving.items():
            amounts = b"".join(part.to_bytes(8, "big") for part in (each.amount, each.height))
            yield b"w" + number.to_bytes(8, "big"), each.account + each.destination + amounts
            pending += each.amount
        pools = (state.fees, state.insurance, state.deposits_total, pending, books.withdrawn)
        numbers = (self._height, state.time_ms, self._last_id + 1, *pools)
        packed = b"".join(each.to_bytes(8, "big", signed=True) for each in numbers)
        leaving = books.next_withdrawal
        mark = (2**31).to_bytes(4, "big") + leaving.to_bytes(8, "big") if leaving > 1 else b""
        yield b"s", packed + state.genesis_digest + mark

    def _note_keys(self, block: BlockInput) -> None:
        """Session keys that come, which drops those whose time is over, and that go."""
        for grant in block.session_grants:
            keys = self._keys.setdefault(grant.account, {})
            for key in [key for key, each in keys.items() if each.expires_ms <= block.time_ms]:
                del keys[key]
            keys[grant.key] = grant
        for gone in block.session_revocations:
            self._keys.get(gone.account, {}).pop(gone.key, None)

    def _make_mark(self, number: int, market: Market) -> bytes:
        """Its mark and what that came from, and open interest as our own books have it."""
        mark = market.mark
        if mark is None:
            return b""
        distance = abs(market.mark_price - market.index_price) * 1_000_000
        assert distance <= mark.params.premium_max_ppm * market.index_price, "a mark too far"
        lots = sum(
            max(lots, 0) for (_, each), lots in self._books.positions.items() if each == number
        )
        parts = (market.mark_price, mark.average, mark.last_price, mark.due_ms)
        packed = b"".join(each.to_bytes(8, "big", signed=True) for each in parts)
        margin_ppm = market.scaled_margin_ppm
        return packed + lots.to_bytes(16, "big") + margin_ppm.to_bytes(4, "big")

    def _make_extensions(self, account_id: bytes) -> bytes:
        """Whose sub-account it is, its session keys, and what it has traded by epoch."""
        books = self._books
        owner, number = books.subs.get(account_id, (account_id, 0))
        extensions = b""
        if number:
            extensions += (2**31 + 1).to_bytes(4, "big") + owner + number.to_bytes(4, "big")
        records = b"".join(
            _KEY.pack(
                key,
                grant.scope,
                grant.expires_ms,
                2**64 - 1,
                0,
                len(grant.markets),
                len(grant.subs),
            )
            + b"".join(each.to_bytes(4, "big") for each in (*grant.markets, *grant.subs))
            for key, grant in sorted(self._keys.get(account_id, {}).items())
        )
        if records:
            keys_digest = sha256(digest(Domain.STATE, b"session keys") + records).digest()
            extensions += (2**31 + 3).to_bytes(4, "big") + keys_digest
        epochs = sorted(epoch for each, epoch in books.volumes if each == account_id)
        if epochs:
            assert books.tiers is not None, "only these count volume"
            last = epochs[-1]
            pairs = [
                epoch.to_bytes(8, "big") + books.volumes[account_id, epoch].to_bytes(8, "big")
                for epoch in epochs
                if epoch >= last - books.tiers.epochs
            ]
            earlier = b"".join(pairs[:-1])
            prefix = digest(Domain.STATE, b"volume")
            extensions += (2**31 + 2).to_bytes(4, "big") + pairs[-1]
            extensions += sha256(prefix + earlier).digest() if earlier else ZERO_DIGEST
        return extensions

    def _digest_orders(self, owner: bytes) -> bytes:
        records = b"".join(
            _ORDER.pack(
                each.order_id,
                each.order.market,
                each.order.side,
                each.order.price_ticks,
                each.lots,
                each.order.client_id,
                each.order.tif,
                each.order.self_trade,
                each.order.reduce_only,
                each.order.good_til_ms,
            )
            for each in self._mirror.of(owner)
        )
        if not records:
            return ZERO_DIGEST
        return sha256(digest(Domain.STATE, b"open orders") + records).digest()


def _is_beyond_rules(instruction: Instruction) -> bool:
    """Whether the rules written down here do not know what it does."""
    known = (
        PlaceOrder | MarketOrder | Cancel | CancelAll | Amend | OracleReport | Withdraw | Transfer
    )
    return not isinstance(instruction, known) or getattr(instruction, "reduce_only", False)


def _compare_lists(found: Sequence[object], due: Sequence[object], where: str) -> None:
    for one, other in zip_longest(found, due):
        assert one == other, f"{where}{one}, due {other}"


def _pair(block: BlockInput, output: BlockOutput) -> Iterator[_Task]:
    """Each instruction with its receipt, in the order of the receipts."""
    bundles: dict[bytes, tuple[bytes, tuple[Instruction, ...]]] = {}
    for envelope in block.envelopes:
        try:
            instructions = decode(Bundle, envelope.body).instructions
        except DecodeError:
            instructions = ()
        bundles[envelope.envelope_id] = (envelope.sender, instructions)
    answered = dict.fromkeys(bundles, 0)
    for receipt in output.receipts:
        sender, instructions = bundles[receipt.envelope_id]
        if receipt.code.startswith("bundle."):
            answered[receipt.envelope_id] = len(instructions)
            continue
        assert receipt.index == answered[receipt.envelope_id], "receipts are in turn"
        answered[receipt.envelope_id] += 1
        instruction = instructions[receipt.index]
        if isinstance(instruction, OnBehalf):
            owner, number = sender, instruction.sub
            yield _Task(derive_sub_account(owner, number), instruction.instruction, receipt)
        else:
            yield _Task(sender, instruction, receipt)
    for envelope_id, (_, instructions) in bundles.items():
        assert answered[envelope_id] == len(instructions), "every instruction has a receipt"


def _compare_cancelled(task: _Task, due: tuple[Status, ReasonCode, int, int], where: str) -> None:
    said = task.receipt
    found = (said.status, said.code, said.order_id, said.cancelled_count)
    assert found == due, f"{where}{task.instruction} came to {found}, due {due}"


def _compare_receipt(said: Receipt, due: Receipt, where: str) -> None:
    found = (said.status, said.code, said.filled_lots, said.resting_lots)
    expected = (due.status, due.code, due.filled_lots, due.resting_lots)
    assert found == expected, f"{where}order {due.order_id} came to {found}, due {expected}"


def _limit(order: MarketOrder) -> PlaceOrder:
    """A market order takes at its protective price or better, at once. Written again on purpose:
    what the engine makes of one is what is judged."""
    return PlaceOrder(
        order.market,
        order.side,
        order.protective_price_ticks,
        order.size_lots,
        TimeInForce.IOC,
        order.reduce_only,
        order.self_trade,
        order.client_id,
    )
