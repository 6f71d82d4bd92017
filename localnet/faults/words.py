"""What is wrong with a fault or a scenario, in the words of whoever wrote it.

The decoder says "Object missing required field `delay_ms`"; here that is "delay needs --delay-ms",
spelled as the options of a command or as the keys of a file.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

import msgspec

_PATH: Final = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_INDEX: Final = re.compile(r"^(?P<table>[a-z]+)\[(?P<index>[0-9]+)\]\.?")
_BOUND: Final = re.compile(r"Expected `(?:int|float)` (?P<sign>>=|<=) (?P<bound>-?[0-9]+)")
_TYPE: Final = re.compile(r"Expected `(?P<wanted>[a-z]+)(?: \| null)?`, got `(?P<given>[a-z]+)`")
_FIELD: Final = re.compile(
    r"Object (?P<what>missing required|contains unknown) field `(?P<key>\w+)`"
)
_VALUE: Final = re.compile(r"Invalid enum value (?P<value>.*)")
_LENGTH: Final = re.compile(r"Expected `array` of length (?P<sign>>=|<=) (?P<bound>[0-9]+)")

_SIGNS: Final = {">=": "at least", "<=": "at most"}
_TYPES: Final = {
    "int": "a whole number",
    "str": "text in quotes",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}

Spell = Callable[[str], str]
"""How a parameter is called where it was written."""


def as_key(key: str) -> str:
    """As files spell a parameter."""
    return key


def as_option(key: str) -> str:
    """As commands spell a parameter."""
    return f"--{key.replace('_', '-')}"


def suggest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'partition'?`, or nothing."""
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def describe_problem(
    error: msgspec.ValidationError,
    what: str,
    known: Iterable[str],
    spell: Spell = as_key,
    *,
    tables: Mapping[str, Iterable[str]] = {},
    values: Mapping[str, Iterable[str]] = {},
) -> str:
    """Say what is wrong with `what`, whose parameters are `known`. `tables` are the parameters of
    the tables inside, `values` what a parameter of few values may be."""
    text = str(error)
    place = _PATH.search(text)
    path = place["path"] if place else ""
    text = _PATH.sub("", text)
    index = _INDEX.match(path)
    if index and path == index.group() and index["table"] not in tables:
        index = None  # An entry of a plain list: its key says where.
    if index:
        what = f"[[{index['table']}]] {int(index['index']) + 1}"
        path = path[index.end() :]
    key = path.split("[")[0].removesuffix(".")
    field = _FIELD.match(text)
    if field and field["what"] == "missing required":
        return f"{what} needs {spell(field['key'])}"
    if field:
        known = tuple(tables.get(index["table"], ()) if index else known)
        took = f"; it takes {', '.join(map(spell, known))}" if known else ""
        near = suggest(spell(field["key"]), map(spell, known))
        return f"{what} takes no {spell(field['key'])}{near or took}"
    if not key:
        return f"{what}: {text}"
    wanted = _describe_wanted(text, tuple(values.get(key, ())))
    return f"{what}: {spell(key)} is to be {wanted}"


def _describe_wanted(text: str, values: tuple[str, ...]) -> str:
    bound, length, type_ = _BOUND.match(text), _LENGTH.match(text), _TYPE.match(text)
    if bound:
        return f"{_SIGNS[bound['sign']]} {bound['bound']}"
    if length:
        return f"a list of {_SIGNS[length['sign']]} {length['bound']}"
    if type_:
        given = _TYPES.get(type_["given"], type_["given"])
        return f"{_TYPES.get(type_['wanted'], type_['wanted'])}, not {given}"
    value = _VALUE.match(text)
    if not value:
        return text
    assert values, "who has a parameter of few values says which"
    return f"one of {', '.join(values)}, not {value['value']}"


def fields_of(kind: Any) -> tuple[str, ...]:
    """The names that a struct's fields have in files."""
    return tuple(each.encode_name for each in msgspec.structs.fields(kind))


def say_count(number: int, noun: str) -> str:
    """`1 heal`, `2 heals`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
