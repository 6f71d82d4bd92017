"""What a committee's secrets hang on: sealed bodies, dealings, complaints. Whoever sends them is
nobody's friend, and what is said of them must be said by every node.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from msgspec.structs import replace

from crypto.codec import DecodeError, decode, encode
from crypto.dkg.dealing import Dealing as DealingBody
from crypto.dkg.dealing import deal_fresh, find_dealing_fault
from crypto.dkg.encryption_key import make_encryption_key
from crypto.dkg.receiving import Blame, judge_complaint, open_dealing
from crypto.dkg.receiving import Complaint as ComplaintBody
from crypto.dkg.sharing import Recipient, Sharing
from crypto.threshold.key import ThresholdKey
from crypto.threshold.mock_dealer import deal_test_key
from crypto.threshold.opening import open_block, verify_keys
from crypto.threshold.proof import check_headers, find_header_fault
from crypto.threshold.sealed import CheckedPoint, Label, SealFault
from crypto.threshold.sealing import open_body, seal
from crypto.threshold.shares import compute_shares, is_share_right
from localnet.fuzz.contract import RefusedError, Target, require
from localnet.fuzz.corpus import Corpus
from localnet.fuzz.trees import BYTES

_LABEL: Final = Label(bytes(32), bytes(32), 0, bytes(32), bytes(32), 1, 2, 3, 0)
_SEED: Final = bytes(32)
_MESSAGES: Final = (b"buy", b"sell")


class _Block(NamedTuple):
    """Two bodies sealed to three of four tickets, and what opens them."""

    key: ThresholdKey
    bodies: tuple[bytes, ...]
    points: tuple[CheckedPoint, ...]
    shares: dict[int, bytes]
    keys: tuple[bytes, ...]


@lru_cache(maxsize=1)
def _make_block() -> _Block:
    key, secrets = deal_test_key("fuzz", 3, 4)
    bodies = tuple(seal(key.public_key, _LABEL, each, _SEED) for each in _MESSAGES)
    label = _LABEL.compute_digest()
    checked = check_headers([(label, body) for body in bodies], _SEED)
    points = tuple(each for each in checked if not isinstance(each, SealFault))
    shares = dict(enumerate(compute_shares(secrets, key.tickets, points), start=1))
    return _Block(key, bodies, points, shares, open_block(key, points, shares, _SEED).keys)


class _Sharing(NamedTuple):
    """Two members who share two secrets, and an honest dealing."""

    sharing: Sharing
    secrets: tuple[bytes, ...]
    dealing: DealingBody


@lru_cache(maxsize=1)
def _make_sharing() -> _Sharing:
    made = [make_encryption_key(b"fuzz", bytes([number]) * 32) for number in range(2)]
    recipients = (Recipient(made[0][1], 1), Recipient(made[1][1], 2))
    sharing = Sharing(bytes(32), 2, recipients, None)
    return _Sharing(sharing, tuple(each[0] for each in made), deal_fresh(sharing, 0, _SEED))


def harvest_keys(corpus: Corpus) -> None:
    """What is good of each kind."""
    block, shared = _make_block(), _make_sharing()
    for body in block.bodies:
        corpus.add("sealed_body", body)
    corpus.add("shares", block.shares[1])
    corpus.add("opened_keys", b"".join(block.keys))
    corpus.add("dealing", encode(shared.dealing))
    for recipient, secret in enumerate(shared.secrets):
        corpus.add("complaint", encode(_complain(shared, recipient, secret)))


def _complain(shared: _Sharing, recipient: int, secret: bytes) -> ComplaintBody:
    """A complaint by the book about shares that are good."""
    spoiled = tuple(
        bytes(31) + b"\x01" + part[32:] if index == recipient else part
        for index, part in enumerate(shared.dealing.encrypted)
    )
    complaint = open_dealing(
        shared.sharing, replace(shared.dealing, encrypted=spoiled), recipient, secret
    )
    assert isinstance(complaint, ComplaintBody)
    return replace(complaint, dealing=shared.dealing.compute_digest())


def _check_body(data: bytes) -> None:
    block, label = _make_block(), _LABEL.compute_digest()
    single = find_header_fault(label, data)
    alone, *others = check_headers([(label, each) for each in (data, *block.bodies)], _SEED)
    require(tuple(others) == block.points, "a body spoiled the verdict on others")
    require((alone if isinstance(alone, SealFault) else None) == single, "alone and in a batch")
    if single is not None:
        raise RefusedError(single.value)
    for key in block.keys:
        open_body(label, data, key)


def _open_with(data: bytes) -> None:
    """A block opens by three honest tickets, whatever the fourth sends."""
    block = _make_block()
    opening = open_block(block.key, block.points, {**block.shares, 1: data}, _SEED)
    require(opening.keys == block.keys, "one ticket kept a block shut, or opened it otherwise")
    for bad in opening.bad:
        require(bad.ticket == 1, "an honest ticket was named")
        first, share = block.bodies[bad.index][:48], data[96 * bad.index : 96 * bad.index + 96]
        is_right = is_share_right(block.key, 1, first, share)
        is_whole = len(data) == len(block.shares[1])
        require(not is_right or not is_whole, "a good share was named")
        raise RefusedError("share.bad")


def _verify_keys(data: bytes) -> None:
    block = _make_block()
    keys = [data[start : start + 48] for start in range(0, len(data), 48)]
    is_right = verify_keys(block.key, block.points, keys, _SEED)
    require(is_right == (tuple(keys) == block.keys), "other keys than the right ones")
    if not is_right:
        raise RefusedError("keys.wrong")


def _read_dealing(data: bytes) -> None:
    sharing, secrets, _ = _make_sharing()
    dealing = decode(DealingBody, data)
    require(encode(dealing) == data, "two encodings of one dealing")
    fault = find_dealing_fault(sharing, dealing)
    if fault is not None:
        raise RefusedError(fault.value)
    for recipient, secret in enumerate(secrets):
        opened = open_dealing(sharing, dealing, recipient, secret)
        if isinstance(opened, ComplaintBody):
            blame = judge_complaint(sharing, dealing, opened)
            require(blame is Blame.DEALER, "an honest complaint convicts its author")


def _read_complaint(data: bytes) -> None:
    """About an honest dealing, whatever it is named for."""
    shared = _make_sharing()
    complaint = decode(ComplaintBody, data)
    require(encode(complaint) == data, "two encodings of one complaint")
    named = replace(complaint, dealing=shared.dealing.compute_digest())
    blame = judge_complaint(shared.sharing, shared.dealing, named)
    require(blame is Blame.COMPLAINER, "an honest dealer was convicted")


KEY_TARGETS: Final = (
    Target("sealed_body", ("sealed_body",), _check_body, (RefusedError,), BYTES, weight=300),
    Target("shares", ("shares",), _open_with, (RefusedError,), BYTES, weight=400),
    Target("opened_keys", ("opened_keys",), _verify_keys, (RefusedError,), BYTES, weight=200),
    Target(
        "dealing",
        ("dealing",),
        _read_dealing,
        (DecodeError, RefusedError),
        types=("DealingBody",),
        weight=400,
    ),
    Target(
        "complaint",
        ("complaint",),
        _read_complaint,
        (DecodeError,),
        types=("ComplaintBody",),
        weight=200,
    ),
)
