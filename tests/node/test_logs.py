"""Log lines: a fixed head, hexadecimal hashes, no secrets in tracebacks, bounded files."""

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

import localnet
import node
from node.config import LogSection
from node.logs import configure_logging, is_doubling


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        if handler not in handlers:
            handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_begins_with_the_fixed_head_and_shortens_hashes(tmp_path: Path) -> None:
    path, stream = tmp_path / "node.jsonl", io.StringIO()
    configure_logging(LogSection(format="none"), node="node0", path=path, stream=stream)
    structlog.get_logger().info("block_committed", height=7, block=b"\xab" * 32, latency_ms=4)
    (line,) = lines(path)
    assert list(line)[:4] == ["ts", "level", "event", "node"]
    assert line["block"] == "abababab"
    assert (line["level"], line["event"], line["node"]) == ("info", "block_committed", "node0")
    assert stream.getvalue() == ""


def test_debug_shows_hashes_whole_and_info_hides_debug_lines(tmp_path: Path) -> None:
    path = tmp_path / "node.jsonl"
    configure_logging(LogSection(format="none"), node="node0", path=path)
    structlog.get_logger().debug("unseen")
    configure_logging(LogSection(format="none", level="debug"), node="node0", path=path)
    structlog.get_logger().debug("seen", block=b"\xab" * 32, many=[b"\x01" * 8])
    (line,) = lines(path)
    assert line["block"] == "ab" * 32
    assert line["many"] == ["01" * 8]


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_tracebacks_never_show_local_variables(tmp_path: Path, form: str) -> None:
    stream = io.StringIO()
    path = tmp_path / "node.jsonl"
    configure_logging(LogSection(format=form), node="node0", path=path, stream=stream)

    def fail() -> None:
        password = "hunter2"
        raise RuntimeError(len(password))

    try:
        fail()
    except RuntimeError:
        structlog.get_logger().exception("node_crashed")
    for text in (stream.getvalue(), path.read_text()):
        assert "RuntimeError" in text
        assert text.count("hunter2") == 0 or 'password = "hunter2"' in text
        assert "locals" not in text


def test_off_a_terminal_stderr_carries_json(tmp_path: Path) -> None:
    stream = io.StringIO()
    configure_logging(LogSection(format="auto"), node="node0", path=None, stream=stream)
    structlog.get_logger().warning("peer_lost", peer="node1")
    assert json.loads(stream.getvalue())["peer"] == "node1"


def test_the_file_is_rotated_at_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "node.jsonl"
    config = LogSection(format="none", file_size_max_bytes=1 << 16, files_max=2)
    configure_logging(config, node="node0", path=path)
    log = structlog.get_logger()
    for number in range(400):
        log.info("filler", number=number, text="x" * 1000)
    files = sorted(tmp_path.iterdir())
    assert [each.name for each in files] == ["node.jsonl", "node.jsonl.1", "node.jsonl.2"]
    assert all(each.stat().st_size <= 1 << 16 for each in files)


def test_what_happens_often_is_logged_at_every_doubling() -> None:
    assert [count for count in range(1, 70) if is_doubling(count)] == [1, 2, 4, 8, 16, 32, 64]


def test_every_event_has_a_name_in_snake_case() -> None:
    names = set()
    for package in (node, localnet):
        for path in Path(package.__file__).parent.rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text())):
                match call:
                    case ast.Call(
                        func=ast.Attribute(value=ast.Name("_log" | "log")),
                        args=[ast.Constant(value=str(name)), *_],
                    ):
                        names.add(name)
    assert "node_started" in names
    assert [name for name in sorted(names) if not re.fullmatch("[a-z]+(_[a-z]+)*", name)] == []
