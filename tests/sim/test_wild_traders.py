"""What the traders of some seeds ask for besides, and that their books are judged."""

from collections import Counter
from types import SimpleNamespace

import pytest

from crypto.codec import DecodeError, decode
from engine.instructions import (
    ArmDeadMan,
    Bid,
    Bundle,
    ConditionalOrder,
    OnBehalf,
    OneCancelsOther,
    SetMarginMode,
    TrailingStop,
    TwapOrder,
)
from engine.limits import SERIES_ID_FIRST
from engine.options import settlement
from engine.receipts import SettlementEvent, Status
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.watchers import Execution, Watcher
from localnet.sim.scenario import Outcome, run_schedule
from localnet.sim.schedule import Network, Schedule, Traffic

WILD = 2
"""A seed with options, session keys and traders that ask for anything."""
ASKED_FOR = (
    ArmDeadMan,
    Bid,
    ConditionalOrder,
    OneCancelsOther,
    SetMarginMode,
    TrailingStop,
    TwapOrder,
)


class Asked(Watcher):
    """What was executed, as whoever came first to a height told it."""

    def __init__(self, cluster: NodeCluster) -> None:
        self.cluster = cluster
        self.height = 0
        self.kinds: Counter[type] = Counter()
        self.taken: Counter[type] = Counter()
        self.sold = 0
        self.settled = 0

    def on_executed(self, index: int, execution: Execution) -> None:
        if execution.request.height != self.height + 1:
            return
        self.height += 1
        output = execution.output
        statuses = {(each.envelope_id, each.index): each.status for each in output.receipts}
        for envelope in execution.block.envelopes:
            try:
                instructions = decode(Bundle, envelope.body).instructions
            except DecodeError:
                continue
            for number, asked in enumerate(instructions):
                kind = type(asked.instruction if isinstance(asked, OnBehalf) else asked)
                self.kinds[kind] += 1
                self.taken[kind] += statuses[envelope.envelope_id, number] is not Status.REFUSED
        self.sold += sum(fill.market >= SERIES_ID_FIRST for fill in output.fills)
        self.settled += sum(isinstance(each, SettlementEvent) for each in output.events)

    def count_by_session_keys(self) -> int:
        """Envelopes of session keys that counted."""
        headers = (self.cluster.genuine[each] for each in self.cluster.order.passed)
        return sum(header.signer != header.sender for header in headers)


def run(seed: int, views: int) -> tuple[Outcome, Asked]:
    found = SimpleNamespace()

    def watch(cluster: NodeCluster) -> None:
        found.asked = Asked(cluster)
        cluster.world.observers.append(found.asked)

    # Slow enough for an expiry to come within few views.
    network = Network(delay_least_ms=30, delay_most_ms=40)
    traffic = Traffic(interval_ms=30)
    schedule = Schedule(seed=seed, views=views, network=network, traffic=traffic)
    return run_schedule(schedule, watch), found.asked


@pytest.fixture(scope="module")
def wild() -> tuple[Outcome, Asked]:
    return run(WILD, 45)


def test_wild_traders_ask_for_everything_and_the_books_balance(wild) -> None:
    outcome, asked = wild
    assert outcome.violation is None
    assert [kind for kind in ASKED_FOR if not asked.kinds[kind]] == []
    # Nobody is under liquidation.
    assert [kind for kind in ASKED_FOR if not asked.taken[kind]] == [Bid]
    assert asked.sold
    assert asked.settled


def test_session_keys_sign_once_they_count(wild) -> None:
    _, asked = wild
    assert asked.count_by_session_keys() > 5


def test_all_others_ask_for_what_is_judged_order_by_order() -> None:
    outcome, asked = run(1, 10)
    assert outcome.violation is None
    assert not any(asked.kinds[kind] for kind in ASKED_FOR)
    assert asked.cluster.trades.is_judging
    assert asked.count_by_session_keys() == 0


def test_a_settlement_that_pays_one_too_much_is_found(monkeypatch) -> None:
    """By all nodes alike: their roots agree, and money is conserved."""
    true = settlement.compute_payoff
    monkeypatch.setattr(settlement, "compute_payoff", lambda *each: true(*each) + 1)
    outcome, _ = run(WILD, 45)
    assert outcome.violation is not None
    assert outcome.violation.oracle == "Books"
    assert "SettlementEvent" in outcome.violation.detail
