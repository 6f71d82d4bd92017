"""The canonical codec: typed structs to MessagePack bytes and back, one encoding per value.

Everything that is hashed, signed or sent is a `msgspec.Struct` encoded here. Decoding is strict
(unknown fields, wrong types and wrong lengths fail) and canonical: bytes that do not re-encode to
themselves are refused, so that no two byte strings stand for one value (a padded integer, a long
form of a short string). Decoders raise `DecodeError` and nothing else.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Final, TypeVar

import msgpack
import msgspec
from msgspec import inspect

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[Any, tuple[msgspec.msgpack.Decoder[Any], bool]] = {}
"""The decoder of each type asked for, and whether the type itself bounds how deep bytes nest."""


class DecodeError(Exception):
    """The bytes are not the canonical encoding of the expected type: the sender's fault."""

    code: ClassVar[str] = "codec.malformed"


encode: Final[Callable[[object], bytes]] = _encoder.encode
"""Return the canonical bytes of a struct."""


def decode(type_: type[T], data: bytes | bytearray | memoryview) -> T:
    """Return the value of `type_` whose canonical encoding is `data`.

    `type_` may also be a union of tagged structs. Raises `DecodeError`, never anything else.
    The caller bounds `len(data)` first: decoding costs time and memory linear in it.
    """
    value = decode_lenient(type_, data)
    if _encoder.encode(value) != data:
        raise DecodeError("not the canonical encoding")
    return value


def decode_lenient(type_: type[T], data: bytes | bytearray | memoryview) -> T:
    """Decode without the canonical check: only for what is neither hashed nor signed."""
    known = _decoders.get(type_)
    if known is None:
        known = _decoders[type_] = (msgspec.msgpack.Decoder(type_), is_nesting_bounded(type_))
    decoder, bounded = known
    if not bounded:
        _validate_nesting(data)
    try:
        value: T = decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, OverflowError, ValueError) as error:
        # A `ValueError`: text that is no UTF-8, or a timestamp that rounds up to year 10000.
        raise DecodeError(str(error)) from error
    return value


def is_nesting_bounded(type_: Any) -> bool:
    """Does the type say how deep its values nest?

    Not if it recurs, holds `Any`, or skips over fields that it does not know.
    """
    return _is_bounded(inspect.type_info(type_), frozenset())


def _is_bounded(info: Any, enclosing: frozenset[type]) -> bool:
    if isinstance(info, inspect.StructType):
        if info.cls in enclosing or not info.forbid_unknown_fields:
            return False
        enclosing |= {info.cls}
        return all(_is_bounded(field.type, enclosing) for field in info.fields)
    if isinstance(info, inspect.UnionType):
        return all(_is_bounded(each, enclosing) for each in info.types)
    if isinstance(info, inspect.TupleType):
        return all(_is_bounded(each, enclosing) for each in info.item_types)
    if isinstance(info, inspect.DictType):
        return _is_bounded(info.key_type, enclosing) and _is_bounded(info.value_type, enclosing)
    if isinstance(info, inspect.CollectionType):
        return _is_bounded(info.item_type, enclosing)
    if isinstance(info, inspect.Metadata):
        return _is_bounded(info.type, enclosing)
    return isinstance(info, _SCALARS)


_SCALARS = (
    inspect.NoneType,
    inspect.BoolType,
    inspect.IntType,
    inspect.FloatType,
    inspect.StrType,
    inspect.BytesType,
    inspect.EnumType,
    inspect.LiteralType,
)


def _validate_nesting(data: bytes | bytearray | memoryview) -> None:
    """Refuse bytes that nest deeper than the 1024 levels of msgpack's own fixed stack.

    msgspec decodes by recursion and trusts the interpreter's recursion limit to stop it before
    the C stack ends. Libraries raise that limit for the whole process (py-ecc does), and then a
    short message of opening brackets would end the process.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(data)))
    unpacker.feed(data)
    try:
        unpacker.skip()
    except (ValueError, msgpack.UnpackException) as error:
        raise DecodeError(f"not a message: {error}") from error
