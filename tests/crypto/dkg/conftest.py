"""A whole sharing among members, by the pure functions alone."""

from itertools import islice

import pytest
from msgspec.structs import replace

from crypto.dkg.dealing import (
    compute_dealing_context,
    deal_again,
    deal_fresh,
    draw_scalars,
    find_dealing_fault,
    prove_dealing,
)
from crypto.dkg.encryption_key import make_encryption_key
from crypto.dkg.outcome import form_keys, form_secrets
from crypto.dkg.receiving import Complaint, open_dealing
from crypto.dkg.sharing import Recipient, Sharing
from crypto.group import encode_scalar

CHAIN_ID = b"\x11" * 32


def make_seed(*numbers: int) -> bytes:
    return bytes(numbers).ljust(32, b"\x77")


class Round:
    """One sharing with honest dealers, run to its end."""

    def __init__(self, counts, threshold, epoch=1, before=None):
        made = [
            make_encryption_key(CHAIN_ID + bytes([i]), make_seed(epoch, i))
            for i in range(len(counts))
        ]
        self.encryption_secrets = [secret for secret, _, _ in made]
        recipients = tuple(
            Recipient(public, count) for (_, public, _), count in zip(made, counts, strict=True)
        )
        previous = before.keys if before else None
        self.epoch = epoch
        self.sharing = Sharing(bytes([epoch]) * 32, threshold, recipients, previous)
        if before is None:
            self.dealings = [
                deal_fresh(self.sharing, i, make_seed(epoch, i)) for i in range(len(counts))
            ]
        else:
            self.dealings = [
                deal_again(self.sharing, before.owner_of(ticket), ticket, secrets, make_seed(epoch))
                for ticket, secrets in before.secrets_by_ticket().items()
            ][: before.sharing.threshold]
        assert not any(find_dealing_fault(self.sharing, each) for each in self.dealings)
        self.keys = form_keys(self.sharing, self.dealings)
        self.secrets = [self.receive(i, self.dealings) for i in range(len(counts))]

    def open(self, dealing, recipient):
        return open_dealing(self.sharing, dealing, recipient, self.encryption_secrets[recipient])

    def receive(self, recipient, dealings):
        received = [self.open(dealing, recipient) for dealing in dealings]
        assert not any(isinstance(each, Complaint) for each in received)
        return form_secrets(self.sharing, dealings, received)

    def owner_of(self, ticket):
        members = range(len(self.sharing.recipients))
        return next(i for i in members if ticket in self.sharing.tickets_of(i))

    def secrets_by_ticket(self):
        pairs = [pair for secrets in self.secrets for pair in secrets]
        return dict(enumerate(pairs, start=1))

    def prove_again(self, dealing, **changes):
        """A fresh dealing with something changed, and a proof by who made it."""
        context = compute_dealing_context(self.sharing, dealing.dealer, 0)
        drawn = draw_scalars(make_seed(self.epoch, dealing.dealer), context)
        ephemeral, *rest = islice(drawn, 1 + 2 * self.sharing.threshold)
        known = [ephemeral, rest[0], rest[self.sharing.threshold]]
        return prove_dealing(self.sharing, replace(dealing, proof=b"", **changes), known)

    def spoil(self, dealing, recipient, at=0):
        """The dealing with one encrypted share of a recipient off its polynomial."""
        parts = list(dealing.encrypted)
        part = parts[recipient]
        value = int.from_bytes(part[at : at + 32], "big")
        parts[recipient] = part[:at] + encode_scalar(value + 1) + part[at + 32 :]
        return self.prove_again(dealing, encrypted=tuple(parts))


@pytest.fixture(scope="session")
def fresh():
    """Four members with 2, 1, 0 and 2 tickets, any three of which do."""
    return Round((2, 1, 0, 2), 3)


@pytest.fixture(scope="session")
def again(fresh):
    """Its successors: one fewer, other tickets, the same key."""
    return Round((1, 1, 2), 3, epoch=2, before=fresh)
