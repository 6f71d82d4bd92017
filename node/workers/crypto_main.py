"""A crypto process: `python -m node.workers.crypto_main`, started by `node.workers.crypto`."""

import gc

from crypto.codec import decode_lenient, encode
from crypto.ed25519 import ED25519
from crypto.scheme import Claim
from mempool.batch import BatchVerdict, CheckableBatch, check_batch, reopen_batch
from node.workers.child import ParentGoneError, ParentPipe
from node.workers.crypto_messages import (
    BatchChecked,
    BatchesReopened,
    CheckBatch,
    IdentitiesVerified,
    Open,
    ReopenBatches,
    Request,
    VerifyIdentities,
)


def is_identity_claim_true(claim: Claim) -> bool:
    """Does an Ed25519 claim hold? It names one key: these signatures do not aggregate."""
    if len(claim.public_keys) != 1:
        return False
    return ED25519.verify(claim.public_keys[0], claim.message, claim.signature)


def main() -> None:
    """Answer requests until the node is gone."""
    pipe = ParentPipe()
    gc.collect()
    gc.freeze()
    chain_id = b""
    try:
        while True:
            request: Request = decode_lenient(Request, pipe.receive())  # type: ignore[arg-type]  # a union
            match request:
                case Open():
                    chain_id = request.chain_id
                case CheckBatch():
                    pipe.send(encode(BatchChecked(_check(chain_id, request, pipe.receive()))))
                case VerifyIdentities():
                    results = tuple(is_identity_claim_true(claim) for claim in request.claims)
                    pipe.send(encode(IdentitiesVerified(results)))
                case ReopenBatches():
                    verdicts = tuple(
                        reopen_batch(pipe.receive(), body_digest, chain_id)
                        for body_digest in request.body_digests
                    )
                    pipe.send(encode(BatchesReopened(verdicts)))
    except ParentGoneError:
        return


def _check(chain_id: bytes, request: CheckBatch, body: bytes) -> BatchVerdict:
    batch = CheckableBatch(
        request.author_key,
        request.author_signing_bytes,
        request.signature,
        request.body_digest,
        request.size_bytes,
        body,
    )
    return check_batch(batch, ED25519, chain_id)


if __name__ == "__main__":
    main()
