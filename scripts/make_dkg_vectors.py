"""Write `tests/vectors/dkg.json`: a small key ceremony, its resharing, a complaint, and the beacon,
for other implementations to check themselves against. `tests/vectors/README.md` describes it.

    python scripts/make_dkg_vectors.py

Everything in it follows from constants here, so that two runs give the same bytes.
"""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from crypto.codec import encode
from crypto.dkg.acknowledgement import acknowledge, is_acknowledgement_right
from crypto.dkg.dealing import (
    Dealing,
    compute_dealing_context,
    deal_again,
    deal_fresh,
    draw_scalars,
    find_dealing_fault,
    prove_dealing,
)
from crypto.dkg.encryption_key import make_encryption_key
from crypto.dkg.outcome import form_keys, form_secrets
from crypto.dkg.receiving import Complaint, TicketSecrets, judge_complaint, open_dealing
from crypto.dkg.sharing import Keys, Recipient, Sharing
from crypto.group import encode_scalar
from crypto.threshold.beacon import (
    combine_beacon,
    compute_beacon_shares,
    compute_block_message,
    compute_epoch_message,
    derive_seed,
    is_beacon_right,
)

PATH: Final = Path(__file__).parents[1] / "tests" / "vectors" / "dkg.json"
OWNER: Final = b"vectors"
SEED: Final = bytes(range(32))


class Committee:
    """Two or three members and what they came to."""

    def __init__(self, counts: Sequence[int], threshold: int, before: "Committee | None") -> None:
        epoch = 1 if before is None else 2
        made = [make_encryption_key(OWNER, bytes([epoch, i]) * 16) for i in range(len(counts))]
        self.encryption_secrets = [secret for secret, _, _ in made]
        self.encryption_proofs = [proof for _, _, proof in made]
        recipients = tuple(
            Recipient(public, count) for (_, public, _), count in zip(made, counts, strict=True)
        )
        previous = before.keys if before else None
        self.sharing = Sharing(bytes([epoch]) * 32, threshold, recipients, previous)
        if before is None:
            self.dealings = [deal_fresh(self.sharing, i, self.seed(i)) for i in range(len(counts))]
        else:
            self.dealings = [
                deal_again(self.sharing, i, ticket, secrets, self.seed(i))
                for i, held in enumerate(before.secrets)
                for ticket, secrets in zip(before.sharing.tickets_of(i), held, strict=True)
            ][: before.sharing.threshold]
        assert not any(find_dealing_fault(self.sharing, each) for each in self.dealings)
        self.keys = form_keys(self.sharing, self.dealings)
        self.secrets = [self.receive(i) for i in range(len(counts))]

    @staticmethod
    def seed(dealer: int) -> bytes:
        return SEED[:31] + bytes([dealer])

    def open(self, dealing: Dealing, recipient: int) -> list[TicketSecrets] | Complaint:
        return open_dealing(self.sharing, dealing, recipient, self.encryption_secrets[recipient])

    def receive(self, recipient: int) -> list[TicketSecrets]:
        received = []
        for dealing in self.dealings:
            opened = self.open(dealing, recipient)
            assert not isinstance(opened, Complaint)
            received.append(opened)
        return form_secrets(self.sharing, self.dealings, received)


def main() -> None:
    """Write the file."""
    PATH.write_text(render())


def render() -> str:
    """The text of the file."""
    return json.dumps(make_vectors(), indent=1) + "\n"


def make_vectors() -> dict[str, Any]:
    """All vectors; bytes are in hexadecimal."""
    fresh = Committee((2, 1, 1), 3, None)
    again = Committee((1, 2), 2, fresh)
    return {
        "version": 1,
        "encryption_key_context": OWNER.hex(),
        "fresh": show(fresh),
        "reshared": show(again),
        "complaint": make_complaint(fresh),
        "beacon": make_beacon(fresh),
    }


def show(committee: Committee) -> dict[str, Any]:
    sharing = committee.sharing
    acknowledgements = [
        acknowledge(sharing, committee.keys, i, secrets)
        for i, secrets in enumerate(committee.secrets)
    ]
    for i, each in enumerate(acknowledgements):
        assert is_acknowledgement_right(sharing, committee.keys, i, each)
    return {
        "sharing": encode(sharing).hex(),
        "context": sharing.context.hex(),
        "encryption_secrets": [each.hex() for each in committee.encryption_secrets],
        "encryption_key_proofs": [each.hex() for each in committee.encryption_proofs],
        "dealings": [
            {
                "dealing": encode(dealing).hex(),
                "digest": dealing.compute_digest().hex(),
                "context": compute_dealing_context(
                    sharing, dealing.dealer, dealing.old_ticket
                ).hex(),
                "opened": [
                    show_secrets(committee.open(dealing, i)) for i in range(len(sharing.recipients))
                ],
            }
            for dealing in committee.dealings
        ],
        "keys": encode(committee.keys).hex(),
        "secrets": [show_secrets(secrets) for secrets in committee.secrets],
        "acknowledgements": [each.hex() for each in acknowledgements],
    }


def show_secrets(secrets: list[TicketSecrets] | Complaint) -> list[list[str]]:
    assert not isinstance(secrets, Complaint)
    return [[secret.hex() for secret in pair] for pair in secrets]


def make_complaint(committee: Committee) -> dict[str, Any]:
    """The second member deals the first a bad share."""
    sharing, dealing = committee.sharing, committee.dealings[1]
    part = dealing.encrypted[0]
    bad = encode_scalar(int.from_bytes(part[:32], "big") + 1) + part[32:]
    drawn = draw_scalars(committee.seed(1), compute_dealing_context(sharing, 1, 0))
    ephemeral, *coefficients = islice(drawn, 1 + 2 * sharing.threshold)
    known = [ephemeral, coefficients[0], coefficients[sharing.threshold]]
    changed = replace(dealing, encrypted=(bad, *dealing.encrypted[1:]), proof=b"")
    spoiled = prove_dealing(sharing, changed, known)
    assert find_dealing_fault(sharing, spoiled) is None
    complaint = committee.open(spoiled, 0)
    assert isinstance(complaint, Complaint)
    flipped = complaint.proof[:-1] + bytes([complaint.proof[-1] ^ 1])
    cases = [complaint, replace(complaint, proof=flipped), replace(complaint, recipient=1)]
    return {
        "dealing": encode(spoiled).hex(),
        "cases": [
            {
                "complaint": encode(each).hex(),
                "blame": judge_complaint(sharing, spoiled, each).value,
            }
            for each in cases
        ],
    }


def make_beacon(committee: Committee) -> dict[str, Any]:
    keys: Keys = committee.keys
    epoch_message = compute_epoch_message(bytes(32), 1)
    message = compute_block_message(bytes(32), 1, 7, b"\x01" * 32)
    held = [pair[1] for secrets in committee.secrets for pair in secrets]
    shares = compute_beacon_shares(held, keys.beacon.tickets, message)
    combined = combine_beacon(keys.beacon, message, dict(enumerate(shares, start=1)), SEED)
    (beacon,) = combined.keys
    assert is_beacon_right(keys.beacon, message, beacon)
    return {
        "chain_id": bytes(32).hex(),
        "epoch": 1,
        "height": 7,
        "block_id": (b"\x01" * 32).hex(),
        "epoch_message": epoch_message.hex(),
        "block_message": message.hex(),
        "shares": [each.hex() for each in shares],
        "beacon": beacon.hex(),
        "seed": derive_seed(beacon).hex(),
    }


if __name__ == "__main__":
    main()
