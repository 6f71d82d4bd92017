"""What befalls an account, without gaps, from any height on: archived first, then as it comes.

A node tells its subscribers what is certified from now on, and its archive has what was. Both name
an entry by its height and leaf, so the two are joined here, and a client that is cut off goes on
at any other node where it was.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import trio
from msgspec import Struct

from node.client import DoorClient
from node.client_stream import DoorError
from node.protocol import AccountEvents, AccountEventsMissed, Channel

T = TypeVar("T")

ARCHIVE_LAG_POLL_S: Final = 0.05
"""What is certified is in a node's archive some hundredths of a second later."""


class Cursor(NamedTuple):
    """Where to go on: everything before this leaf of this height was told."""

    height: int
    leaf: int


class _Place(Struct, frozen=True):
    """What every entry has."""

    height: int
    leaf: int
    kind: str


class _Status(Struct, frozen=True):
    certified_height: int


class _Page(Struct, frozen=True):
    events: list[dict[str, Any]]
    next_height: int
    next_leaf: int
    certified_height: int


async def watch_account(
    client: DoorClient, account: bytes, start: Cursor | None = None
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield what certified heights did to an account: maps with `height`, `leaf`, `kind` and the
    fields of `engine`'s struct (`node.account_events`), in order, each once.

    From `start` on, or only what is certified from now on. Never ends by itself (leave it through
    `contextlib.aclosing`); raises `DoorError`.
    """
    subscription = await client.subscribe(Channel.ACCOUNT, account)
    cursor = start or Cursor(0, 0)
    if start is not None:
        async with aclosing(read_events(client, account, start)) as archived:
            async for entry in archived:
                yield entry
                cursor = Cursor(entry["height"], entry["leaf"] + 1)
    async for event in subscription:
        if isinstance(event, AccountEventsMissed):
            first = max(cursor, Cursor(event.from_height, 0))
            entries = [each async for each in read_events(client, account, first, event.to_height)]
        else:
            assert isinstance(event, AccountEvents)
            entries = read_entries(event)
        for entry in entries:
            if (entry["height"], entry["leaf"]) >= cursor:
                yield entry
                cursor = Cursor(entry["height"], entry["leaf"] + 1)


async def query_certified_height(client: DoorClient) -> int:
    """The highest height whose result is certified. Raises `DoorError`."""
    return _convert(_Status, await client.query("status")).certified_height


async def read_events(
    client: DoorClient, account: bytes, start: Cursor, until_height: int = 0
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield entries as `watch_account` does, from a place on up to what is certified when the first
    question is answered, and at least to `until_height`, which is certified. Raises `DoorError`."""
    height, leaf = start
    last = until_height
    is_first = True
    while is_first or height <= last:
        answer = await client.query("events", account, height, leaf)
        page = _convert(_Page, answer)
        following = (page.next_height, page.next_leaf)
        if following < (height, leaf):
            raise DoorError("door.malformed", "events go on before where they began")
        if is_first:
            last = max(last, page.certified_height)
            is_first = False
        for entry in page.events:
            _convert(_Place, entry)
            yield entry
        if following == (height, leaf) and height <= last:
            await trio.sleep(ARCHIVE_LAG_POLL_S)
        height, leaf = following


def _convert(type_: type[T], answer: object) -> T:
    try:
        return msgspec.convert(answer, type_)
    except msgspec.ValidationError as error:
        raise DoorError("door.malformed", f"events of an account: {error}") from error


def read_entries(event: AccountEvents) -> list[dict[str, Any]]:
    """The entries of a frame. Raises `DoorError`."""
    try:
        decoded = msgspec.msgpack.decode(event.events, type=list[dict[str, Any]])
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise DoorError("door.malformed", f"events of an account: {error}") from error
    entries = [{"height": event.height} | each | {"height": event.height} for each in decoded]
    for entry in entries:
        _convert(_Place, entry)
    return entries
