"""The canonical codec: typed structs to MessagePack bytes and back, one encoding per value.

Everything that is hashed, signed or sent is a `msgspec.Struct` encoded here. Decoding is strict
(unknown fields, wrong types and wrong lengths fail) and canonical: bytes that do not re-encode to
themselves are refused, so that no two byte strings stand for one value (a padded integer, a long
form of a short string). Decoders raise `DecodeError` and nothing else.
"""

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


class DecodeError(Exception):
    """The bytes are not the canonical encoding of the expected type: the sender's fault."""

    code = "codec.malformed"


def encode(value: object) -> bytes:
    """Return the canonical bytes of a struct."""
    return _encoder.encode(value)


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
    decoder = _decoders.get(type_)
    if decoder is None:
        decoder = _decoders[type_] = msgspec.msgpack.Decoder(type_)
    try:
        value: T = decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, OverflowError, UnicodeDecodeError) as error:
        raise DecodeError(str(error)) from error
    return value
