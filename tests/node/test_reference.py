"""The reference pages say what the code says."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.instructions import ArmDeadMan
from engine.receipts import ReasonCode
from mempool.batch import BatchError
from mempool.refusal import RefusalCode
from node.cli import engine_reference
from node.cli.engine_reference import find_gaps
from node.cli.error_reference import _call_rows, _messages
from node.cli.reference import FILLED, render_pages

DOCS = Path(__file__).parents[2] / "docs"
PAGES = render_pages()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_page_on_disk_is_what_the_code_says(name: str) -> None:
    page = (DOCS / name).read_text()
    assert page == PAGES[name], "run: python -m node.cli.reference docs"


@pytest.mark.parametrize("name", sorted(FILLED))
def test_the_tables_of_a_page_written_by_hand_are_what_the_code_says(name: str) -> None:
    page = (DOCS / name).read_text()
    assert page == FILLED[name](page), "run: python -m node.cli.reference docs"


def test_the_page_of_the_engine_has_words_for_everything() -> None:
    assert "\n".join(find_gaps()) == ""


def test_what_has_no_words_is_named_with_the_place_where_to_add_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reasons = dict(engine_reference.OUTCOME_REASONS)
    del reasons[ReasonCode.TWAP_ENDED]
    refusals = dict(engine_reference.REFUSALS)
    del refusals[ArmDeadMan]
    monkeypatch.setattr(engine_reference, "OUTCOME_REASONS", reasons)
    monkeypatch.setattr(engine_reference, "REFUSALS", refusals)
    monkeypatch.setattr(engine_reference, "MEANINGS", {})
    gaps = find_gaps()
    for part in (
        "twap.ended has no meaning: add it to OUTCOME_REASONS",
        "nothing says where dead_man.timeout_invalid turns up: add it to engine/refusals.py",
        "ArmDeadMan has no table of refusals",
        "TwapOrder.side has no meaning: add a docstring below it",
    ):
        assert any(gap.startswith(part) for gap in gaps), part


def test_a_table_without_a_place_on_the_page_is_noticed() -> None:
    page = (DOCS / "engine.md").read_text().replace("<!-- table: codes -->", "")
    with pytest.raises(AssertionError, match="one place"):
        engine_reference.fill_page(page)


def test_every_code_of_the_enumerations_and_of_the_door_is_on_the_page() -> None:
    page = PAGES["reference/errors.md"]
    for code in (*RefusalCode, *ReasonCode, *BatchError):
        assert f"`{code.value}`" in page
    for code in ("door.full", "frame.too_slow", "peer.tls", "storage.full", "home.other_chain"):
        assert f"`{code}`" in page
    for code in ("keystore.missing", "safety.locked", "engine.invariant", "vote.author"):
        assert f"`{code}`" in page


def test_the_pages_do_not_depend_on_where_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("ROTA_LOCALNET", "/elsewhere")
    assert render_pages() == PAGES


def test_a_name_through_which_nothing_is_reported_any_more_is_noticed() -> None:
    with pytest.raises(AssertionError, match="through gone"):
        _call_rows([DOCS.parent / "node"], frozenset({"PeerError", "gone"}))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ('Error(f"no home at {path}", code="a.missing")', ["no home at …"]),
        ('Error("it is empty | damaged", code="a.bad")', ["it is empty \\| damaged"]),
        ('Error("a.bad", "it is empty")', ["it is empty"]),
        ('Error(f"{path}: {why}", code="a.bad")', []),
        ('Error(why, code="a.bad")', []),
    ],
)
def test_a_code_means_what_is_said_beside_it(call: str, words: list[str]) -> None:
    node = ast.parse(call, mode="eval").body
    assert isinstance(node, ast.Call)
    assert list(_messages(node)) == words


def find_codes() -> Iterator[tuple[str, Path]]:
    """All `code = "..."` and `code="..."` of the packages."""
    packages = ("crypto", "committee", "consensus", "mempool", "engine", "node", "localnet")
    for path in (each for package in packages for each in (DOCS.parent / package).rglob("*.py")):
        for each in ast.walk(ast.parse(path.read_text())):
            match each:
                case (
                    ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code)))
                    | ast.AnnAssign(target=ast.Name(id="code"), value=ast.Constant(value=str(code)))
                    | ast.keyword(arg="code", value=ast.Constant(value=str(code)))
                ):
                    yield code, path
                case _:
                    pass


def test_every_code_that_the_code_names_is_on_the_page() -> None:
    page = PAGES["reference/errors.md"]
    found = list(find_codes())
    assert len(found) > 60
    missing = {f"{code} ({path.name})" for code, path in found if f"`{code}`" not in page}
    assert missing == set()
