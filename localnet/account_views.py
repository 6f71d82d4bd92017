"""What traders read of an account's view."""

import msgspec

from node.client_stream import DoorError


class PositionView(msgspec.Struct, frozen=True):
    """A position, as far as it matters here."""

    market: int
    size_lots: int


class AccountView(msgspec.Struct, frozen=True):
    """An account, as far as it matters here."""

    positions: list[PositionView]


def read_positions(view: object) -> dict[int, int]:
    """Lots by market, from the `account` view. Raises `DoorError`."""
    try:
        account = msgspec.convert(view, AccountView)
    except msgspec.ValidationError as error:
        raise DoorError("door.malformed", f"account: {error}") from error
    return {position.market: position.size_lots for position in account.positions}
