"""Strangers crowd out strangers, and whoever floods crowds out itself."""

import trio
from trio.testing import wait_all_tasks_blocked

from node.transport.errors import PeerError
from node.transport.places import HandshakePlaces


class Crowd:
    """Connections that wait in their places for ever."""

    def __init__(self, places_max: int) -> None:
        self.places = HandshakePlaces(places_max)
        self.left: list[str] = []

    async def wait(self, address: str, name: str) -> None:
        try:
            with self.places.take(address):
                await trio.sleep_forever()
        except PeerError:
            self.left.append(name)


async def test_a_flood_from_one_address_crowds_out_itself_alone():
    crowd = Crowd(4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crowd.wait, "member", "member")
        await wait_all_tasks_blocked()
        for number in range(20):
            nursery.start_soon(crowd.wait, "flood", str(number))
            await wait_all_tasks_blocked()
            assert len(crowd.places) <= 4
        assert crowd.left == [str(number) for number in range(17)]
        nursery.cancel_scope.cancel()
    assert len(crowd.places) == 0


async def test_of_addresses_with_one_connection_each_the_oldest_makes_room():
    crowd = Crowd(3)
    async with trio.open_nursery() as nursery:
        for name in ("one", "two", "three", "four", "five"):
            nursery.start_soon(crowd.wait, name, name)
            await wait_all_tasks_blocked()
        assert crowd.left == ["one", "two"]
        nursery.cancel_scope.cancel()


async def test_a_place_is_free_again_however_it_was_left():
    places = HandshakePlaces(1)
    for _ in range(3):
        with places.take("address"):
            assert len(places) == 1
        assert len(places) == 0
