"""Bends an input: a few changes to its tree, to its lines or to its bytes, all from one `Random`.

Where a tree holds bytes that are themselves an encoding (an envelope in a batch in a message), the
change may happen inside them, so that the outer layers stay whole and inner decoders are reached.
"""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from localnet.fuzz.trees import (
    BYTES,
    MSGPACK,
    TEXT,
    FalseLength,
    Format,
    LongForm,
    Nest,
    NotATreeError,
)

CHANGES: Final = (1, 1, 1, 1, 2, 2, 4)
"""In one step, drawn from these: one change reaches deepest. Inputs that are kept and bent again
collect more."""
SLOTS_MAX: Final = 4_000
"""Places of one tree among which one is chosen."""
DEPTHS: Final = (1, 15, 16, 64, 500, 1_023, 1_025, 20_000)
EMBEDDED_MIN_BYTES: Final = 3

INTEGER_MAX: Final = 2**64 - 1
"""More fits into no MessagePack."""
INTEGERS: Final = tuple(
    sorted(
        {
            sign * (1 << bits) + offset
            for bits in (0, 5, 7, 8, 15, 16, 31, 32, 53, 62, 63)
            for offset in (-1, 0, 1)
            for sign in (1, -1)
            if -(2**63) <= sign * (1 << bits) + offset < 2**64
        }
        | {0, 2**64 - 1, 2**64 - 2}
    )
)
SIZES: Final = (0, 1, 2, 16, 31, 32, 33, 47, 48, 49, 63, 64, 65, 95, 96, 97, 255, 256, 257, 4_096)
CLAIMS: Final = (0, 1, 2, 255, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1)
TEXTS: Final = ("", "0", "-1", "\x00", "é", "\ud7ff", "￿", "x" * 300, "../../x", "%s%n", "null")
SCALARS: Final[tuple[Any, ...]] = (
    *(None, True, False, 0.0, -0.0, float("inf"), float("nan"), 1e308, b"", "", [], {}),
)
LIST_COPIES_MAX: Final = 300

Bend = Callable[[Random, Any, Sequence[bytes], Format], Any]
"""Makes something else of one value."""


def mutate(random: Random, data: bytes, donors: Sequence[bytes], form: Format) -> bytes:
    """Bend an input; `donors` are others of which parts may be taken. Never larger than the
    largest of them by more than some kilobytes a change."""
    for _ in range(random.choice(CHANGES)):
        data = _change(random, data, donors, form)
    return data


def mutate_gently(random: Random, data: bytes, donors: Sequence[bytes], form: Format) -> bytes:
    """Bend an input in such a way that a decoder most often takes it: numbers stay numbers, bytes
    keep their length, lists lose, repeat, exchange or borrow members."""
    try:
        tree = form.parse(data)
    except NotATreeError:
        return data
    for _ in range(random.choice(CHANGES)):
        tree = change_tree(random, tree, donors, form, _bend_gently)
    return form.render(tree)


def _change(random: Random, data: bytes, donors: Sequence[bytes], form: Format) -> bytes:
    if form is TEXT and random.random() < 0.8:
        return _change_text(random, data, donors)
    if form is BYTES or form is TEXT or random.random() < 0.15:
        return _change_bytes(random, data, donors)
    try:
        tree = form.parse(data)
    except NotATreeError:
        return _change_bytes(random, data, donors)
    return form.render(change_tree(random, tree, donors, form))


# ---- trees -----------------------------------------------------------------------------------


def change_tree(
    random: Random,
    tree: Any,
    donors: Sequence[bytes],
    form: Format,
    bend: Bend | None = None,
) -> Any:
    """Change one place of a tree."""
    bend = _bend if bend is None else bend
    box = [tree]
    slots = find_slots(box)
    container, key = random.choice(slots)
    value = container[key]
    if isinstance(value, bytes) and random.random() < 0.7:
        inner = _change_embedded(random, value, donors, bend)
        if inner is not None:
            container[key] = inner
            return box[0]
    if random.random() < 0.1 and len(slots) > 1:
        other, other_key = random.choice(slots)
        # A tree that holds itself could not be written.
        if not isinstance(value, list | dict) and not isinstance(other[other_key], list | dict):
            container[key], other[other_key] = other[other_key], value
            return box[0]
    container[key] = bend(random, value, donors, form)
    return box[0]


def find_slots(box: list[Any]) -> list[tuple[Any, Any]]:
    """Every place of a tree as (container, key), the root's in `box` first."""
    slots: list[tuple[Any, Any]] = [(box, 0)]
    for container, key in slots:
        value = container[key]
        if isinstance(value, list):
            slots.extend((value, index) for index in range(len(value)))
        elif isinstance(value, dict):
            slots.extend((value, each) for each in value)
        if len(slots) > SLOTS_MAX:
            break
    return slots


def _change_embedded(
    random: Random, value: bytes, donors: Sequence[bytes], bend: Bend
) -> bytes | None:
    """Change something inside bytes that are an encoded list themselves."""
    if len(value) < EMBEDDED_MIN_BYTES:
        return None
    try:
        tree = MSGPACK.parse(value)
    except NotATreeError:
        return None
    if not isinstance(tree, list):
        return None
    return MSGPACK.render(change_tree(random, tree, donors, MSGPACK, bend))


def _bend(random: Random, value: Any, donors: Sequence[bytes], form: Format) -> Any:
    """Something else in the place of a value."""
    draw = random.random()
    if draw < 0.08:
        return LongForm(value)
    if draw < 0.14:
        return FalseLength(value, random.choice(CLAIMS))
    if draw < 0.16:
        return Nest(random.choice(DEPTHS))
    if draw < 0.26:
        return random.choice((*SCALARS, random.choice(INTEGERS), random.choice(TEXTS)))
    if draw < 0.40:
        return _take_part(random, value, donors, form)
    match value:
        case bool() | None:
            return random.choice((True, False, None, 0, 1))
        case int():
            return _bend_integer(random, value)
        case float():
            return random.choice((0.0, -value, value * 2, int(value) if abs(value) < 1e15 else 1))
        case str():
            return _bend_text(random, value)
        case bytes():
            return _bend_bytes(random, value)
        case list():
            return _bend_list(random, value, donors, form)
        case dict():
            return _bend_map(random, value)
        case _:
            return None


def _bend_gently(random: Random, value: Any, donors: Sequence[bytes], form: Format) -> Any:
    match value:
        case bool():
            return not value
        case int():
            draw = random.random()
            if draw < 0.5:
                return min(max(0, value + random.choice((-2, -1, 1, 2))), INTEGER_MAX)
            return random.choice([each for each in INTEGERS if 0 <= each < 2**63])
        case bytes() if value:
            taken = _take_part(random, value, donors, form)
            if isinstance(taken, bytes) and len(taken) == len(value) and random.random() < 0.6:
                return taken
            return flip_bit(random, value)
        case list() if len(value) > 1:
            position = random.randrange(len(value))
            match random.randrange(4):
                case 0:
                    return value[:position] + value[position + 1 :]
                case 1:
                    return [*value[:position], value[position], *value[position:]]
                case 2:
                    return random.sample(value, len(value))
                case _:
                    return _take_part(random, value, donors, form)
        case _:
            return _take_part(random, value, donors, form)


def _take_part(random: Random, value: Any, donors: Sequence[bytes], form: Format) -> Any:
    """A subtree of another input, of the same kind as `value` if there is one."""
    try:
        tree = form.parse(random.choice(donors))
    except (NotATreeError, IndexError):
        return value
    parts = [container[key] for container, key in find_slots([tree])]
    alike = [part for part in parts if type(part) is type(value)]
    return random.choice(alike if alike and random.random() < 0.9 else parts)


def _bend_integer(random: Random, value: int) -> Any:
    draw = random.random()
    if draw < 0.4:
        bent = value + random.choice((-1, 1, -2, 2, 16, -16))
    elif draw < 0.7:
        bent = random.choice(INTEGERS)
    elif draw < 0.8:
        bent = -value
    elif draw < 0.9:
        bent = value ^ (1 << random.randrange(63))
    else:
        return random.choice((float(value), str(value), value.to_bytes(9, "big", signed=True)))
    return bent if -(2**63) <= bent < 2**64 else 0


def _bend_text(random: Random, value: str) -> Any:
    position = random.randint(0, len(value))
    return random.choice(
        (
            value[:position],
            value + random.choice(TEXTS),
            value[:position] + random.choice(TEXTS) + value[position:],
            value.upper(),
            value.encode(errors="replace"),
            random.choice(TEXTS),
        )
    )


def _bend_bytes(random: Random, value: bytes) -> Any:
    size = len(value)
    match random.randrange(8):
        case 0:
            return value[: random.randint(0, size)]
        case 1:
            return value + random.randbytes(random.choice((1, 2, 32)))
        case 2 | 3 if value:
            return flip_bit(random, value)
        case 4:
            return bytes(random.choice((size, random.choice(SIZES))))
        case 5:
            return b"\xff" * size
        case 6:
            return random.randbytes(random.choice((size, random.choice(SIZES))))
        case _:
            return value.hex()


def _bend_list(random: Random, value: list[Any], donors: Sequence[bytes], form: Format) -> Any:
    if not value:
        return [random.choice((0, b"", [], None))]
    position = random.randrange(len(value))
    before, each, after = value[:position], value[position], value[position + 1 :]
    match random.randrange(9):
        case 0:
            return before + after
        case 1:
            return [*before, each, each, *after]
        case 2:
            return [*value, random.choice((0, None, b"", each))]
        case 3:
            return before
        case 4:
            return value[::-1]
        case 5:
            copies = random.choice((2, 16, 17, 65, LIST_COPIES_MAX))
            return [*before, *[each] * copies, *after]
        case 6:
            return random.sample(value, len(value))
        case 7:
            return [*before, _take_part(random, each, donors, form), each, *after]
        case _:
            return dict(enumerate(value))


def _bend_map(random: Random, value: dict[Any, Any]) -> Any:
    bent = dict(value)
    if bent and random.random() < 0.6:
        key = random.choice(list(bent))
        held = bent.pop(key)
        if random.random() < 0.5:
            bent[random.choice((f"{key}_", "unknown", 0, str(key).upper()))] = held
        return bent
    bent[random.choice(("unknown", "type", "kind", "version"))] = random.choice(SCALARS)
    return bent if random.random() < 0.8 else list(bent.values())


# ---- bytes -----------------------------------------------------------------------------------


def flip_bit(random: Random, data: bytes) -> bytes:
    """One bit of some bytes, at least one, is another."""
    position = random.randrange(len(data))
    flipped = data[position] ^ 1 << random.randrange(8)
    return data[:position] + bytes([flipped]) + data[position + 1 :]


def _change_bytes(random: Random, data: bytes, donors: Sequence[bytes]) -> bytes:
    start = random.randint(0, len(data))
    end = min(len(data), start + random.choice((1, 2, 4, 8, 64, 1_024)))
    donor = random.choice(donors) if donors else data
    match random.randrange(9):
        case 0 | 1 | 2 if data:
            return flip_bit(random, data)
        case 3:
            return data[:start]
        case 4:
            return data[:start] + data[end:]
        case 5:
            return data[:end] + data[start:end] + data[end:]
        case 6:
            return data[:start] + donor[random.randint(0, len(donor)) :]
        case 7:
            size = random.choice((1, 2, 4, 8))
            number = random.choice(INTEGERS) % (1 << 8 * size)
            return data[:start] + number.to_bytes(size, "big") + data[start + size :]
        case _:
            return data + random.randbytes(random.choice((1, 4, 64)))


# ---- lines -----------------------------------------------------------------------------------

_WORD: Final = re.compile(rb"[A-Za-z0-9_.+-]+")

WORDS: Final = (
    *(b"%d" % number for number in INTEGERS),
    *(b"0x7f", b"1e999", b"-0", b"nan", b"inf", b"1_0", b"true", b'""', b"''", b"[]", b"{}"),
    *(b'"x', b"[[x]]", b"[x", b"a.b.c = 1", b"1979-05-27T07:32:00Z", b"\xff", b"\x00", b"\xef\xbb"),
    *(b"%s" % (b"9" * 5_000), b"[" * 2_000 + b"]" * 2_000, b"{a=" * 2_000, b'"' + b"x" * 5_000),
    *(b"a." * 2_000 + b"a = 1", "٣".encode(), "０".encode(), b"0s", b"-5s", b"9" * 9 + b"h"),
)


def _change_text(random: Random, data: bytes, donors: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    position = random.randrange(len(lines))
    line = lines[position]
    match random.randrange(7):
        case 0:
            del lines[position]
        case 1:
            lines.insert(random.randint(0, len(lines)), line)
        case 2:
            taken = random.choice(donors).split(b"\n") if donors else [line]
            lines.insert(position, random.choice(taken))
        case 3:
            lines.insert(position, random.choice(WORDS))
        case _:
            lines[position] = _change_word(random, line)
    return b"\n".join(lines)


def _change_word(random: Random, line: bytes) -> bytes:
    words = list(_WORD.finditer(line))
    if not words:
        return line + random.choice(WORDS)
    chosen = random.choice(words)
    bent: Callable[[bytes], bytes] = random.choice(
        (lambda _: random.choice(WORDS), lambda word: word * 2, lambda word: word[:-1])
    )
    return line[: chosen.start()] + bent(chosen[0]) + line[chosen.end() :]
