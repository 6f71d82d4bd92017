"""Reading the nodes' log files together, in order of time."""

from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from node.cli.output import Output, encode_json

TAIL_BYTES_PER_LINE: Final = 2_000
"""Read from the end of a file for each line wanted; longer lines cost lines."""
FOLLOW_INTERVAL_S: Final = 0.2
FOLLOW_CHUNK_MAX_BYTES: Final = 1 << 20

_HEAD: Final = ("ts", "level", "event", "node")


def read_logs(paths: list[Path], lines: int, output: Output) -> None:
    """Print the last lines of all files together."""
    newest = _newest(paths, lines)
    if output.is_json:
        output.data(newest)
        return
    for line in newest:
        output.data(line, describe_line(line))


async def follow_logs(paths: list[Path], lines: int, output: Output) -> None:
    """Print the last lines, then every new one, until cancelled or interrupted."""
    followed = {path: _size(path) for path in paths}
    rest = dict.fromkeys(paths, b"")
    for line in _newest(paths, lines):
        _print(line, output)
    while True:
        for path in paths:
            size = _size(path)
            if size < followed[path]:
                # Rotated: the new file begins at its beginning.
                followed[path], rest[path] = 0, b""
            if size == followed[path]:
                continue
            with path.open("rb") as file:
                file.seek(followed[path])
                data = file.read(FOLLOW_CHUNK_MAX_BYTES)
            followed[path] += len(data)
            *whole, rest[path] = (rest[path] + data).split(b"\n")
            for text in whole:
                _print(_parse(text), output)
        await trio.sleep(FOLLOW_INTERVAL_S)


def _newest(paths: list[Path], lines: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in paths:
        start = max(0, _size(path) - lines * TAIL_BYTES_PER_LINE)
        if _size(path) == 0:
            continue
        with path.open("rb") as file:
            file.seek(start)
            data = file.read()
        # The first piece is a part of a line unless the file was read from its beginning.
        pieces = data.split(b"\n")[:-1][1 if start else 0 :]
        found += [_parse(piece) for piece in pieces[-lines:]]
    found.sort(key=lambda line: str(line.get("ts", "")))
    return found[-lines:]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _parse(line: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {"event": line.decode(errors="replace")}


def _print(line: dict[str, Any], output: Output) -> None:
    if output.is_json:
        output.out.file.write(encode_json(line) + "\n")
        output.out.file.flush()
    else:
        output.data(line, describe_line(line))


def describe_line(line: dict[str, Any]) -> str:
    """One line for people: time of day, level, node, event, fields."""
    fields = "  ".join(f"{key}={value}" for key, value in line.items() if key not in _HEAD)
    clock = str(line.get("ts", ""))[11:23]
    return (
        f"{clock:12} {line.get('level', '')!s:7} {line.get('node', '')!s:8} "
        f"{line.get('event', '')}  {fields}".rstrip()
    )
