"""Structs as plain maps: how the node's views, its events and the commands' JSON show them."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from msgspec import Struct


def to_plain(value: object, *, is_hex: bool = False) -> Any:
    """Structs as maps by field name, enumerations by name (text ones by value), tuples as lists,
    byte strings as hexadecimal text if `is_hex`; everything else as it is.

    Enumerations lose their numbers because those mean something to our structs alone.
    """
    if isinstance(value, Struct):
        return {
            name: to_plain(getattr(value, name), is_hex=is_hex) for name in value.__struct_fields__
        }
    if isinstance(value, Enum):
        return value.value if isinstance(value, str) else value.name.lower()
    if isinstance(value, bytes):
        return value.hex() if is_hex else value
    if isinstance(value, Mapping):
        return {
            to_plain(key, is_hex=is_hex): to_plain(each, is_hex=is_hex)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [to_plain(each, is_hex=is_hex) for each in value]
    return value
