"""Who hears what at the order door: subscriptions by client, by channel and by account."""

from collections.abc import Sequence

from node.protocol import ACCOUNT_CHANNELS, SUBSCRIPTIONS_MAX, Channel, Subscribe


class Subscription:
    """What one client asked to hear, and how many events it was sent."""

    __slots__ = ("account", "channel", "request", "sequence", "source")

    def __init__(self, source: int, request: Subscribe) -> None:
        self.source = source
        self.request = request.request
        self.channel = request.channel
        self.account = request.account
        self.sequence = 0


class Subscriptions:
    """The subscriptions of all clients; a `source` names a client."""

    def __init__(self) -> None:
        self._by_source: dict[int, dict[int, Subscription]] = {}
        """The subscriptions of each client, by request."""
        self._by_channel: dict[Channel, dict[tuple[int, int], Subscription]] = {
            channel: {} for channel in Channel
        }
        self._by_account: dict[tuple[Channel, bytes], dict[tuple[int, int], Subscription]] = {}

    def add(self, source: int, request: Subscribe) -> str | None:
        """Add a subscription, or say why not."""
        own = self._by_source.setdefault(source, {})
        if len(own) >= SUBSCRIPTIONS_MAX:
            return f"at most {SUBSCRIPTIONS_MAX} subscriptions a connection"
        if request.request in own:
            return "a subscription with this number exists"
        if (request.channel in ACCOUNT_CHANNELS) != (request.account is not None):
            return "receipts and events of accounts, and only these, are by account"
        subscription = Subscription(source, request)
        key = (source, request.request)
        own[request.request] = self._by_channel[request.channel][key] = subscription
        if request.account is not None:
            watched = (request.channel, request.account)
            self._by_account.setdefault(watched, {})[key] = subscription
        return None

    def drop(self, source: int) -> None:
        """Forget a client."""
        for request, subscription in self._by_source.pop(source, {}).items():
            key = (source, request)
            del self._by_channel[subscription.channel][key]
            if subscription.account is not None:
                watched = (subscription.channel, subscription.account)
                watchers = self._by_account[watched]
                del watchers[key]
                if not watchers:
                    del self._by_account[watched]

    def has_any(self, source: int) -> bool:
        """Has a client subscribed to anything?"""
        return bool(self._by_source.get(source))

    def of_channel(self, channel: Channel) -> Sequence[Subscription]:
        """Who hears a channel."""
        return tuple(self._by_channel[channel].values())

    def of_account(self, channel: Channel, account: bytes) -> Sequence[Subscription]:
        """Who hears a channel of an account."""
        return tuple(self._by_account.get((channel, account), {}).values())

    def is_heard(self, channel: Channel) -> bool:
        """Does anybody hear a channel?"""
        return bool(self._by_channel[channel])

    def is_watched(self, channel: Channel, account: bytes) -> bool:
        """Does anybody hear a channel of an account?"""
        return (channel, account) in self._by_account
