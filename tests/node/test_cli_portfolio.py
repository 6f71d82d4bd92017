"""`rota market margin`: a file in, decimal strings out, and words for every wrong file."""

import json
from contextlib import suppress
from decimal import Decimal
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.portfolio.fixed_point import ONE
from engine.portfolio.terms import PortfolioParameters
from node.cli.main import run
from node.cli.portfolio import (
    FILE_SIZE_MAX_BYTES,
    MARKETS_MAX,
    PARAMETER_NAMES,
    SCENARIOS_MAX,
    PortfolioFileError,
    format_fixed,
    parse_portfolio,
)
from node.exit_codes import ExitCode

CALL = {
    "kind": "call",
    "expiry_s": 0,
    "strike": "90",
    "forward": "100",
    "spot": "100",
    "vol": "0.5",
    "rate": "0.03",
    "confidence": "1",
}
FILE: dict[str, Any] = {
    "parameters": {"im_factor": "1.5"},
    "markets": {"C": CALL, "P": {"kind": "perp", "forward": "101", "spot": "100"}},
    "stable_price": "1",
    "cash": "50",
    "positions": {"C": "-1"},
}


def margin(tmp_path: Path, text: str, *words: str) -> int:
    path = tmp_path / "portfolio.json"
    path.write_text(text)
    return run(["market", "margin", "--portfolio", str(path), *words])


def change(**entries: Any) -> dict[str, Any]:
    return {**FILE, **entries}


def with_call(**entries: Any) -> dict[str, Any]:
    return change(markets={"C": {**CALL, **entries}})


def test_margins_are_decimal_strings_with_twelve_places(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert margin(tmp_path, json.dumps(FILE), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    # Owes 10, owes 30 at 120, pays 2 for being naked.
    assert document["mark_to_market"] == "40.000000000000"
    assert document["maintenance_margin"] == "18.000000000000"
    assert document["initial_margin"] == "7.000000000000"
    assert document["parts"]["worst_change"] == "-20.000000000000"
    assert document["parts"]["static_naked_short"] == "2.000000000000"
    assert document["parts"]["worst_scenario"] == 0
    assert len(document["scenarios"]) == 23
    assert document["scenarios"][0] == {
        "spot_shock": "1.200000000000",
        "vol_shock": "up",
        "change": "-20.000000000000",
    }


def test_people_get_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert margin(tmp_path, json.dumps(FILE)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["mark_to_market", "40.000000000000"]
    worst = [line.split() for line in lines if line.endswith("worst")]
    assert worst == [["1.200000000000", "up", "-20.000000000000", "worst"]]


def test_numbers_are_read_as_they_are_written(tmp_path: Path) -> None:
    digits = "0.123456789012345678901234567890"
    for written in (digits, f'"{digits}"', f"{digits}e0", f'"{digits}E+0"'):
        text = json.dumps(change(cash="CASH", positions={})).replace('"CASH"', written)
        portfolio, _, _ = parse_portfolio(text.encode())
        assert abs(portfolio.cash - Decimal(digits) * ONE) <= Decimal("0.500001")
    # No float holds this: its neighbours are 2 apart.
    portfolio, _, _ = parse_portfolio(json.dumps(change(cash=10**15 - 1)).encode())
    assert portfolio.cash == (10**15 - 1) * ONE
    text = json.dumps(change(cash="CASH")).replace('"CASH"', "99999999999999.999999")
    portfolio, _, _ = parse_portfolio(text.encode())
    assert portfolio.cash == (99999999999999999999 * ONE + 10**6 // 2) // 10**6


def test_what_may_be_left_out_has_its_default() -> None:
    small = {
        "markets": {"P": {"kind": "perp", "spot": 7}, "B": {"kind": "base", "spot": 7}},
        "positions": {},
    }
    portfolio, data, parameters = parse_portfolio(json.dumps(small).encode())
    assert (portfolio.cash, portfolio.positions, data.stable_price) == (0, (), ONE)
    assert [each.forward for each in data.instruments] == [7 * ONE, 7 * ONE]
    assert [each.confidence for each in data.instruments] == [ONE, ONE]
    assert parameters == PortfolioParameters()
    perp = {**dict.fromkeys(CALL), "kind": "perp", "spot": 7}
    _, data, _ = parse_portfolio(json.dumps({**small, "markets": {"P": perp}}).encode())
    assert data.instruments[0].confidence == ONE


def test_every_parameter_can_be_given(tmp_path: Path) -> None:
    given_parameters: dict[str, Any] = dict.fromkeys(PARAMETER_NAMES, "1")
    given_parameters["scenarios"] = [{"spot_shock": 1, "vol_shock": "none"}]
    _, _, parameters = parse_portfolio(json.dumps(change(parameters=given_parameters)).encode())
    assert len(parameters.scenarios) == 1
    assert {getattr(parameters, each) for each in PARAMETER_NAMES if each != "scenarios"} == {ONE}


def test_the_example_of_the_help_is_a_portfolio(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["market", "margin", "--help"]) == 0
    text = capsys.readouterr().out
    example = text[text.index('{"parameters"') : text.index("Example:")]
    assert margin(tmp_path, example, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["scenarios"]) == 1


def error_of(text: str) -> PortfolioFileError:
    with pytest.raises(PortfolioFileError) as caught:
        parse_portfolio(text.encode())
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.advice
    assert len(caught.value.message) < 300
    return caught.value


@pytest.mark.parametrize(
    ("code", "document"),
    [
        ("portfolio.malformed", []),
        ("portfolio.malformed", {}),
        ("portfolio.malformed", change(extra=1)),
        ("portfolio.malformed", change(positions={"C": "one"})),
        ("portfolio.malformed", change(positions={"C": True})),
        ("portfolio.malformed", change(positions={"C": None})),
        ("portfolio.malformed", with_call(kind="swap")),
        ("portfolio.malformed", with_call(strike="1_000")),
        ("portfolio.malformed", with_call(strike=" 1000 ")),
        ("portfolio.malformed", with_call(strike="\uff11")),
        ("portfolio.malformed", change(cash="1\n")),
        ("portfolio.malformed", change(positions={"kind": "1 "})),
        ("portfolio.out_of_range", with_call(strike=0)),
        (
            "portfolio.spot_differs",
            change(markets={"C": CALL, "D": {**CALL, "spot": "101"}}),
        ),
        ("portfolio.malformed", with_call(colour="red")),
        ("portfolio.malformed", with_call(**{"x" * 10_000: 1})),
        ("portfolio.malformed", change(parameters={"im_factor": []})),
        ("portfolio.malformed", change(parameters={"scenarios": 1})),
        ("portfolio.malformed", change(parameters={"scenarios": [{"spot_shock": 1}]})),
        (
            "portfolio.malformed",
            change(parameters={"scenarios": [{"spot_shock": 1, "vol_shock": "sideways"}]}),
        ),
        ("portfolio.parameter_unknown", change(parameters={"im_facto": 1})),
        ("portfolio.market_unknown", change(positions={"X": 1})),
        ("portfolio.market_unknown", change(positions={"X" * 10_000: 1})),
        ("portfolio.incomplete", with_call(vol=None)),
        ("portfolio.incomplete", with_call(strike=None)),
        ("portfolio.incomplete", with_call(expiry_s=None)),
        ("portfolio.incomplete", with_call(forward=None)),
        ("portfolio.out_of_range", with_call(spot=-1)),
        ("portfolio.out_of_range", with_call(spot="NaN")),
        ("portfolio.out_of_range", with_call(spot="sNaN")),
        ("portfolio.out_of_range", with_call(spot="Infinity")),
        ("portfolio.out_of_range", with_call(strike="1e13")),
        ("portfolio.out_of_range", with_call(strike="1e999999999")),
        ("portfolio.out_of_range", with_call(strike="1e-999999999")),
        ("portfolio.out_of_range", with_call(strike="1." + "1" * 100)),
        ("portfolio.out_of_range", with_call(vol=101)),
        ("portfolio.out_of_range", with_call(confidence="1.1")),
        ("portfolio.out_of_range", with_call(expiry_s="1e11")),
        ("portfolio.out_of_range", with_call(rate="101")),
        ("portfolio.out_of_range", with_call(forward_fixed="100.1")),
        ("portfolio.out_of_range", change(positions={"C": "1e13"})),
        ("portfolio.out_of_range", change(cash="-1e16")),
        ("portfolio.out_of_range", change(stable_price=0)),
        ("portfolio.out_of_range", change(parameters={"im_factor": -1})),
        ("portfolio.out_of_range", change(parameters={"vol_power_short": 2})),
        ("portfolio.out_of_range", change(parameters={"vol_term_min_s": 0})),
        (
            "portfolio.out_of_range",
            change(parameters={"scenarios": [{"spot_shock": -1, "vol_shock": "up"}]}),
        ),
        (
            "portfolio.too_large",
            change(markets={f"C{place}": CALL for place in range(MARKETS_MAX + 1)}),
        ),
        (
            "portfolio.too_large",
            change(
                parameters={
                    "scenarios": [{"spot_shock": 1, "vol_shock": "up"}] * (SCENARIOS_MAX + 1)
                }
            ),
        ),
    ],
)
def test_a_wrong_file_is_refused_with_a_code(code: str, document: Any) -> None:
    assert error_of(json.dumps(document)).code == code


@pytest.mark.parametrize(
    "text",
    ["", "{", "nonsense", "[" * 100_000, '{"markets": ' * 50_000, '{"cash": 1e', "\0", '"\ud800"'],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(PortfolioFileError) as caught:
        parse_portfolio(text.encode("utf-8", "surrogatepass"))
    assert caught.value.code == "portfolio.malformed"


def test_a_name_that_comes_twice_is_refused() -> None:
    text = json.dumps(FILE)
    for twice in (
        text[:-1] + ', "cash": "7"}',
        text.replace('"C": "-1"', '"C": "-1", "C": "1"'),
        text.replace('"strike": "90"', '"strike": "90", "strike": "95"'),
    ):
        assert twice != text
        with pytest.raises(PortfolioFileError, match="comes twice") as caught:
            parse_portfolio(twice.encode())
        assert caught.value.code == "portfolio.malformed"


def test_a_portfolio_is_read_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin = TextIOWrapper(BytesIO(json.dumps(FILE).encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert run(["market", "margin", "--portfolio", "-", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["initial_margin"] == "7.000000000000"


def test_files_that_cannot_be_read_or_are_too_large_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, code in (
        (tmp_path / "missing.json", "portfolio.unreadable"),
        (tmp_path, "portfolio.unreadable"),
        (tmp_path / "large.json", "portfolio.too_large"),
    ):
        (tmp_path / "large.json").write_bytes(b" " * (FILE_SIZE_MAX_BYTES + 1))
        words = ["market", "margin", "--portfolio", str(path), "--json"]
        assert run(words) == ExitCode.USAGE
        assert json.loads(capsys.readouterr().out)["error"]["code"] == code


def test_the_largest_numbers_of_every_kind_are_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for price in ("0", "1e12", "1e-60"):
        for time_s in ("1e10", "-1e10", "1e-60"):
            option = {**CALL, "strike": "1e12", "spot": price, "forward": price, "vol": 100}
            option |= {"expiry_s": time_s, "rate": 100, "confidence": 0}
            document = change(
                markets={"C": option, "P": {**option, "kind": "put"}},
                positions={"C": "1e12", "P": "-1e12"},
                stable_price="1e-6",
                parameters=dict.fromkeys(
                    (each for each in PARAMETER_NAMES if each not in ("scenarios",)), "1"
                )
                | {"vol_range_up": 1000, "discount_rate_add": 1000, "peg_threshold": 1000},
            )
            assert margin(tmp_path, json.dumps(document), "--json") == 0
            parsed = json.loads(capsys.readouterr().out)
            assert Decimal(parsed["initial_margin"]) <= Decimal(parsed["mark_to_market"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*FILE, *CALL, "C", "scenarios", "im_factor", "spot_shock"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_document_is_a_portfolio_or_is_refused(document: Any) -> None:
    for candidate in (document, change(parameters=document), change(markets={"C": document})):
        with suppress(PortfolioFileError):
            parse_portfolio(json.dumps(candidate).encode())


def test_a_number_is_printed_to_the_nearest_place() -> None:
    assert format_fixed(0) == "0.000000000000"
    assert format_fixed(-1) == "0.000000000000"
    assert format_fixed(-ONE // 3) == "-0.333333333333"
    assert format_fixed(ONE * 2 // 3) == "0.666666666667"
    assert format_fixed(-12 * ONE) == "-12.000000000000"
