"""Who hears what, and that nothing is left of a client that is gone."""

from node.protocol import SUBSCRIPTIONS_MAX, Channel, Subscribe
from node.subscriptions import Subscriptions

ACCOUNT = b"a" * 32


def sources(subscriptions):
    return [each.source for each in subscriptions]


def test_a_client_is_heard_of_by_channel_and_by_account_until_it_is_dropped():
    subscriptions = Subscriptions()
    assert subscriptions.add(1, Subscribe(1, Channel.TRADES)) is None
    assert subscriptions.add(1, Subscribe(2, Channel.RECEIPTS, ACCOUNT)) is None
    assert subscriptions.add(2, Subscribe(1, Channel.RECEIPTS, ACCOUNT)) is None
    assert sources(subscriptions.of_channel(Channel.TRADES)) == [1]
    assert sources(subscriptions.of_account(Channel.RECEIPTS, ACCOUNT)) == [1, 2]
    subscriptions.drop(1)
    assert not subscriptions.is_heard(Channel.TRADES)
    assert not subscriptions.has_any(1)
    assert sources(subscriptions.of_account(Channel.RECEIPTS, ACCOUNT)) == [2]
    subscriptions.drop(2)
    assert not subscriptions.is_watched(Channel.RECEIPTS, ACCOUNT)
    assert subscriptions.of_account(Channel.RECEIPTS, ACCOUNT) == ()


def test_what_cannot_be_subscribed_to_leaves_nothing_behind():
    subscriptions = Subscriptions()
    assert subscriptions.add(1, Subscribe(1, Channel.RECEIPTS))
    assert subscriptions.add(1, Subscribe(1, Channel.BLOCKS, ACCOUNT))
    assert not subscriptions.has_any(1)
    for number in range(SUBSCRIPTIONS_MAX):
        assert subscriptions.add(1, Subscribe(number, Channel.BLOCKS)) is None
        assert subscriptions.add(1, Subscribe(number, Channel.BLOCKS))
    assert subscriptions.add(1, Subscribe(99, Channel.BLOCKS))
    assert len(subscriptions.of_channel(Channel.BLOCKS)) == SUBSCRIPTIONS_MAX
    subscriptions.drop(3)


def test_receipts_and_events_of_an_account_are_heard_apart():
    subscriptions = Subscriptions()
    assert subscriptions.add(1, Subscribe(1, Channel.RECEIPTS, ACCOUNT)) is None
    assert subscriptions.add(2, Subscribe(1, Channel.ACCOUNT, ACCOUNT)) is None
    assert subscriptions.add(2, Subscribe(2, Channel.ACCOUNT))
    assert sources(subscriptions.of_account(Channel.RECEIPTS, ACCOUNT)) == [1]
    assert sources(subscriptions.of_account(Channel.ACCOUNT, ACCOUNT)) == [2]
    subscriptions.drop(1)
    assert not subscriptions.is_watched(Channel.RECEIPTS, ACCOUNT)
    assert subscriptions.is_watched(Channel.ACCOUNT, ACCOUNT)
