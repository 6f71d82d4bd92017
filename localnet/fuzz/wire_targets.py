"""Decoders of what members and clients send: frames, certificates, batches, envelopes, bundles."""

from typing import Any, Final, get_args

from consensus.effects import Misbehaviour, Received, Verified, Verify
from consensus.evidence import (
    EvidenceError,
    compute_evidence_claims,
    decode_evidence,
    validate_evidence,
)
from consensus.messages import (
    Advance,
    BlockResponse,
    BulkMessage,
    CommittedResponse,
    ControlMessage,
    LaneCertificate,
    Message,
    Proposal,
    Timeout,
    Vote,
    encode_message,
)
from consensus.validation import ValidationError, validate_links
from crypto.codec import DecodeError, decode_lenient, encode
from crypto.digest import Domain, bulk_digest, digest
from engine.apply import apply_block
from engine.block import BlockInput, BlockOutput, EngineEnvelope
from engine.instructions import Bundle
from engine.invariants import validate_all
from engine.receipts import ReasonCode
from engine.schedule import decode_bundle
from engine.snapshots.whole import restore, snapshot
from localnet.fuzz.contract import RefusedError, Target, require
from localnet.fuzz.corpus import kind_of
from localnet.fuzz.ground import AUTHOR_SECRET, make_validator, prepare_ground
from mempool.batch import BatchVerdict, CheckableBatch, check_batch, decode_batch_body, reopen_batch
from mempool.envelope import (
    NAMESPACE_ENGINE,
    BodyKind,
    Envelope,
    EnvelopeHeader,
    compute_body_digest,
)
from mempool.keys import KeyChanges, decode_key_changes
from mempool.validity import EnvelopeInvalidError, validate_envelope
from node.door import decode_request
from node.engine_input import make_reporters
from node.host import decode_frame
from node.joining import Joiner
from node.offers import OfferError, check_offer
from node.protocol import ClientFrame, ServerFrame
from node.transport.queues import Traffic
from node.workers.errors import WorkerQueryError
from node.workers.views import Views

BULK_KINDS: Final = tuple(kind_of("message", each) for each in get_args(BulkMessage))
CONTROL_KINDS: Final = tuple(kind_of("message", each) for each in get_args(ControlMessage))


def require_stable(type_: Any, value: Any) -> None:
    """A value that was not decoded canonically still has an encoding that gives it back."""
    encoded = encode(value)
    require(encode(decode_lenient(type_, encoded)) == encoded, "encodes to another value")


def read_control(data: bytes) -> Message:
    """A frame of the control connection."""
    message = decode_frame(Traffic.CONTROL, data)
    require(encode_message(message) == data, "two encodings of one message")
    return message


def read_bulk(data: bytes) -> Message:
    """A frame of the bulk connection."""
    message = decode_frame(Traffic.BULK, data)
    require_stable(Message, message)
    return message


def check_message(data: bytes) -> None:
    """A message, and every check that looks at nothing but it."""
    try:
        message = read_control(data)
    except DecodeError:
        message = read_bulk(data)
    validator = make_validator()
    match message:
        case Vote():
            validator.check_vote(message.author, message)
        case Timeout():
            validator.check_timeout(message.author, message)
        case Advance():
            validator.check_advance(message)
        case Proposal():
            validator.check_proposal(message.author, message)
        case LaneCertificate(certificate):
            validator.check_availability(certificate)
        case CommittedResponse() | BlockResponse():
            if isinstance(message, CommittedResponse):
                validator.check_committed_response(message)
            for block in message.blocks:
                validate_links(block)
                validator.check_block(block)
        case _:
            pass


def read_offer(data: bytes) -> None:
    """A snapshot that somebody offers to a node that joins."""
    cluster = prepare_ground().cluster
    checked = check_offer(data, cluster.chain_id, cluster.keys.committee)
    require(encode(checked.offer) == data, "two encodings of one offer")
    require(bool(checked.pieces()), "there is something to fetch")
    checked.offer.compute_name()


def tell_joiner(data: bytes) -> None:
    """A node that joins hears a bulk message, whatever it is."""
    cluster = prepare_ground().cluster
    message: Message = decode_lenient(BulkMessage, data)  # type: ignore[arg-type]  # a union
    joiner = Joiner(cluster.chain_id, cluster.keys.committee, 3)
    effects = list(joiner.start(0))
    for sender in (0, 1):
        effects += joiner.step(1, Received(sender, message))
    for verify in [each for each in effects if isinstance(each, Verify)]:
        effects += joiner.step(2, Verified(verify.token, (True,) * len(verify.claims)))
    blamed = {each.member for each in effects if isinstance(each, Misbehaviour)}
    require(blamed <= {0, 1}, "blames who said nothing")


def read_evidence(data: bytes) -> None:
    """A piece of evidence, up to the signatures that would convict."""
    evidence = decode_evidence(data)
    require(encode(evidence) == data, "two encodings of one offence")
    cluster = prepare_ground().cluster
    validate_evidence(evidence, cluster.keys.committee)
    compute_evidence_claims(evidence, cluster.keys.committee, cluster.chain_id)


def read_batch(data: bytes) -> None:
    """A batch whose author signed whatever it holds."""
    ground = prepare_ground()
    identity, chain_id = ground.cluster.identity, ground.cluster.chain_id
    message = digest(Domain.BATCH_AUTHOR, data)
    signature = identity.sign(AUTHOR_SECRET, message)
    body_digest = bulk_digest(Domain.BATCH_BODY, data)
    batch = CheckableBatch(
        ground.author_key, message, signature, body_digest, len(data), bytes(data)
    )
    verdict = check_batch(batch, identity, chain_id)
    require((verdict.error is None) != (verdict.summary is None), "an error or a summary")
    encoded = encode(verdict)
    require(encode(decode_lenient(BatchVerdict, encoded)) == encoded, "a verdict that is none")
    reopened = reopen_batch(bytes(data), body_digest, chain_id)
    require(verdict.error is not None or reopened == verdict, "reopened as another batch")
    if verdict.error is None:
        require(encode(decode_batch_body(data)) == data, "two encodings of one batch")
    else:
        raise RefusedError(str(verdict.error))


def read_envelope(data: bytes) -> None:
    """An envelope as a client hands it in."""
    envelope, summary = validate_envelope(prepare_ground().cluster.chain_id, data)
    require(encode(envelope) == data, "two encodings of one envelope")
    require(encode(summary) != b"", "a summary")


def read_body(kind: BodyKind, data: bytes) -> None:
    """An envelope whose sender signed whatever body it has."""
    cluster = prepare_ground().cluster
    sender = cluster.identity.public_key(cluster.accounts[0])
    header = EnvelopeHeader(
        chain_id=cluster.chain_id,
        namespace=NAMESPACE_ENGINE,
        kind=kind,
        sender=sender,
        signer=sender,
        nonce=1,
        expiry_height=10,
        body_digest=compute_body_digest(data),
        body_size_bytes=len(data),
    )
    signature = cluster.identity.sign(cluster.accounts[0], header.signing_bytes())
    validate_envelope(cluster.chain_id, encode(Envelope(header, signature, data)))


def read_keys(data: bytes) -> None:
    """The body that changes session keys."""
    changes = decode_key_changes(data)
    require(encode(KeyChanges(changes)) == data, "two encodings of one change")
    read_body(BodyKind.KEYS, data)


def read_bundle(data: bytes) -> None:
    """A bundle of instructions."""
    found = decode_bundle(data)
    if isinstance(found, ReasonCode):
        raise RefusedError(found.name)
    require(encode(Bundle(found)) == data, "two encodings of one bundle")


def execute_bundle(data: bytes) -> str:
    """A block with one bundle, on a real state: whatever it says, money and margin add up, and the
    state that comes of it can be saved and loaded. Returns what the receipts say."""
    ground = prepare_ground()
    cluster, state = ground.cluster, restore(ground.state)
    sender = cluster.identity.public_key(cluster.accounts[0])
    oracle = cluster.identity.public_key(cluster.oracles[0])
    envelopes = tuple(
        EngineEnvelope(digest(Domain.ENVELOPE, account), account, 1, data)
        for account in (sender, oracle)
    )
    reporters = make_reporters(cluster.keys.committee.members)
    block = BlockInput(
        state.height + 1, state.time_ms + 10, bytes(32), envelopes, reporters=reporters
    )
    output = apply_block(state, block)
    validate_all(state)
    saved = snapshot(state)
    require(snapshot(restore(saved)) == saved, "a state that is not saved as it is")
    require(encode(decode_lenient(BlockOutput, encode(output))) == encode(output), "an output")
    return " ".join(sorted({receipt.code.name for receipt in output.receipts}))


def read_door_request(data: bytes) -> None:
    """What a client asks."""
    require_stable(ClientFrame, decode_request(data))


def read_door_answer(data: bytes) -> None:
    """What a client is told."""
    answer: Any = decode_lenient(ServerFrame, data)  # type: ignore[arg-type]  # a union
    require_stable(ServerFrame, answer)


def ask_view(data: bytes) -> None:
    """A question to the engine's views."""
    name, arguments = decode_lenient(tuple[str, bytes], data)
    views = Views(restore(prepare_ground().state))
    answer = views.answer(name, arguments)
    require_stable(Any, decode_lenient(Any, answer))


_ENGINE: Final = ("instruction.*", "bundle")

WIRE_TARGETS: Final = (
    Target(
        "peer_control",
        CONTROL_KINDS,
        read_control,
        (DecodeError,),
        types=("ControlMessage",),
    ),
    Target(
        "peer_bulk",
        BULK_KINDS,
        read_bulk,
        (DecodeError,),
        types=("BulkMessage",),
    ),
    Target(
        "peer_rules",
        ("message.*",),
        check_message,
        (DecodeError, ValidationError),
    ),
    Target(
        "offer",
        ("offer",),
        read_offer,
        (OfferError,),
        types=("Offer",),
        weight=4,
    ),
    Target(
        "joiner",
        BULK_KINDS,
        tell_joiner,
        (DecodeError,),
        weight=4,
    ),
    Target(
        "evidence",
        ("evidence.*",),
        read_evidence,
        (EvidenceError,),
        types=("Evidence",),
    ),
    Target(
        "batch",
        ("batch",),
        read_batch,
        (RefusedError,),
        types=("BatchBody",),
        weight=8,
    ),
    Target(
        "envelope",
        ("envelope.*",),
        read_envelope,
        (EnvelopeInvalidError,),
        types=("Envelope",),
    ),
    Target(
        "keys",
        ("keys", "key_change.*"),
        read_keys,
        (DecodeError, EnvelopeInvalidError),
        types=("KeyChanges",),
        weight=2,
    ),
    Target(
        "bundle",
        _ENGINE,
        read_bundle,
        (RefusedError,),
        types=("Bundle",),
    ),
    Target(
        "engine",
        _ENGINE,
        execute_bundle,
        (),
        weight=40,
    ),
    Target(
        "door_request",
        ("door_request.*",),
        read_door_request,
        (DecodeError,),
        types=("ClientFrame", "Submission"),
    ),
    Target(
        "door_answer",
        ("door_answer.*",),
        read_door_answer,
        (DecodeError,),
        types=("ServerFrame",),
    ),
    Target(
        "view",
        ("view",),
        ask_view,
        (DecodeError, WorkerQueryError),
        types=("tuple[Any, ...]",),
        weight=20,
    ),
)
