"""The market state: everything that the next block may depend on, and the caches beside it."""

from typing import TYPE_CHECKING

from crypto.codec import encode
from crypto.digest import Domain, digest
from crypto.merkle import MerkleTree
from engine.accounts.account import Account
from engine.accounts.fees import install_fee_tiers
from engine.genesis import EngineGenesis, MarketParams, validate_genesis
from engine.limits import SERIES_ID_FIRST
from engine.liquidation.distress import Liquidations
from engine.options.chains import OptionChain
from engine.trading.book import Order
from engine.trading.market import Market
from engine.waiting.orders import Agenda, Waiting

if TYPE_CHECKING:
    from engine.accounts.withdrawals import Withdrawal


class EngineState:
    """Mutable, owned by one thread; `engine.apply.apply_block` is its only writer after genesis."""

    __slots__ = (
        "account_open_orders_max",
        "accounts",
        "chains",
        "checked_owed",
        "deadlines",
        "deposits_total",
        "dirty_accounts",
        "dirty_withdrawals",
        "expiries",
        "fee_epoch",
        "fees",
        "funding_paid",
        "funding_pool",
        "genesis",
        "genesis_digest",
        "has_call_auctions",
        "has_portfolios",
        "height",
        "insurance",
        "is_funded",
        "is_rootless",
        "liquidations",
        "margin_epoch",
        "markets",
        "next_order_id",
        "next_series_id",
        "next_withdrawal_id",
        "orders",
        "pairs",
        "pending_withdrawals",
        "perpetuals",
        "removed_markets",
        "reporters",
        "session_expiries",
        "settlement_pool",
        "slices",
        "time_ms",
        "tree",
        "waiting",
        "waiting_expiries",
        "withdrawals",
        "withdrawals_total",
    )

    def __init__(self, genesis: EngineGenesis) -> None:
        """An empty state with the markets of `genesis`; `create_state` also credits deposits."""
        self.genesis = genesis
        self.genesis_digest = digest(Domain.GENESIS, encode(genesis))
        self.account_open_orders_max = genesis.account_open_orders_max
        self.height = 0
        self.time_ms = genesis.time_ms
        self.perpetuals: dict[int, Market] = {
            params.market: Market(params) for params in sorted(genesis.markets, key=_market_id)
        }
        """The markets of the genesis, by id, in rising order."""
        self.markets: dict[int, Market] = dict(self.perpetuals)
        """These and the option series, by id, in rising order."""
        self.chains: dict[int, OptionChain] = {
            market_id: OptionChain(market, market.params.options)
            for market_id, market in self.perpetuals.items()
            if market.params.options is not None
        }
        """The options on each underlying that has any, by its id."""
        for chain in self.chains.values():
            chain.underlying.chain = chain
        self.has_portfolios = any(
            chain.params.portfolio is not None for chain in self.chains.values()
        )
        """Does any market have rules for portfolio margin?"""
        self.next_series_id = SERIES_ID_FIRST
        self.removed_markets: list[int] = []
        """Series whose leaves are still to be taken out of the tree."""
        self.has_call_auctions = any(market.has_call_auctions for market in self.markets.values())
        """Does any market match by auctions?"""
        for market in self.perpetuals.values():
            install_fee_tiers(self, market)
        self.accounts: dict[bytes, Account] = {}
        self.orders: dict[int, Order] = {}
        """Every resting order."""
        self.next_order_id = 1
        self.expiries: list[tuple[int, int]] = []
        """Heap of (good_til_ms, order id); an id that is gone from `orders` is skipped."""
        self.waiting: dict[int, Waiting] = {}
        """Every conditional and TWAP order."""
        self.waiting_expiries: Agenda[int] = Agenda()
        """Conditional orders that do not wait for ever."""
        self.slices: Agenda[int] = Agenda()
        """TWAP orders by the time of their next slice."""
        self.pairs: dict[int, int] = {}
        """The id of the waiting leg, by the id of the resting one."""
        self.deadlines: Agenda[bytes] = Agenda()
        """Accounts whose dead man's switch is armed."""
        self.session_expiries: Agenda[tuple[bytes, bytes]] = Agenda()
        """Session keys by the time at which they expire: account and key."""
        self.fee_epoch = 0
        """The epoch of the fee schedule that the block time is in, from 1; 0: there is none."""
        self.fees = 0
        """The fee bucket, micro-quote."""
        self.funding_pool = 0
        """The other side of every funding payment; what accounts have not settled yet is in it."""
        self.funding_paid: list[tuple[bytes, int]] = []
        """What accounts settled in the block that runs, in that order; its events tell it."""
        self.is_funded = any(params.funding is not None for params in genesis.markets)
        """Does any market have funding?"""
        self.settlement_pool = 0
        """The other side of every option's settlement: what rounding took, and what bounds on
        balances left out."""
        self.insurance = 0
        self.liquidations = (
            None if genesis.liquidation is None else Liquidations(genesis.liquidation)
        )
        """Who is liquidated; None: nobody ever."""
        for market in self.markets.values():
            market.is_cost_kept = self.liquidations is not None
        self.deposits_total = 0
        self.pending_withdrawals = 0
        """The sum of `withdrawals`."""
        self.withdrawals_total = 0
        self.withdrawals: dict[int, Withdrawal] = {}
        """Those that L1 has not settled, by number."""
        self.next_withdrawal_id = 1
        self.checked_owed = 0
        """What all balances had to sum to at the last conservation check."""
        self.margin_epoch = 0
        """Cache key: moves whenever a mark or a funding index does."""
        self.reporters: dict[bytes, int] = {}
        """Cache: power by key of the last block, to see when the committee changes."""
        self.dirty_accounts: list[Account] = []
        """Accounts whose leaf is out of date."""
        self.dirty_withdrawals: list[int] = []
        """Withdrawals that came or went, by number."""
        self.tree = MerkleTree()
        self.is_rootless = False
        """Changes were forgotten without a root: only ever in measurements."""

    def mark_dirty(self, account: Account) -> None:
        """Note that an account's leaf must be computed anew."""
        if not account.dirty:
            account.dirty = True
            self.dirty_accounts.append(account)

    def forget_changes(self) -> None:
        """Empty the lists of what has changed."""
        for account in self.dirty_accounts:
            account.dirty = False
        self.dirty_accounts.clear()
        self.removed_markets.clear()
        self.dirty_withdrawals.clear()

    def open_account(self, account_id: bytes) -> Account:
        """The account of this id, opened empty if there is none."""
        account = self.accounts.get(account_id)
        if account is None:
            account = self.accounts[account_id] = Account(account_id)
            if self.liquidations is not None:
                self.liquidations.add_account(account_id)
        return account

    def credit_deposit(self, account_id: bytes, amount_microquote: int) -> None:
        """Add collateral from outside, opening the account if need be."""
        account = self.open_account(account_id)
        account.quote += amount_microquote
        account.equity += amount_microquote
        self.deposits_total += amount_microquote
        self.mark_dirty(account)
        if self.liquidations is not None:
            self.liquidations.hasten(account, self.time_ms)


def create_state(genesis: EngineGenesis) -> EngineState:
    """Return the state at height 0. Raises `engine.genesis.GenesisError`."""
    validate_genesis(genesis)
    state = EngineState(genesis)
    for deposit in genesis.deposits:
        state.credit_deposit(deposit.account, deposit.amount_microquote)
        account = state.accounts[deposit.account]
        account.checked_quote = account.quote
    state.checked_owed = state.deposits_total
    if genesis.liquidation is not None:
        state.insurance = genesis.liquidation.insurance_microquote
        state.deposits_total += state.insurance
    return state


def _market_id(params: MarketParams) -> int:
    return params.market
