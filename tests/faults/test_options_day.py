"""A day of options in a scenario: how it is declared, recorded out of blocks, judged and drawn."""

from fractions import Fraction
from xml.etree import ElementTree

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from crypto.codec import encode
from engine.apply import apply_block
from engine.block import BlockInput, EngineEnvelope, Reporter
from engine.genesis import EngineGenesis, GenesisDeposit
from engine.instructions import (
    Bundle,
    MarginMode,
    MarketOrder,
    OracleReport,
    PlaceOrder,
    SetMarginMode,
    Side,
    VolatilityReport,
)
from engine.invariants import validate_all
from engine.receipts import ReasonCode, SettlementEvent
from engine.state import create_state
from localnet.faults.expectations import NEED_OPTIONS
from localnet.faults.options_chart import (
    OPTIONS_CHART_NAME,
    choose_chain,
    choose_nearest,
    describe_options,
    render_options_chart,
    say_usd,
    write_options_chart,
)
from localnet.faults.options_record import OptionsRecord
from localnet.faults.orders import OrdersSeen
from localnet.faults.runner import REPORT_FILES
from localnet.faults.scenario import ScenarioError, find_scenario, load_scenario
from localnet.faults.scenario import parse_scenario as parse
from localnet.faults.verdict import Seen, judge
from localnet.markets import MARKETS
from localnet.options_day import (
    CROSS_SPREADER,
    PORTFOLIO_SPREADER,
    OptionsDay,
    SpreadAttempt,
)
from localnet.splitmix import SplitMix
from localnet.verdicts import Verdict

TABLE = """
[options]
market = "BTC-PERP"
expiry_every = "60s"
window = "21s"
sample_every = "3s"
strike_step = 50
strikes_each_side = 2
quoters = [5_000_000]
takers = [250_000, 100_000]
spreader = 3_000
"""
DAY = OptionsDay(
    "BTC-PERP", 60.0, 21.0, 3.0, 50, 2, 3_000, quoters=(5_000_000,), takers=(250_000, 100_000)
)
PARAMS = DAY.markets(MARKETS)[0]
USD = 1_000_000
INDEX = 600_000
"""Ticks: 60,000 USD."""
START_MS = 1_700_000_000_000 // 60_000 * 60_000

# ---- in a scenario -----------------------------------------------------------------------------


def test_a_scenario_declares_a_day_of_options():
    assert parse("x", f'run_for = "130s"\n{TABLE}').options == DAY
    assert parse("x", 'run_for = "20s"').options is None
    shipped = load_scenario(find_scenario("options_day"))
    assert shipped.options is not None
    assert shipped.run_for_s < 240
    expected = {key for each in shipped.expectations for key in to_builtins(each)}
    assert {"spreads_accepted_at_least", "spreads_refused_at_least"} < expected


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("BTC-PERP", "XAU-PERP", "XAU-PERP"),
        ("BTC-PERP", "ETH-PERP", "no options on ETH-PERP"),
        ('expiry_every = "60s"', 'expiry_every = "59s"', "expiry_every"),
        ('expiry_every = "60s"', 'expiry_every = "70s"', "two expiries"),
        ('window = "21s"', 'window = "20s"', "no multiple"),
        ('window = "21s"', 'window = "60s"', "no shorter"),
        ('sample_every = "3s"', "", "sample_every"),
        ("spreader", "spreaders", "spreader"),
        ("[5_000_000]", "[0]", "quoters"),
        ("\n[options]", "traders = false\n[options]", "without traders"),
        (
            "\n[options]",
            '\n[crash]\nmarket = "BTC-PERP"\nfrom = "5s"\nfor = "10s"\nfall_percent = 40\n'
            "insurance = 1\nleverage_percent = 100\n[options]",
            "a crash and options",
        ),
    ],
)
def test_a_day_of_options_that_makes_no_sense_is_refused(old, new, said):
    assert old in TABLE
    with pytest.raises(ScenarioError) as caught:
        parse("x", f'run_for = "130s"\n{TABLE.replace(old, new)}')
    assert said in f"{caught.value.message} {caught.value.advice}"


# ---- a day of the engine -----------------------------------------------------------------------

QUOTER, TAKER, OTHER, SPREADER, CROSS, ORACLE = (bytes([number]) * 32 for number in range(1, 7))
NAMES = {
    QUOTER: ("quoter0", 5_000_000 * USD),
    TAKER: ("taker0", 250_000 * USD),
    OTHER: ("taker1", 100_000 * USD),
    SPREADER: (PORTFOLIO_SPREADER, 3_000 * USD),
    CROSS: (CROSS_SPREADER, 3_000 * USD),
}


class Exchange:
    """One market with options of minutes, an oracle, and a record of its blocks."""

    def __init__(self) -> None:
        deposits = tuple(GenesisDeposit(account, amount) for account, (_, amount) in NAMES.items())
        self.state = create_state(EngineGenesis((PARAMS,), deposits, START_MS))
        self.attempts = [
            SpreadAttempt(name, "a", "b", 5_000, self.name_envelope(number))
            for number, name in ((4_001, PORTFOLIO_SPREADER), (4_002, CROSS_SPREADER))
        ]
        self.record = OptionsRecord(PARAMS, NAMES, self.attempts)
        self.time_ms = START_MS
        self.count = 0
        self.change = lambda output: output

    @staticmethod
    def name_envelope(number):
        return number.to_bytes(32, "big")

    def block(self, *sent, after_ms=100, number=None):
        """Sent are pairs of sender and instruction."""
        self.time_ms += after_ms
        envelopes = []
        for sender, instruction in sent:
            self.count += 1
            key = self.name_envelope(self.count if number is None else number)
            envelopes.append(
                EngineEnvelope(key, sender, self.count, encode(Bundle((instruction,))))
            )
        output = apply_block(
            self.state,
            BlockInput(
                self.state.height + 1,
                self.time_ms,
                bytes(32),
                tuple(envelopes),
                reporters=(Reporter(ORACLE, 1),),
            ),
        )
        self.record.note_block(self.state, self.change(output))
        return output.receipts

    def report(self, index, after_ms=100):
        time_ms = self.time_ms + after_ms
        vols = (550_000,) * 10
        self.block(
            (ORACLE, OracleReport(1, index, time_ms, time_ms)),
            (ORACLE, VolatilityReport(1, vols, time_ms, time_ms)),
            after_ms=after_ms,
        )

    def calls(self):
        """Of the next expiry, by strike."""
        expiry = next(iter(self.state.chains[1].expiries.values()))
        return [call for _, (call, _) in sorted(expiry.strikes.items())]

    def trade(self, taker, market, side, lots, number=None):
        """Against a quote at the mark; the quoter's other side is far away."""
        name, mark = market.market_id, market.mark_price
        far = PlaceOrder(name, side, mark + 1_000 if side is Side.SELL else max(1, mark // 2), 1)
        quotes = [PlaceOrder(name, Side(-side), mark, lots), *([far] if mark > 1 else [])]
        self.block(*((QUOTER, each) for each in quotes))
        order = MarketOrder(market.market_id, side, market.mark_price, lots)
        (receipt,) = self.block((taker, order), number=number)
        return receipt


def spread(exchange):
    """Both spreaders try the same."""
    exchange.block((SPREADER, SetMarginMode(MarginMode.PORTFOLIO)))
    low, high = exchange.calls()[2:4]
    for account, number in ((SPREADER, 4_001), (CROSS, 4_002)):
        assert exchange.trade(account, low, Side.BUY, 5_000).code == "ok"
        exchange.trade(account, high, Side.SELL, 5_000, number)


def run_day(seed=1, change=None):
    """Two expiries with random trades on a random index; `change` bends what blocks say."""
    random = SplitMix(seed)
    exchange = Exchange()
    if change is not None:
        exchange.change = change
    exchange.report(INDEX)
    spread(exchange)
    while exchange.time_ms < START_MS + 130_000:
        price = INDEX + random.below(2_001) - 1_000
        # Now and then the index is stale for a while, or a sample is missed.
        exchange.report(price, after_ms=300 + random.below(900) + 9_700 * (random.below(25) == 0))
        open_series = [
            each
            for each in exchange.state.markets.values()
            if each.series is not None and each.index_price
        ]
        market = open_series[random.below(len(open_series))]
        side = Side.BUY if random.below(2) else Side.SELL
        taker = (TAKER, OTHER)[random.below(2)]
        exchange.trade(taker, market, side, 1 + random.below(2_999))
    return exchange


@pytest.fixture(scope="module")
def day():
    return run_day()


def test_what_the_engine_settles_is_what_the_independent_calculation_comes_to(day):
    seen = day.record.seen
    assert seen.settlement_problems == ()
    assert seen.conservation_problem is None
    assert seen.expiries_settled == 2
    assert seen.positions_settled > 20
    assert seen.accounts_settled == seen.balances_compared == len(NAMES)
    assert seen.paid_microquote > 0
    assert sum(amount for _, amount in seen.payouts) == -seen.pool_microquote
    # A seventh of a tick is no whole micro-quote.
    assert 0 < seen.pool_microquote < seen.positions_settled
    assert 0 < seen.series_quoted <= seen.series_listed
    assert seen.option_trades > 50


@pytest.mark.parametrize("seed", range(2, 4))
def test_other_days_come_to_the_same_in_both_calculations(seed):
    seen = run_day(seed).record.seen
    assert seen.settlement_problems == ()
    assert seen.expiries_settled == 2


def test_the_spread_is_taken_under_portfolio_margin_and_refused_under_cross_margin(day):
    seen = day.record.seen
    assert (seen.spreads_accepted, seen.spreads_refused) == (1, 1)
    taken, refused = seen.spreads
    assert (taken.code, taken.filled_lots) == (ReasonCode.OK, 5_000)
    assert (refused.code, refused.filled_lots) == (ReasonCode.MARGIN_INSUFFICIENT, 0)


def test_a_settlement_that_is_off_by_one_micro_quote_is_noticed():
    is_bent = False

    def bend(output):
        nonlocal is_bent
        events = list(output.events)
        for place, event in enumerate(events):
            if isinstance(event, SettlementEvent) and not is_bent:
                is_bent = True
                amount = event.amount_microquote + 1
                events[place] = replace(event, amount_microquote=amount)
        return replace(output, events=tuple(events))

    exchange = run_day(change=bend)
    assert is_bent
    (problem,) = exchange.record.seen.settlement_problems
    assert "micro-quote booked" in problem
    scenario = parse("x", f'run_for = "130s"\n{TABLE}')
    verdict, findings = judge(scenario, look(exchange.record.seen))
    assert verdict == Verdict.SAFETY
    assert [each.name for each in findings if each.holds is False] == ["settlement"]


def test_one_micro_quote_from_one_balance_to_another_is_noticed_though_all_adds_up(day):
    due = day.record.compute_settlements()
    taker, other = day.state.accounts[TAKER], day.state.accounts[OTHER]
    taker.quote, other.quote = taker.quote + 1, other.quote - 1
    validate_all(day.state)
    problems = day.record.find_problems(due)
    taker.quote, other.quote = taker.quote - 1, other.quote + 1
    assert [each.split()[0] for each in problems] == ["taker0", "taker1"]
    assert day.record.find_problems(due) == []


def test_an_expiry_that_the_engine_has_not_settled_is_noticed(day):
    due = day.record.compute_settlements()
    first = min(due)
    missing = {expiry: settlement for expiry, settlement in due.items() if expiry != first}
    problems = day.record.find_problems(missing)
    assert f"expiry {first}: only the engine settled it" in problems
    assert any("settled at" not in each and "no due" in each for each in problems)
    bent = {**due, first: due[first]._replace(samples=(*due[first].samples[1:], INDEX + 7))}
    assert any(
        each.startswith(f"expiry {first}: settled at") for each in day.record.find_problems(bent)
    )


# ---- what it came to ---------------------------------------------------------------------------


def look(options):
    return Seen(
        committed_height=100,
        fills=20,
        longest_pause_s=2.0,
        heals=(),
        orders=OrdersSeen(10, 8, 7, 1),
        signatures_compared=100,
        options=options,
    )


@pytest.mark.parametrize("key", NEED_OPTIONS)
def test_what_is_expected_of_a_day_of_options_is_judged_by_what_was_seen(day, key):
    expectation = f"[[expect]]\n{key} = "
    with pytest.raises(ScenarioError, match="no options"):
        parse("x", f'run_for = "20s"\n{expectation}1')
    most = getattr(day.record.seen, key.removesuffix("_at_least"))
    for wanted, verdict in ((most, Verdict.PASS), (most + 1, Verdict.EXPECTATION)):
        scenario = parse("x", f'run_for = "130s"\n{TABLE}{expectation}{wanted}')
        assert judge(scenario, look(day.record.seen))[0] == verdict
    assert judge(scenario, look(None))[0] == Verdict.EXPECTATION


def test_a_day_without_a_settled_position_is_not_judged(day):
    scenario = parse("x", f'run_for = "130s"\n{TABLE}')
    verdict, findings = judge(scenario, look(replace(day.record.seen, positions_settled=0)))
    assert verdict == Verdict.EXPECTATION
    assert [each.name for each in findings if each.holds is None] == ["settlement"]


def test_the_chart_shows_index_marks_quotes_volatility_and_payouts(day, tmp_path):
    tree = ElementTree.fromstring(render_options_chart(day.record))
    space = "{http://www.w3.org/2000/svg}"
    words = " ".join(each.text or "" for each in tree.iter(f"{space}text"))
    for title in ("Index of BTC-PERP", "Marks of calls", "bid", "Implied volatility", "seconds"):
        assert title in words
    for name, amount in day.record.seen.payouts:
        assert name in words
        assert say_usd(amount) in words
    calls = choose_chain(day.record, day.record.compute_settlements())
    most = sum(each.market == calls[0] for each in day.record.trades)
    assert len(list(tree.iter(f"{space}circle"))) == most > 0
    due = day.record.compute_settlements()
    nearest = choose_nearest(day.record, calls, due)
    strikes = {each: day.record.listings[each].strike_ticks for each in calls}
    price = due[day.record.listings[calls[0]].expiry_ms].price_ticks
    farthest = max(abs(strikes[each] - price) for each in nearest)
    assert all(abs(strikes[each] - price) >= farthest for each in {*calls} - {*nearest})
    write_options_chart(tmp_path, day.record)
    assert (tmp_path / OPTIONS_CHART_NAME).read_text().startswith("<svg")
    assert OPTIONS_CHART_NAME in REPORT_FILES


def test_without_trades_there_is_only_the_index_and_without_an_index_no_chart(tmp_path):
    exchange = Exchange()
    write_options_chart(tmp_path, exchange.record)
    assert list(tmp_path.iterdir()) == []
    exchange.report(INDEX)
    words = render_options_chart(exchange.record)
    assert "Index of BTC-PERP" in words
    assert "Marks of calls" not in words


def test_the_report_says_what_was_settled_and_links_the_chart(day):
    text = "\n".join(describe_options(to_builtins(day.record.seen)))
    assert f"{day.record.seen.positions_settled} positions of 5 accounts" in text
    assert "| `margin.insufficient` | 0 |" in text
    for each in day.record.seen.expiries:
        usd = say_usd(round(Fraction(each.price_ticks) * PARAMS.tick_size_microquote))
        assert f"| {each.price_ticks} | {usd} | {each.series} |" in text
    assert f"]({OPTIONS_CHART_NAME})" in text
    assert (say_usd(-1_234_567_890), say_usd(5)) == ("-1,234.567890", "0.000005")
