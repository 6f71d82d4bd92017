"""A crash in a scenario: how it is declared, watched in the blocks, judged and drawn."""

from collections import Counter
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from crypto.codec import encode
from engine.apply import apply_block
from engine.block import BlockInput, EngineEnvelope, Reporter
from engine.genesis import EngineGenesis, GenesisDeposit, LiquidationParams
from engine.instructions import Bid, Bundle, MarketOrder, OracleReport, PlaceOrder, Side
from engine.state import create_state
from localnet.crash import CROWD_MAX, Crash
from localnet.faults.drawing import POINTS_MAX
from localnet.faults.expectations import NEED_CRASH
from localnet.faults.market_chart import CHART_NAME, describe_market, render_chart, write_chart
from localnet.faults.market_record import MarketRecord, MarketSeen
from localnet.faults.orders import OrdersSeen
from localnet.faults.runner import REPORT_FILES
from localnet.faults.scenario import ScenarioError, find_scenario, load_scenario
from localnet.faults.scenario import parse_scenario as parse
from localnet.faults.verdict import Seen, judge
from localnet.markets import make_plain_market
from localnet.verdicts import Verdict

TABLE = """
[crash]
market = "BTC-PERP"
from = "5s"
for = "10s"
fall_percent = 40
insurance = 100
leverage_percent = 1800
leveraged = [1000]
bidders = [2000]
"""
CRASH = Crash("BTC-PERP", 5.0, 10.0, 40, 100, 1_800, (1_000,), (2_000,))
MARKET = MarketSeen(
    heights=100,
    conservation_problem=None,
    liquidations=3,
    accounts_liquidated=2,
    closings=2,
    auction_slices=2,
    insurance_payments=1,
    insurance_start_microquote=2_000_000_000_000,
    insurance_fees_microquote=4_567_000_000,
    insurance_paid_microquote=1_234_567_000_000,
    insurance_end_microquote=770_000_000_000,
    deleveragings=1,
    index_fall=40.1,
)
SEEN = Seen(
    committed_height=100,
    fills=20,
    longest_pause_s=2.0,
    heals=(),
    orders=OrdersSeen(10, 8, 7, 1),
    signatures_compared=100,
    market=MARKET,
)


def test_a_scenario_declares_a_crash_beside_what_is_expected_of_it():
    assert parse("x", f'run_for = "20s"\n{TABLE}').crash == CRASH
    assert parse("x", 'run_for = "20s"').crash is None
    shipped = load_scenario(find_scenario("crash_day"))
    assert shipped.crash is not None
    assert shipped.crash.fall_percent >= 40
    assert shipped.crash.for_s <= 60


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("BTC-PERP", "XAU-PERP", "XAU-PERP"),
        ("fall_percent = 40", "fall_percent = 91", "fall_percent"),
        ("insurance = 100", "insurances = 100", "insurances"),
        ('from = "5s"', "", "from"),
        ('for = "10s"', 'for = "15s"', "beyond the end"),
        ('for = "10s"', 'for = "0s"', "for_s"),
        ("[1000]", f"{[1000] * (CROWD_MAX + 1)}", "leveraged"),
        ("[2000]", "[0]", "bidders"),
        ("\n[crash]", "traders = false\n[crash]", "without traders"),
    ],
)
def test_a_crash_that_makes_no_sense_is_refused(old, new, said):
    assert old in TABLE
    with pytest.raises(ScenarioError) as caught:
        parse("x", f'run_for = "20s"\n{TABLE.replace(old, new)}')
    assert said in caught.value.message


@pytest.mark.parametrize("key", NEED_CRASH)
def test_what_a_crash_causes_is_expected_only_of_one_and_judged_by_what_was_seen(key):
    expectation = f"[[expect]]\n{key} = "
    with pytest.raises(ScenarioError, match="no crash"):
        parse("x", f'run_for = "20s"\n{expectation}1')
    most = int(getattr(MARKET, key.removesuffix("_at_least")))
    for wanted, verdict in ((most, Verdict.PASS), (most + 1, Verdict.EXPECTATION)):
        scenario = parse("x", f'run_for = "20s"\n{TABLE}{expectation}{wanted}')
        assert judge(scenario, SEEN)[0] == verdict
    assert judge(scenario, replace(SEEN, market=None))[0] == Verdict.EXPECTATION


def test_money_that_is_not_conserved_breaks_safety():
    scenario = parse("x", f'run_for = "20s"\n{TABLE}')
    lost = replace(SEEN, market=replace(MARKET, conservation_problem="height 7: a cent is missing"))
    verdict, findings = judge(scenario, lost)
    assert verdict == Verdict.SAFETY
    assert [each.name for each in findings if each.holds is False] == ["conservation"]


LONG, MAKER, BIDDER, ORACLE = (letter * 32 for letter in (b"l", b"m", b"b", b"o"))
USD = 1_000_000


class Exchange:
    """One market with an oracle, and a record of its blocks."""

    def __init__(self) -> None:
        params = make_plain_market(1, "X")
        deposits = ((LONG, 5_500), (MAKER, 1_000_000), (BIDDER, 100_000))
        self.state = create_state(
            EngineGenesis(
                (params,),
                tuple(GenesisDeposit(account, amount * USD) for account, amount in deposits),
                liquidation=LiquidationParams(100 * USD, cooldown_ms=1, retry_ms=1),
            )
        )
        self.record = MarketRecord(1, params.tick_size_microquote, [LONG])
        self.count = 0

    def block(self, time_ms: int, index: int | None, *sent) -> None:
        pairs = list(sent)
        if index is not None:
            pairs.append((ORACLE, OracleReport(1, index, time_ms, time_ms)))
        envelopes = []
        for sender, instruction in pairs:
            self.count += 1
            key = self.count.to_bytes(32, "big")
            envelopes.append(
                EngineEnvelope(key, sender, self.count, encode(Bundle((instruction,))))
            )
        output = apply_block(
            self.state,
            BlockInput(
                self.state.height + 1,
                time_ms,
                bytes(32),
                tuple(envelopes),
                reporters=(Reporter(ORACLE, 1),),
            ),
        )
        self.record.note_block(self.state, output)


def crashed() -> Exchange:
    """A long of 100,000 USD with 5,500 of its own, closed or sold while the price falls."""
    exchange = Exchange()
    exchange.block(1_000, 100_000)
    exchange.block(1_100, None, (MAKER, PlaceOrder(1, Side.SELL, 100_000, 100_000)))
    exchange.block(1_200, None, (LONG, MarketOrder(1, Side.BUY, 100_000, 100_000)))
    # Too little is left of its margin for closing in the book: an auction, with one bid.
    exchange.block(2_000, 96_000)
    exchange.block(2_100, None, (BIDDER, Bid(LONG, 100_000, 0)))
    exchange.block(60_000, 90_000)
    exchange.block(61_000, 60_000)
    exchange.block(61_100, None)
    return exchange


def test_a_record_counts_what_happened_and_samples_every_block_with_an_index():
    record = crashed().record
    seen = record.seen
    assert (seen.heights, len(record.samples)) == (8, 8)
    assert seen.conservation_problem is None
    assert (seen.liquidations, seen.accounts_liquidated, seen.auction_slices) == (1, 1, 1)
    assert seen.deleveragings >= 1
    # From 100,000 at 1 s to 60,000 at 61 s is a minute; the fall is no more than that.
    assert seen.index_fall == 40.0
    first, last = record.samples[0], record.samples[-1]
    assert first.equity_microquote == 5_500 * USD
    assert first.open_interest_microquote == 0
    assert max(each.open_interest_microquote for each in record.samples) == 100_000 * USD
    assert last.index_microquote == 600 * USD
    assert last.equity_microquote >= 0
    assert max(each.lack_microquote for each in record.samples) > 0
    assert (first.lack_microquote, last.lack_microquote) == (0, 0)
    assert seen.insurance_start_microquote == 100 * USD
    assert seen.insurance_end_microquote == last.insurance_microquote


def test_a_fall_that_takes_longer_than_a_minute_counts_only_in_part():
    exchange = Exchange()
    for time_ms, price in ((1_000, 100_000), (31_000, 90_000), (61_001, 50_000), (61_100, 60_000)):
        exchange.block(time_ms, price)
    assert exchange.record.seen.index_fall == 44.44


def test_a_record_notices_a_cent_that_is_lost():
    exchange = Exchange()
    exchange.block(1_000, 100_000)
    exchange.state.accounts[MAKER].quote -= 1
    exchange.record.note_block(exchange.state, SimpleNamespace(events=()))
    problem = exchange.record.seen.conservation_problem
    assert problem is not None
    assert "balances" in problem


def test_a_chart_has_four_lines_and_a_row_for_each_kind_of_event(tmp_path):
    record = crashed().record
    tree = ElementTree.fromstring(render_chart(record, CRASH))
    space = "{http://www.w3.org/2000/svg}"
    lines = [each.get("points", "").split() for each in tree.iter(f"{space}polyline")]
    assert [len(each) for each in lines] == [8, 8, 8, 8, 8]
    words = " ".join(each.text or "" for each in tree.iter(f"{space}text"))
    for title in ("Index", "Equity", "Insurance fund", "lacking", "Open interest", "seconds"):
        assert title in words
    for kind, count in Counter(each for _, each in record.events).items():
        assert f"{kind}: {count}" in words
    write_chart(tmp_path, record, CRASH)
    assert (tmp_path / CHART_NAME).read_text().startswith("<svg")
    assert CHART_NAME in REPORT_FILES


def test_a_long_record_is_thinned_out_to_its_last_block():
    record = crashed().record
    record.samples *= 200
    tree = ElementTree.fromstring(render_chart(record, CRASH))
    line = next(tree.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(line.get("points", "").split()) <= POINTS_MAX + 1


def test_without_an_index_there_is_no_chart(tmp_path):
    write_chart(tmp_path, MarketRecord(1, 1, []), CRASH)
    assert list(tmp_path.iterdir()) == []


def test_the_report_says_what_fired_and_links_the_chart():
    text = "\n".join(describe_market(to_builtins(MARKET)))
    assert "fell by 40.1 %" in text
    assert "3 liquidations of 2 accounts" in text
    assert "1,234,567.00 USD" in text
    assert "2,000,000.00 USD at the start, 4,567.00 received as fees" in text
    assert "1,234,567.00 paid, 770,000.00 at the end" in text
    assert f"]({CHART_NAME})" in text
