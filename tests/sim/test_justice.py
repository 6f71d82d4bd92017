"""The oracle of evidence finds both ways of being unjust."""

import pytest
from msgspec.structs import replace

from consensus.accuser import Accuser, Suspicion
from consensus.effects import Persist, Store, Token
from consensus.evidence import make_double_vote
from consensus.messages import Vote
from consensus.outbox import Outbox
from consensus.types import VoteData
from crypto.codec import encode
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.justice import Justice
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Liar, Schedule
from node.offences import PendingEvidence

DOUBLE_VOTER = Schedule(seed=1, views=25, liars=(Liar(member=1, behaviour="double_vote"),))


def test_whoever_gives_proof_of_guilt_stands_convicted_everywhere() -> None:
    found: list[Justice] = []
    outcome = run_schedule(DOUBLE_VOTER, lambda cluster: found.append(cluster.justice))
    assert outcome.violation is None
    assert found[0].proven == {(1, "DoubleVote")}
    assert outcome.coverage["convicted.DoubleVote"] == 1


def test_a_node_that_overlooks_proof_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accuser, "suspect", lambda self, suspicion, source: None)
    violation = run_schedule(DOUBLE_VOTER).violation
    assert violation is not None
    assert violation.oracle == "Justice"
    assert "has not convicted 1 of DoubleVote" in violation.detail


def test_a_node_that_forgets_its_proof_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PendingEvidence, "offered", lambda self: ())
    violation = run_schedule(DOUBLE_VOTER).violation
    assert violation is not None
    assert violation.oracle == "Justice"


def test_evidence_whose_signatures_are_not_verified_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def believe(self: Accuser, suspicion: Suspicion, source: int) -> None:
        self.convict(suspicion)

    monkeypatch.setattr(Accuser, "suspect", believe)
    # A liar that does not trouble to sign the second vote.
    liars = (Liar(member=1, behaviour="shunning"),)
    send = Outbox.send

    def send_twice(self, to, message, after=()) -> None:
        send(self, to, message, after)
        if isinstance(message, Vote) and message.author == 1:
            rival = replace(message.data, block_id=bytes(32))
            send(self, to, Vote(rival, 1, message.signature))

    monkeypatch.setattr(Outbox, "send", send_twice)
    violation = run_schedule(Schedule(seed=1, views=25, liars=liars)).violation
    assert violation is not None
    assert violation.oracle == "Justice"
    assert "proves nothing" in violation.detail


def test_proof_against_the_honest_is_found() -> None:
    def frame(cluster: NodeCluster) -> None:
        """Node 2 signs two votes for this test alone, and node 0 is handed both."""
        one, other = (
            Vote(data, 2, cluster.keys.sign(2, data.signing_bytes(cluster.chain_id)))
            for data in (VoteData(0, 9, 9, bytes(32)), VoteData(0, 9, 9, bytes([1]) * 32))
        )
        encoded = encode(make_double_vote(one, other))

        def archive(core):
            return [Persist(Token("test", 1), Store.ARCHIVE, (core._evidence.add(encoded),))]

        cluster.world.after(200, lambda: cluster.world.poke(0, archive))

    violation = run_schedule(Schedule(seed=1, views=25), frame).violation
    assert violation is not None
    assert violation.oracle == "Justice"
    assert "DoubleVote against the honest 2" in violation.detail
