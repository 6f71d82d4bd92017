"""Bytes as trees of values, and back: the mutator changes trees, not positions in a string.

A tree holds None, booleans, numbers, strings, bytes, lists and maps. Three marks stand for what no
honest encoder writes; each format writes them in its own way.
"""

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from crypto.codec import DecodeError, decode_lenient

DEPTH_MAX: Final = 60
"""Deeper trees are changed as bytes only: what walks a tree here does so by recursion."""


class LongForm(NamedTuple):
    """A value in a longer encoding than it needs."""

    value: Any


class FalseLength(NamedTuple):
    """A value that claims another length than it has."""

    value: Any
    claimed: int


class Nest(NamedTuple):
    """So many lists in each other."""

    depth: int


class Format(NamedTuple):
    """One way to write trees."""

    name: str
    parse: Callable[[bytes], Any]
    """The tree of some bytes. Raises `NotATreeError`."""
    render: Callable[[Any], bytes]


class NotATreeError(ValueError):
    """The bytes are no tree of this format; they can still be changed as bytes."""


def _parse_msgpack(data: bytes) -> Any:
    try:
        tree = decode_lenient(Any, data)
    except (DecodeError, TypeError) as error:
        raise NotATreeError(str(error)) from error
    _validate_depth(tree, DEPTH_MAX)
    return tree


def _validate_depth(tree: Any, left: int) -> None:
    if left == 0:
        raise NotATreeError("too deep")
    if isinstance(tree, list | tuple):
        for each in tree:
            _validate_depth(each, left - 1)
    elif isinstance(tree, dict):
        for key, each in tree.items():
            _validate_depth(key, left - 1)
            _validate_depth(each, left - 1)


def render_msgpack(tree: Any) -> bytes:
    """MessagePack, with whatever marks the tree holds."""
    match tree:
        case LongForm(value):
            return _render_long(value)
        case FalseLength(value, claimed):
            data = render_msgpack(value)
            code, header_size = _split_header(value, data)
            return code + struct.pack(">I", claimed & 0xFFFFFFFF) + data[header_size:]
        case Nest(depth):
            return b"\x91" * depth + b"\xc0"
        case list() | tuple():
            return _header(len(tree), 0x90, 15, 0xDC) + b"".join(map(render_msgpack, tree))
        case dict():
            parts = [render_msgpack(each) for item in tree.items() for each in item]
            return _header(len(tree), 0x80, 15, 0xDE) + b"".join(parts)
        case _:
            return msgspec.msgpack.encode(tree)


def _header(count: int, short: int, short_max: int, code: int) -> bytes:
    if count <= short_max:
        return bytes([short | count])
    if count < 1 << 16:
        return struct.pack(">BH", code, count)
    return struct.pack(">BI", code + 1, count)


def _split_header(value: Any, data: bytes) -> tuple[bytes, int]:
    """The code of a value's 32-bit form, and the size of the header that it has."""
    if isinstance(value, str):
        size = len(value.encode(errors="replace"))
        return b"\xdb", len(data) - size
    if isinstance(value, bytes):
        return b"\xc6", len(data) - len(value)
    if isinstance(value, dict):
        return b"\xdf", len(_header(len(value), 0x80, 15, 0xDE))
    if isinstance(value, list | tuple):
        return b"\xdd", len(_header(len(value), 0x90, 15, 0xDC))
    return b"\xc6", 0


def _render_long(value: Any) -> bytes:
    match value:
        case bool() | None | float():
            return msgspec.msgpack.encode(value)
        case int():
            if value < 0:
                return struct.pack(">Bq", 0xD3, value)
            return struct.pack(">BQ", 0xCF, value)
        case str() | bytes() | dict() | list() | tuple():
            data = render_msgpack(value)
            code, header_size = _split_header(value, data)
            size = len(value) if not isinstance(value, str) else len(data) - header_size
            return code + struct.pack(">I", size) + data[header_size:]
        case _:
            return render_msgpack(value)


def _parse_json(data: bytes) -> Any:
    try:
        tree = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotATreeError(str(error)) from error
    _validate_depth(tree, DEPTH_MAX)
    return tree


def render_json(tree: Any) -> bytes:
    """JSON, with whatever marks the tree holds."""
    match tree:
        case LongForm(bool() | None as value):
            return b" " + msgspec.json.encode(value)
        case LongForm(int() as value):
            return b"%de0" % value
        case LongForm(str() as value):
            return b'"' + b"".join(b"\\u%04x" % (ord(each) & 0xFFFF) for each in value) + b'"'
        case LongForm(value):
            return b"\n\t " + render_json(value) + b" "
        case FalseLength(value, _):
            return render_json(value)[:-1]
        case Nest(depth):
            return b"[" * depth + b"]" * depth
        case list() | tuple():
            return b"[" + b",".join(map(render_json, tree)) + b"]"
        case dict():
            items = (_render_key(key) + b":" + render_json(each) for key, each in tree.items())
            return b"{" + b",".join(items) + b"}"
        case bytes():
            return msgspec.json.encode(tree.hex())
        case _:
            return msgspec.json.encode(tree)


def _render_key(key: Any) -> bytes:
    return msgspec.json.encode(key if isinstance(key, str) else str(key))


def _parse_nothing(data: bytes) -> Any:
    raise NotATreeError("plain bytes")


def _render_nothing(tree: Any) -> bytes:
    raise AssertionError("plain bytes are never parsed")


MSGPACK: Final = Format("msgpack", _parse_msgpack, render_msgpack)
JSON: Final = Format("json", _parse_json, render_json)
TEXT: Final = Format("text", _parse_nothing, _render_nothing)
"""Lines of text, such as TOML and CSV: changed line by line and word by word."""
BYTES: Final = Format("bytes", _parse_nothing, _render_nothing)
"""Everything else."""
