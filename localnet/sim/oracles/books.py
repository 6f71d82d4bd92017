"""The engine's books, kept a second time: deposits, and what every trade moved from whom to whom.

The engine's own invariants add its own numbers up. These books begin with the deposits of genesis
and know nothing but the fills: each must have cost both sides what its price and the fees say,
and after every height each account has to hold exactly what is left.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from engine.genesis import EngineGenesis
from engine.instructions import PlaceOrder
from engine.receipts import Fill
from engine.state import EngineState
from localnet.sim.node_world import NodeWorld
from localnet.sim.oracles.watchers import Execution, Watcher
from mempool.envelope import EnvelopeHeader
from mempool.ledger import FeeSchedule

_PPM: Final = 1_000_000


class Books(Watcher):
    """Holds every height's accounts, of whoever executes it first, against the books: all others
    must have the same state root."""

    def __init__(
        self, world: NodeWorld, genesis: EngineGenesis, exempt: Iterable[int] = ()
    ) -> None:
        self._world = world
        self.exempt = frozenset(exempt)
        self.markets = {params.market: params for params in genesis.markets}
        self.height = 0
        self.balances: Counter[bytes] = Counter()
        """Micro-quote by account."""
        self.positions: Counter[tuple[bytes, int]] = Counter()
        """Lots by account and market."""
        self.fees = 0
        for deposit in genesis.deposits:
            self.balances[deposit.account] += deposit.amount_microquote
        self.deposited = sum(self.balances.values())

    def on_executed(self, index: int, execution: Execution) -> None:
        height = execution.request.height
        if height != self.height + 1:
            return
        self.height = height
        self._book(execution.output.fills)
        self.compare(index, self._world.engines[index].state)

    def _book(self, fills: Iterable[Fill]) -> None:
        notionals: Counter[int] = Counter()
        charged: Counter[int] = Counter()
        for fill in fills:
            params = self.markets[fill.market]
            ticks = fill.price_ticks * fill.size_lots
            notional, rest = divmod(ticks * params.tick_size_microquote, params.lots_per_base)
            assert not rest, "prices are whole in micro-quote"
            order_id = fill.taker_order_id
            notionals[order_id] += notional
            charged[order_id] += fill.taker_fee_microquote
            due = (
                _round_up(notional * params.maker_fee_ppm),
                _round_up(notionals[order_id] * params.taker_fee_ppm),
            )
            found = (fill.maker_fee_microquote, charged[order_id])
            assert found == due, f"height {self.height}: fees {found}, due {due}"
            side = int(fill.taker_side)
            self.balances[fill.taker] -= side * notional + fill.taker_fee_microquote
            self.balances[fill.maker] -= fill.maker_fee_microquote - side * notional
            self.positions[fill.taker, fill.market] += side * fill.size_lots
            self.positions[fill.maker, fill.market] -= side * fill.size_lots
            self.fees += fill.maker_fee_microquote + fill.taker_fee_microquote

    def can_pay(self, account: bytes, order: PlaceOrder, times: int) -> bool:
        """Has an account so many times what its positions and an order are worth at its price?"""
        worth = 0
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
        Without changes of keys."""
        due = Counter(credits_given)
        for header in passed:
            if header.sender in credits_given:
                price = fees.base_microquote + fees.per_byte_microquote * header.body_size_bytes
                due[header.sender] -= price
        for account, left in credits_left.items():
            assert left == due[account], (
                f"{where}: account {account.hex()[:16]} has credit {left}, due {due[account]}"
            )

    def compare(self, index: int, state: EngineState) -> None:
        """Hold an engine's state at the height of the books against them."""
        where = f"node {index}, height {self.height}"
        found = (state.deposits_total, state.withdrawals_total, state.pending_withdrawals)
        assert found == (self.deposited, 0, 0), (
            f"{where}: deposits, withdrawals and those pending are {found},"
            f" and {self.deposited} was deposited"
        )
        pools = (state.fees, state.insurance)
        assert pools == (self.fees, 0), f"{where}: pools {pools}, paid in {self.fees}"
        for account_id, account in state.accounts.items():
            due = self.balances[account_id]
            assert account.quote == due, (
                f"{where}: account {account_id.hex()[:16]} has {account.quote}, due {due}"
            )
            for market, exposure in account.exposures.items():
                lots = self.positions[account_id, market]
                assert exposure.lots == lots, (
                    f"{where}: account {account_id.hex()[:16]} holds {exposure.lots} lots of market"
                    f" {market}, bought {lots}"
                )
        gone = [name for name, due in self.balances.items() if due and name not in state.accounts]
        assert not gone, f"{where}: {len(gone)} accounts are gone"


def _round_up(amount_millionths: int) -> int:
    """Millionths to whole ones: who pays more pays the rest, who gets less gives it."""
    return -(-amount_millionths // _PPM)
