"""Harvests what the node and its worker processes say to each other, and the engine's views."""

from typing import Any

from consensus.effects import CheckBatch, VerifyIdentities
from crypto.codec import encode
from engine.block import BlockOutput
from engine.state import EngineState
from localnet.fuzz.corpus import Corpus, kind_of
from localnet.sim.nodes import NodeCluster
from localnet.sim.traders import MARKET
from mempool.batch import check_batch, reopen_batch
from node.batch_checks import make_checkable
from node.events import Execute, VerifyEnvelopes
from node.workers import crypto_messages, engine_messages
from node.workers.errors import WorkerQueryError
from node.workers.views import Views

SNAPSHOT_DIRECTORY = "data/engine"


def add_to_union(corpus: Corpus, union: str, value: Any) -> None:
    """Keep a member of a union."""
    corpus.add(kind_of(union, type(value)), encode(value))


def harvest_workers(
    corpus: Corpus, cluster: NodeCluster, effect: CheckBatch | VerifyIdentities | VerifyEnvelopes
) -> None:
    """What the crypto processes would have been asked, and have answered."""
    add_to_union(corpus, "crypto_request", crypto_messages.Open(cluster.chain_id))
    if not isinstance(effect, CheckBatch):
        add_to_union(corpus, "crypto_request", crypto_messages.VerifyIdentities(effect.claims))
        results = tuple(
            cluster.identity.verify(claim.public_keys[0], claim.message, claim.signature)
            for claim in effect.claims
        )
        add_to_union(corpus, "crypto_reply", crypto_messages.IdentitiesVerified(results))
        return
    if effect.body is None:
        return
    chain_id = cluster.chain_id
    batch = make_checkable(effect.signed_header, effect.author_key, effect.body, chain_id)
    request = crypto_messages.CheckBatch(*batch[:-1])
    add_to_union(corpus, "crypto_request", request)
    verdict = check_batch(batch, cluster.identity, chain_id)
    add_to_union(corpus, "crypto_reply", crypto_messages.BatchChecked(verdict))
    digests = (batch.body_digest,)
    add_to_union(corpus, "crypto_request", crypto_messages.ReopenBatches(digests))
    reopened = reopen_batch(batch.body, batch.body_digest, chain_id)
    add_to_union(corpus, "crypto_reply", crypto_messages.BatchesReopened((reopened,)))


def harvest_execution(
    corpus: Corpus, cluster: NodeCluster, index: int, request: Execute, output: BlockOutput
) -> None:
    """What the engine's process would have been asked, and have answered."""
    chain_id, genesis = cluster.chain_id, cluster.genesis.engine
    stats, encoded = output.stats, encode(output)
    requests = (
        engine_messages.Open(chain_id, genesis, SNAPSHOT_DIRECTORY),
        engine_messages.Execute(
            request.height,
            request.time_ms,
            request.seed,
            tuple(batch.refused for batch in request.batches),
            request.reporters,
        ),
        engine_messages.Save(request.height),
        engine_messages.SaveNow(request.height),
    )
    result = engine_messages.ExecuteResult(
        output.height,
        output.state_root,
        output.receipts_root,
        stats.instructions,
        stats.fills,
        output.is_empty,
        encoded,
    )
    replies = (
        result,
        engine_messages.Opened(request.height),
        engine_messages.Saving(),
        engine_messages.Saved(),
        engine_messages.StorageFailed("storage.full", "save a snapshot: no space left"),
        engine_messages.Broken("engine.invariant", f"height {request.height}: margin"),
    )
    for each in requests:
        add_to_union(corpus, "engine_request", each)
    for reply in replies:
        add_to_union(corpus, "engine_reply", reply)
    if output.receipts:
        corpus.add("record.archive.output", encoded)
        _harvest_views(corpus, cluster.world.engines[index].state)


def _harvest_views(corpus: Corpus, state: EngineState) -> None:
    views = Views(state)
    for name, arguments in list_questions(state):
        encoded = encode(arguments)
        add_to_union(corpus, "engine_request", engine_messages.Ask(name, encoded))
        corpus.add("view", encode((name, encoded)))
        try:
            answered = engine_messages.Answered(views.answer(name, encoded))
        except WorkerQueryError as error:
            refused = engine_messages.Refused(error.code, error.detail)
            add_to_union(corpus, "engine_reply", refused)
        else:
            add_to_union(corpus, "engine_reply", answered)
            corpus.add(f"answer.{name}", answered.body)


def list_questions(state: EngineState) -> list[tuple[str, tuple[Any, ...]]]:
    """Questions of every kind about one state, right and wrong ones."""
    accounts = sorted(state.accounts)
    return [
        ("markets", ()),
        ("book", (MARKET,)),
        ("book", (state.markets[MARKET].params.symbol, 5)),
        ("book", (99,)),
        ("accounts", ()),
        ("accounts", (accounts[0], 2)),
        ("account", (accounts[0],)),
        ("orders", (accounts[-1],)),
        ("order", (next(iter(state.orders), 1),)),
        ("liquidations", ()),
        ("liquidations", (None, 5)),
        ("insurance", ()),
        ("proof", ("account", accounts[0])),
        ("proof", ("account", bytes(32))),
        ("proof", ("market", MARKET)),
        ("proof", ("withdrawal", 1)),
        ("proof", ("system",)),
    ]
