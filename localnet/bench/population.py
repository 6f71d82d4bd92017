"""A fixed population around one piece of news, and what one block makes of it.

One trial is three blocks of a market that has just been quoted:

1. Makers quote both sides of the index.
2. The index jumps. The quotes on one side are stale: whoever takes them gains what they miss.
   Some makers are quick and replace theirs in this block; rivals take what still pays; others
   trade as they always do. The trader who is looked at takes, too.
3. What was held back arrives, and the other makers replace their quotes.

Everything follows from the trial's number: who quotes what, how far the index jumps, who wants how
much at which margin, and the seeds of the blocks. What is compared differs only in what is held
back from block 2, and in how the trader who is looked at sends the order. Profits are at the new
index, fees included.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from msgspec.structs import replace

from crypto.codec import encode
from crypto.digest import Domain, digest
from engine.apply import run_block
from engine.block import BlockInput, EngineEnvelope, Reporter
from engine.genesis import EngineGenesis, GenesisDeposit, Matching
from engine.instructions import (
    Bundle,
    CancelAll,
    Instruction,
    MarketOrder,
    OracleReport,
    PlaceOrder,
    Side,
    TimeInForce,
)
from engine.invariants import validate_all
from engine.limits import PPM
from engine.state import EngineState, create_state
from localnet.markets import make_plain_market
from localnet.splitmix import SplitMix

MARKET: Final = 1
BASE_TICKS: Final = 100_000
MAKERS: Final = 6
LEVELS: Final = 5
QUICK_ONE_IN: Final = 3
"""So many makers on average are one who replaces stale quotes in the block of the news."""

RIVALS: Final = 6
OTHERS: Final = 6
OWN_LOTS: Final = 32
"""What the trader who is looked at wants."""

ACCOUNTS_MAX: Final = 16
"""Over so many accounts it may be split."""

_SHADES: Final = 4
_SHADE_TICKS: Final = 20
"""Whoever takes because of the news asks for no margin or for one of a few: so some agree."""

_PARAMS: Final = replace(make_plain_market(MARKET, "FAIR-PERP"), lots_per_base=1)
"""A lot is one unit of the base, worth about 1,000 in quote; a tick is a 100,000th of that."""

_BALANCE: Final = 10**12
_BLOCK_MS: Final = 100
_PROTECTION_TICKS: Final = 3_000
_REPORTER: Final = digest(Domain.SEED, b"fairness", b"reporter")
_REPORTERS: Final = (Reporter(_REPORTER, 1),)


class Group(Enum):
    """Who sends an envelope."""

    MAKERS = "makers"
    RIVALS = "rivals"
    OTHERS = "others"
    OWN = "own"


class Sent(NamedTuple):
    """One bundle of one account."""

    account: bytes
    instructions: tuple[Instruction, ...]


class Profits(NamedTuple):
    """Micro-quote, at the new index, by group."""

    own: int
    rivals: int
    makers: int
    own_lots: int
    """What the trader who is looked at has traded."""


def _name(group: Group, index: int) -> bytes:
    return digest(Domain.SEED, b"fairness", group.value.encode(), index.to_bytes(2, "big"))


OWN_ACCOUNTS: Final = tuple(_name(Group.OWN, index) for index in range(ACCOUNTS_MAX))
_MAKER_ACCOUNTS: Final = tuple(_name(Group.MAKERS, index) for index in range(MAKERS))
_RIVAL_ACCOUNTS: Final = tuple(_name(Group.RIVALS, index) for index in range(RIVALS))
_OTHER_ACCOUNTS: Final = tuple(_name(Group.OTHERS, index) for index in range(OTHERS))


class Trial:
    """What everybody sends around one piece of news."""

    def __init__(self, seed: int, number: int) -> None:
        self._seed = digest(Domain.SEED, seed.to_bytes(8, "big"), number.to_bytes(8, "big"))
        draw = SplitMix(int.from_bytes(self._seed[:8], "big")).below
        self.side = Side.BUY if draw(2) else Side.SELL
        """On which the news pays."""
        self.index_ticks = BASE_TICKS + self.side * (100 + draw(200))
        fee_ticks = -(-self.index_ticks * _PARAMS.taker_fee_ppm // PPM)
        self._fair_ticks = self.index_ticks - self.side * fee_ticks
        """The last price at which taking does not lose."""
        self._own_shading = draw(_SHADES)
        self.quotes = [Sent(each, _quote(BASE_TICKS, draw)) for each in _MAKER_ACCOUNTS]
        self.quick: list[Sent] = []
        self.slow: list[Sent] = []
        for account in _MAKER_ACCOUNTS:
            update = Sent(account, (CancelAll(), *_quote(self.index_ticks, draw)))
            (self.slow if draw(QUICK_ONE_IN) else self.quick).append(update)
        self.rivals = [
            Sent(account, (self.take(10 + draw(40), draw(_SHADES)),)) for account in _RIVAL_ACCOUNTS
        ]
        self.others: list[Sent] = []
        for account in _OTHER_ACCOUNTS:
            side = Side.BUY if draw(2) else Side.SELL
            worst = self.index_ticks + side * _PROTECTION_TICKS
            self.others.append(Sent(account, (MarketOrder(MARKET, side, worst, 1 + draw(8)),)))

    def take(self, lots: int, shading: int) -> PlaceOrder:
        """Take at once what pays, and a bit more or less of a margin on top."""
        limit = self._fair_ticks - self.side * shading * _SHADE_TICKS
        return PlaceOrder(MARKET, self.side, limit, lots, TimeInForce.IOC)

    def compute_prize(self) -> int:
        """What all quotes are worth to whoever could take them alone, micro-quote, less fees."""
        params = _PARAMS
        total = 0
        for sent in self.quotes:
            for order in sent.instructions:
                assert isinstance(order, PlaceOrder)
                gain = self.side * (self.index_ticks - order.price_ticks)
                notional = order.price_ticks * order.size_lots * params.unit_microquote
                fee = -(-notional * params.taker_fee_ppm // PPM)
                if order.side != self.side:
                    total += max(gain * order.size_lots * params.unit_microquote - fee, 0)
        return total

    def play(
        self,
        matching: Matching,
        own: Sequence[int],
        omitted: frozenset[Group] = frozenset(),
        delayed: frozenset[Group] = frozenset(),
    ) -> Profits:
        """Run the three blocks. `own` is what each account of the trader asks for, in lots."""
        state = create_state(_make_genesis(matching))
        self._run(state, BASE_TICKS, self.quotes)
        sent = {
            Group.MAKERS: self.quick,
            Group.RIVALS: self.rivals,
            Group.OTHERS: self.others,
            Group.OWN: [
                Sent(account, (self.take(lots, self._own_shading),))
                for account, lots in zip(OWN_ACCOUNTS, own, strict=False)
            ],
        }
        now: list[Sent] = []
        late: list[Sent] = []
        for group, bundles in sent.items():
            if group in delayed:
                late += bundles
            elif group not in omitted:
                now += bundles
        self._run(state, self.index_ticks, now)
        self._run(state, self.index_ticks, late + self.slow)
        validate_all(state)
        return Profits(
            _sum_profits(state, OWN_ACCOUNTS),
            _sum_profits(state, _RIVAL_ACCOUNTS),
            _sum_profits(state, _MAKER_ACCOUNTS),
            sum(_read_position(state, account) for account in OWN_ACCOUNTS) * self.side,
        )

    def _run(self, state: EngineState, index_ticks: int, bundles: Sequence[Sent]) -> None:
        height = state.height + 1
        time_ms = height * _BLOCK_MS
        report = OracleReport(MARKET, index_ticks, height, time_ms)
        envelopes = tuple(
            EngineEnvelope(
                digest(Domain.SEED, sent.account, height.to_bytes(8, "big")),
                sent.account,
                height,
                encode(Bundle(sent.instructions)),
            )
            for sent in (*bundles, Sent(_REPORTER, (report,)))
        )
        seed = digest(Domain.SEED, self._seed, height.to_bytes(8, "big"))
        # Roots would change nothing that is measured here.
        run_block(state, BlockInput(height, time_ms, seed, envelopes, (), _REPORTERS), False)


def _make_genesis(matching: Matching) -> EngineGenesis:
    market = replace(_PARAMS, matching=matching)
    accounts = (*_MAKER_ACCOUNTS, *_RIVAL_ACCOUNTS, *_OTHER_ACCOUNTS, *OWN_ACCOUNTS)
    return EngineGenesis((market,), tuple(GenesisDeposit(each, _BALANCE) for each in accounts))


def _quote(mid_ticks: int, draw: Callable[[int], int]) -> tuple[PlaceOrder, ...]:
    return tuple(
        PlaceOrder(
            MARKET,
            side,
            mid_ticks - side * (10 + 20 * level + draw(20)),
            2 + draw(6),
            TimeInForce.POST_ONLY,
        )
        for side in (Side.BUY, Side.SELL)
        for level in range(LEVELS)
    )


def _read_position(state: EngineState, account_id: bytes) -> int:
    exposure = state.accounts[account_id].exposures.get(MARKET)
    return 0 if exposure is None else exposure.lots


def _sum_profits(state: EngineState, accounts: Sequence[bytes]) -> int:
    value = state.markets[MARKET].index_value
    return sum(
        state.accounts[each].quote + _read_position(state, each) * value - _BALANCE
        for each in accounts
    )
