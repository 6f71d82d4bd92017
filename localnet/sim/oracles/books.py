"""The engine's books, kept a second time: deposits, and what every trade moved from whom to whom.

The engine's own invariants add its own numbers up. These books begin with the deposits of genesis
and know nothing but the fills, transfers and withdrawals that it tells: each fill must have cost
both sides what its price and the fees say, nobody may give away more than all there is, and after
every height each account has to hold exactly what is left.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final, NamedTuple

from msgspec.structs import replace

from engine.genesis import EngineGenesis, Matching
from engine.instructions import PlaceOrder
from engine.receipts import (
    Event,
    ExpiryEvent,
    Fill,
    SeriesListedEvent,
    SettlementEvent,
    TransferEvent,
    WithdrawalEvent,
    WithdrawalState,
)
from engine.state import EngineState
from localnet.sim.node_world import NodeWorld
from localnet.sim.oracles.watchers import Execution, Watcher
from mempool.envelope import BodyKind, EnvelopeHeader
from mempool.ledger import FeeSchedule

_PPM: Final = 1_000_000

SUB_ACCOUNTS: Final = 2
"""Sub-accounts of each account that may trade in a run."""


def derive_sub_account(owner: bytes, number: int) -> bytes:
    """The id of a sub-account: SHA-256 over the domain and the parts, each after its length."""
    domain = b"rota/sub-account/v1"
    parts = (owner, number.to_bytes(4, "big"))
    data = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return sha256(bytes([len(domain)]) + domain + data).digest()


class Leaving(NamedTuple):
    """A withdrawal that L1 has not settled."""

    account: bytes
    destination: bytes
    amount: int
    height: int


class Books(Watcher):
    """Holds every height's accounts, of whoever executes it first, against the books: all others
    must have the same state root."""

    def __init__(
        self, world: NodeWorld, genesis: EngineGenesis, exempt: Iterable[int] = ()
    ) -> None:
        self._world = world
        self.exempt = frozenset(exempt)
        self.markets = {params.market: params for params in genesis.markets}
        self.calls = frozenset(
            params.market for params in genesis.markets if params.matching is Matching.AUCTION
        )
        """Markets that call auctions. What their fills cost, `Trades` judges: it knows who had
        waited."""
        self.height = 0
        self.balances: Counter[bytes] = Counter()
        """Micro-quote by account."""
        self.positions: Counter[tuple[bytes, int]] = Counter()
        """Lots by account and market."""
        self.fees = 0
        self.series: dict[int, SeriesListedEvent] = {}
        """Options that have not expired, by market."""
        self.settlement_pool = 0
        """What rounding left of payments between longs and shorts."""
        self._due: dict[tuple[bytes, int], tuple[int, int]] = {}
        """Positions in options that expire, and what they receive, by account and market."""
        for deposit in genesis.deposits:
            self.balances[deposit.account] += deposit.amount_microquote
        self.opened = dict.fromkeys(self.balances, 0)
        """The height at which an account came to be."""
        self.deposited = sum(self.balances.values())
        self.tiers = genesis.fee_tiers
        self.volumes: Counter[tuple[bytes, int]] = Counter()
        """Micro-quote traded, by owner and epoch."""
        self.subs = {
            derive_sub_account(deposit.account, number): (deposit.account, number)
            for deposit in genesis.deposits
            for number in range(1, SUB_ACCOUNTS + 1)
        }
        """Owner and number, by the id of the sub-account, also of those that nobody opens."""
        self.leaving: dict[int, Leaving] = {}
        """Pending withdrawals by number."""
        self.next_withdrawal = 1
        self.withdrawn = 0

    def on_executed(self, index: int, execution: Execution) -> None:
        height = execution.request.height
        if height != self.height + 1:
            return
        self.height = height
        for event in execution.output.events:
            if isinstance(event, SeriesListedEvent):
                self._list(event)
        self._book(execution.output.fills, execution.block.time_ms)
        for event in execution.output.events:
            self._move(event)
        assert not self._due, f"height {height}: {len(self._due)} positions are not settled"
        self.compare(index, self._world.engines[index].state)

    def owner_of(self, account: bytes) -> bytes:
        """Whose volume an account's trades are."""
        return self.subs.get(account, (account, 0))[0]

    def _reduce(self, account: bytes, epoch: int) -> tuple[int, int]:
        """By how many millionths an account's fees are lower, as (maker, taker), in an epoch: by
        the last step that the volume of the epochs before has reached."""
        maker = taker = 0
        if self.tiers is not None:
            owner = self.owner_of(account)
            past = range(epoch - self.tiers.epochs, epoch)
            traded = sum(self.volumes[owner, each] for each in past)
            for tier in self.tiers.tiers:
                if traded >= tier.volume_microquote:
                    maker, taker = tier.maker_reduction_ppm, tier.taker_reduction_ppm
        return maker, taker

    def _find_epoch(self, time_ms: int) -> int:
        return 0 if self.tiers is None else time_ms // self.tiers.epoch_ms + 1

    def find_rates(self, account: bytes, market: int, time_ms: int) -> tuple[int, int]:
        """What an account pays of a notional, in millionths, as (maker, taker)."""
        params = self.markets[market]
        maker_less, taker_less = self._reduce(account, self._find_epoch(time_ms))
        return params.maker_fee_ppm - maker_less, params.taker_fee_ppm - taker_less

    def value(self, fill: Fill) -> int:
        """The notional of a fill, micro-quote."""
        params = self.markets[fill.market]
        ticks = fill.price_ticks * fill.size_lots
        notional, rest = divmod(ticks * params.tick_size_microquote, params.lots_per_base)
        assert not rest, "prices are whole in micro-quote"
        return notional

    def _list(self, event: SeriesListedEvent) -> None:
        """An option is a market with lots of its underlying, and ticks and fees of its own."""
        underlying = self.markets[event.underlying]
        options = underlying.options
        assert options is not None, f"market {event.underlying} has no options"
        assert event.market not in self.markets, f"market {event.market} is there already"
        self.series[event.market] = event
        self.markets[event.market] = replace(
            underlying,
            market=event.market,
            tick_size_microquote=options.tick_size_microquote,
            maker_fee_ppm=options.maker_fee_ppm,
            taker_fee_ppm=options.taker_fee_ppm,
            options=None,
        )

    def _book(self, fills: Iterable[Fill], time_ms: int) -> None:
        epoch = self._find_epoch(time_ms)
        notionals: Counter[int] = Counter()
        charged: Counter[int] = Counter()
        for fill in fills:
            notional = self.value(fill)
            order_id = fill.taker_order_id
            notionals[order_id] += notional
            charged[order_id] += fill.taker_fee_microquote
            owners = {self.owner_of(fill.maker), self.owner_of(fill.taker)}
            if epoch and len(owners) == 2:
                for owner in sorted(owners):
                    self.volumes[owner, epoch] += notional
            if fill.market not in self.calls:
                maker_ppm, _ = self.find_rates(fill.maker, fill.market, time_ms)
                _, taker_ppm = self.find_rates(fill.taker, fill.market, time_ms)
                due = (round_up(notional * maker_ppm), round_up(notionals[order_id] * taker_ppm))
                found = (fill.maker_fee_microquote, charged[order_id])
                assert found == due, f"height {self.height}: fees {found}, due {due}"
            side = int(fill.taker_side)
            self.balances[fill.taker] -= side * notional + fill.taker_fee_microquote
            self.balances[fill.maker] -= fill.maker_fee_microquote - side * notional
            self.positions[fill.taker, fill.market] += side * fill.size_lots
            self.positions[fill.maker, fill.market] -= side * fill.size_lots
            self.fees += fill.maker_fee_microquote + fill.taker_fee_microquote

    def _move(self, event: Event) -> None:
        """Collateral that changes hands, leaves or comes back."""
        if isinstance(event, ExpiryEvent):
            self._expire(event)
        elif isinstance(event, SettlementEvent):
            self._settle(event)
        elif isinstance(event, TransferEvent):
            self._require_positive(event.amount_microquote)
            self.balances[event.source] -= event.amount_microquote
            self.balances[event.target] += event.amount_microquote
            self.opened.setdefault(event.target, self.height)
        elif isinstance(event, WithdrawalEvent):
            amount, number = event.amount_microquote, event.withdrawal_id
            found = Leaving(event.account, event.destination, amount, self.height)
            if event.state is WithdrawalState.PENDING:
                self._require_positive(amount)
                assert number == self.next_withdrawal, f"withdrawal {number} is out of turn"
                self.next_withdrawal += 1
                self.balances[event.account] -= amount
                self.leaving[number] = found
                return
            due = self.leaving.pop(number, None)
            if event.state is WithdrawalState.UNKNOWN:
                assert due is None, f"withdrawal {number} is pending"
                return
            assert due is not None, f"withdrawal {number} is not pending"
            assert due[:3] == found[:3], f"withdrawal {number} is {found}, was {due}"
            if event.state is WithdrawalState.PAID:
                self.withdrawn += amount
            else:
                self.balances[event.account] += amount

    def _expire(self, event: ExpiryEvent) -> None:
        """All positions in the options of one expiry are due: a call's holder receives what the
        price is above the strike, a put's what it is below, rounded down, and a short pays it."""
        for number, series in sorted(self.series.items()):
            if (series.underlying, series.expiry_ms) != (event.underlying, event.expiry_ms):
                continue
            above = event.price_sum_ticks - event.price_samples * series.strike_ticks
            value = max(above if series.is_call else -above, 0)
            own = self.markets[series.underlying]
            unit = own.tick_size_microquote // own.lots_per_base
            for (account, market), lots in self.positions.items():
                if market == number and lots:
                    self._due[account, market] = (lots, lots * value * unit // event.price_samples)
            del self.series[number]

    def _settle(self, event: SettlementEvent) -> None:
        name = (event.account, event.market)
        found, due = (event.size_lots, event.amount_microquote), self._due.pop(name, None)
        assert found == due, f"height {self.height}: {event}, due {due}"
        del self.positions[name]
        self.balances[event.account] += event.amount_microquote
        self.settlement_pool -= event.amount_microquote

    def _require_positive(self, amount: int) -> None:
        assert 0 < amount <= self.deposited, f"height {self.height}: {amount} moves"

    def can_pay(self, account: bytes, order: PlaceOrder, times: int) -> bool:
        """Has an account so many times what its positions and an order are worth at its price?"""
        own = self.markets[order.market]
        unit = own.tick_size_microquote // own.lots_per_base
        worth = order.size_lots * order.price_ticks * unit
        for (owner, market), lots in self.positions.items():
            params = self.markets.get(market)
            if owner == account and params is not None:
                unit = params.tick_size_microquote // params.lots_per_base
                worth += (abs(lots) + order.size_lots) * order.price_ticks * unit
        return self.balances[account] >= times * worth

    def validate_credit(
        self,
        credits_left: Mapping[bytes, int],
        credits_given: Mapping[bytes, int],
        passed: Iterable[EnvelopeHeader],
        fees: FeeSchedule,
        where: str,
    ) -> None:
        """At rest: every account's prepaid credit is what was given less the fees of what passed.
        Traders change one key in an envelope."""
        due = Counter(credits_given)
        for header in passed:
            if header.sender in credits_given:
                price = fees.base_microquote + fees.per_byte_microquote * header.body_size_bytes
                if header.kind is BodyKind.KEYS:
                    price += fees.per_key_microquote
                due[header.sender] -= price
        for account, left in credits_left.items():
            assert left == due[account], (
                f"{where}: account {account.hex()[:16]} has credit {left}, due {due[account]}"
            )

    def compare(self, index: int, state: EngineState) -> None:
        """Hold an engine's state at the height of the books against them."""
        where = f"node {index}, height {self.height}"
        found = (state.deposits_total, state.withdrawals_total, state.pending_withdrawals)
        pending = sum(each.amount for each in self.leaving.values())
        due = (self.deposited, self.withdrawn, pending)
        assert found == due, (
            f"{where}: deposits, withdrawals and those pending are {found}, due {due}"
        )
        pools = (state.fees, state.insurance, state.settlement_pool)
        due_pools = (self.fees, 0, self.settlement_pool)
        assert pools == due_pools, f"{where}: pools {pools}, due {due_pools}"
        for account_id, account in state.accounts.items():
            balance = self.balances[account_id]
            assert account.quote == balance, (
                f"{where}: account {account_id.hex()[:16]} has {account.quote}, due {balance}"
            )
            for market, exposure in account.exposures.items():
                lots = self.positions[account_id, market]
                assert exposure.lots == lots, (
                    f"{where}: account {account_id.hex()[:16]} holds {exposure.lots} lots of market"
                    f" {market}, bought {lots}"
                )
        gone = [name for name, due in self.balances.items() if due and name not in state.accounts]
        assert not gone, f"{where}: {len(gone)} accounts are gone"


def round_up(amount_millionths: int) -> int:
    """Millionths to whole ones: who pays more pays the rest, who gets less gives it."""
    return -(-amount_millionths // _PPM)
