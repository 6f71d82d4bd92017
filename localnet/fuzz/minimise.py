"""Cuts an input down while the same fault shows: first its tree, then its bytes.

What is left is small, not smallest: each step only ever takes away or makes simpler (delta
debugging, Zeller and Hildebrandt 2002), so a result is found in a bounded number of executions.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from localnet.fuzz.mutator import find_slots
from localnet.fuzz.trees import MSGPACK, Format, NotATreeError

T = TypeVar("T")

EXECUTIONS_MAX: Final = 2_000

SIMPLE: Final[tuple[Any, ...]] = (None, 0, b"", "", [])


def minimise(data: bytes, form: Format, is_same: Callable[[bytes], bool]) -> bytes:
    """The smallest input that was found for which `is_same` still holds."""
    left = EXECUTIONS_MAX

    def attempt(candidate: bytes) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and is_same(candidate)

    before = None
    while before != data and left > 0:
        before = data
        data = _shrink_tree(data, form, attempt)
        data = _shrink_bytes(data, attempt)
    return data


def _shrink_tree(data: bytes, form: Format, attempt: Callable[[bytes], bool]) -> bytes:
    """Take the first change that helps, and look again."""
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for candidate in _simplify(data, form):
            if len(candidate) < len(data) and attempt(candidate):
                data, is_smaller = candidate, True
                break
    return data


def _simplify(data: bytes, form: Format) -> Iterator[bytes]:
    """The input with one place left out or made simple; places near the root first."""
    try:
        count = len(find_slots([form.parse(data)]))
    except NotATreeError:
        return
    for number in range(count):
        for change in (_hoist, _drop, *(_put(value) for value in SIMPLE), _empty):
            box = [form.parse(data)]
            container, key = find_slots(box)[number]
            change(box, container, key)
            yield form.render(box[0])
        yield from _simplify_embedded(data, form, number)


def _simplify_embedded(data: bytes, form: Format, number: int) -> Iterator[bytes]:
    container, key = find_slots([form.parse(data)])[number]
    inner = container[key]
    if not isinstance(inner, bytes) or len(inner) < 3:
        return
    for smaller in _simplify(inner, MSGPACK):
        box = [form.parse(data)]
        place, index = find_slots(box)[number]
        place[index] = smaller
        yield form.render(box[0])


def _hoist(box: list[Any], container: Any, key: Any) -> None:
    box[0] = container[key]


def _drop(box: list[Any], container: Any, key: Any) -> None:
    if container is not box:
        del container[key]


def _put(value: Any) -> Callable[[list[Any], Any, Any], None]:
    def put(box: list[Any], container: Any, key: Any) -> None:
        container[key] = value

    return put


def _empty(box: list[Any], container: Any, key: Any) -> None:
    if isinstance(container[key], bytes):
        container[key] = bytes(len(container[key]) // 2)


def _shrink_bytes(data: bytes, attempt: Callable[[bytes], bool]) -> bytes:
    """Leave out stretches, from halves down to single bytes."""
    size = len(data) // 2
    while size:
        start = 0
        while start < len(data):
            candidate = data[:start] + data[start + size :]
            if attempt(candidate):
                data = candidate
            else:
                start += size
        size //= 2
    return data


def minimise_list(
    items: Sequence[T], is_same: Callable[[Sequence[T]], bool], runs_max: int
) -> Sequence[T]:
    """Leave out items while the same fault shows, within so many tries."""
    size = max(1, len(items) // 2)
    while runs_max > 0 and items:
        start, before = 0, len(items)
        while start < len(items) and runs_max > 0:
            runs_max -= 1
            candidate = [*items[:start], *items[start + size :]]
            if is_same(candidate):
                items = candidate
            else:
                start += size
        if size == 1 and len(items) == before:
            break
        size = max(1, size // 2)
    return items
