"""Session keys of simulated accounts: each lets one key sign for it, and uses it once it counts."""

from collections.abc import Mapping, Sequence
from typing import Final

from crypto.codec import encode
from mempool.keys import AuthorizeKey, KeyChanges, KeyScope
from mempool.ledger import KEY_ACTIVATION_DELAY_HEIGHTS

SESSIONS_EVERY: Final = 3
"""Of seeds, so many to one whose accounts have session keys."""
SESSION_MS: Final = 3_600_000
"""Longer than any run."""


def has_session_keys(seed: int) -> bool:
    """Whether the accounts of a seed let keys of a session sign for them."""
    return seed % SESSIONS_EVERY == 2


class SessionKeys:
    """One key for each account, of whom the first to ask comes first."""

    def __init__(
        self, secrets: Sequence[bytes], keys: Sequence[bytes], passed: Mapping[bytes, int]
    ) -> None:
        """Secrets and keys by account, and the heights at which envelopes counted, by id."""
        self.secrets = tuple(secrets)
        self._keys = tuple(keys)
        self._passed = passed
        self._asked: dict[bytes, bytes] = {}
        """The envelope that lets a key sign, by key."""

    def next_account(self) -> int | None:
        """The account whose key nobody has asked for yet, if any."""
        asked = len(self._asked)
        return asked if asked < len(self._keys) else None

    def make_body(self, account: int, now_ms: int) -> bytes:
        """Of the envelope that lets a key do anything that moves no money."""
        change = AuthorizeKey(self._keys[account], now_ms + SESSION_MS, KeyScope.TRADE)
        return encode(KeyChanges((change,)))

    def note(self, account: int, envelope_id: bytes) -> None:
        """That envelope is on its way."""
        self._asked[self._keys[account]] = envelope_id

    def find_active_height(self, key: bytes) -> int | None:
        """From which height on a key counts; None if that is not ordered yet."""
        height = self._passed.get(self._asked.get(key, b""))
        return None if height is None else height + KEY_ACTIVATION_DELAY_HEIGHTS

    def find_secret(self, account: int, committed_height: int) -> bytes | None:
        """The secret of an account's key, once all that is sent from now on is ordered late enough:
        everybody has committed this height."""
        height = self.find_active_height(self._keys[account])
        return self.secrets[account] if height is not None and committed_height >= height else None
