"""The reference pages say what the code says."""

from pathlib import Path

import pytest

from engine.receipts import ReasonCode
from mempool.batch import BatchError
from mempool.refusal import RefusalCode
from node.cli.error_reference import _call_rows
from node.cli.reference import render_pages

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", sorted(render_pages()))
def test_the_page_on_disk_is_what_the_code_says(name: str) -> None:
    page = (DOCS / name).read_text()
    assert page == render_pages()[name], "run: python -m node.cli.reference docs"


def test_every_code_of_the_enumerations_and_of_the_door_is_on_the_page() -> None:
    page = render_pages()["reference/errors.md"]
    for code in (*RefusalCode, *ReasonCode, *BatchError):
        assert f"`{code.value}`" in page
    for code in ("door.full", "frame.too_slow", "peer.tls", "storage.full", "home.other_chain"):
        assert f"`{code}`" in page
    for code in ("keystore.missing", "safety.locked", "engine.invariant", "vote.author"):
        assert f"`{code}`" in page


def test_the_pages_do_not_depend_on_where_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    before = render_pages()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("ROTA_LOCALNET", "/elsewhere")
    assert render_pages() == before


def test_a_name_through_which_nothing_is_reported_any_more_is_noticed() -> None:
    with pytest.raises(AssertionError, match="through gone"):
        _call_rows([DOCS.parent / "node"], frozenset({"PeerError", "gone"}))
