"""Bent inputs are made from a seed, judged by the contract, cut down and tried again."""

import json
import multiprocessing
import os
import signal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

import mempool.envelope
from consensus.messages import Vote
from consensus.validation import Validator
from crypto.codec import decode_lenient, encode
from localnet.fuzz import campaign, workers
from localnet.fuzz.campaign import Tally, run_block
from localnet.fuzz.cli import FindingFileError, UnknownTargetError
from localnet.fuzz.contract import Kind, Target, find_target, judge
from localnet.fuzz.corpus import Corpus
from localnet.fuzz.ground import prepare_ground
from localnet.fuzz.mutator import mutate, mutate_gently
from localnet.fuzz.peer import make_schedule
from localnet.fuzz.script import Script, decode_script
from localnet.fuzz.targets import TARGETS, prepare_corpus
from localnet.fuzz.trees import JSON, MSGPACK, FalseLength, LongForm, Nest, NotATreeError
from localnet.fuzz.workers import Block, run_blocks
from localnet.sim.cli import app
from localnet.sim.nodes import NodeCluster
from localnet.sim.scenario import run_schedule
from localnet.verdicts import Verdict
from mempool.envelope import EnvelopeHeader
from node.cli.output import Output
from node.exit_codes import ExitCode


def run(*arguments: str) -> tuple[int, dict]:
    output = Output()
    output.is_json = True
    result = CliRunner().invoke(app, ["fuzz", *arguments, "--jobs", "1"], obj=output)
    return result.exit_code, json.loads(result.stdout)


# ---- trees -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [MSGPACK, JSON], ids=lambda form: form.name)
def test_a_tree_is_written_as_it_was_read(form) -> None:
    kinds = ("message.*",) if form is MSGPACK else ("fault.*", "genesis")
    for data in prepare_corpus().select(kinds):
        tree = form.parse(data)
        assert form.parse(form.render(tree)) == tree
        if form is MSGPACK:
            assert form.render(tree) == data


@pytest.mark.parametrize(
    "tree", [LongForm(7), LongForm(b"ab"), LongForm("ab"), LongForm([1, 2]), LongForm({"a": 1})]
)
def test_a_longer_encoding_is_the_same_value_in_other_bytes(tree: LongForm) -> None:
    data = MSGPACK.render(tree)
    assert data != encode(tree.value)
    assert MSGPACK.parse(data) == tree.value


def test_marks_make_what_no_encoder_writes() -> None:
    for tree in (FalseLength(b"abc", 2**32 - 1), Nest(2_000), FalseLength([1], 9)):
        with pytest.raises(NotATreeError):
            MSGPACK.parse(MSGPACK.render(tree))


@pytest.mark.parametrize("bend", [mutate, mutate_gently])
def test_a_seed_always_bends_alike(bend) -> None:
    corpus = prepare_corpus().select(("message.*",))

    def make() -> list[bytes]:
        random = Random("alike")
        return [bend(random, random.choice(corpus), corpus, MSGPACK) for _ in range(200)]

    first = make()
    assert first == make()
    assert len(set(first)) > 150


@pytest.mark.parametrize("form", [MSGPACK, JSON], ids=lambda form: form.name)
@pytest.mark.parametrize("bend", [mutate, mutate_gently])
def test_a_number_at_the_edge_of_what_can_be_written_is_bent_within_it(bend, form) -> None:
    data = form.render([2**64 - 1, 2**64 - 2, 0])
    random = Random("edge")
    for _ in range(1_000):
        bend(random, data, (data,), form)


def test_inputs_that_nest_deep_are_bent_as_bytes() -> None:
    nested = MSGPACK.render({(): 1})
    for _ in range(200):
        nested = b"\x81" + b"\x91" + nested + b"\xc0"
    random = Random("deep")
    donors = (nested, MSGPACK.render([[[1]]]))
    for _ in range(300):
        mutate(random, random.choice(donors), donors, MSGPACK)


# ---- the campaign ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", [each for each in TARGETS if each.attack is None], ids=lambda target: target.name
)
def test_a_slice_of_every_decoder_finds_nothing(target: Target) -> None:
    tally = run_block(target, prepare_corpus(), seed=0, executions_max=300)
    assert [finding.result for finding in tally.findings] == []
    assert tally.executions


@pytest.mark.parametrize("name", ["peer", "client"])
def test_a_slice_against_whole_clusters_finds_nothing(name: str) -> None:
    target = find_target(TARGETS, name)
    total = Tally(name)
    for seed in range(3):
        total.add(run_block(target, prepare_corpus(), seed))
    assert [finding.result for finding in total.findings] == []
    assert total.accepted > 20
    assert total.rejected


def test_a_block_is_repeated_exactly() -> None:
    for name in ("peer_rules", "peer"):
        target = find_target(TARGETS, name)
        first, second = (
            run_block(target, prepare_corpus(), seed=4, executions_max=200) for _ in range(2)
        )
        assert (first.accepted, first.rejected, first.signatures) == (
            second.accepted,
            second.rejected,
            second.signatures,
        )


def test_a_script_repeats_what_a_hostile_member_said() -> None:
    target = find_target(TARGETS, "peer")
    assert target.attack is not None
    made = target.attack(2, prepare_corpus())
    script = decode_script(made.data)
    assert len(script.sayings) == made.executions > 0
    assert encode(Script(script.seed, script.sayings)) == made.data
    assert judge(target, made.data).kind is Kind.ACCEPTED


# ---- canaries --------------------------------------------------------------------------------


@pytest.fixture
def _lenient_envelopes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that takes two encodings of one envelope."""
    monkeypatch.setattr(mempool.envelope, "decode", decode_lenient)


@pytest.mark.usefixtures("_lenient_envelopes")
def test_a_decoder_that_takes_two_encodings_of_one_value_is_found(tmp_path: Path) -> None:
    arguments = ("--target", "envelope", "--seeds", "1", "--keep", str(tmp_path))
    exit_code, document = run(*arguments)
    assert exit_code == ExitCode.SAFETY
    assert document["findings"][0]["kind"] == "changed"
    assert run("--replay", document["files"][0])[0] == ExitCode.SAFETY


def test_a_planted_fault_is_found_cut_down_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = EnvelopeHeader.envelope_id

    def crash(header: EnvelopeHeader) -> bytes:
        if header.expiry_height > 2**40:
            raise ZeroDivisionError("planted")
        return honest(header)

    with monkeypatch.context() as planted:
        planted.setattr(EnvelopeHeader, "envelope_id", crash)
        arguments = ("--target", "envelope", "--seeds", "1..3", "--keep", str(tmp_path))
        exit_code, document = run(*arguments)
        assert exit_code == ExitCode.UNEXPECTED
        assert document["verdict"] == "crash"
        (finding,) = document["findings"]
        assert (finding["kind"], finding["code"]) == ("escaped", "ZeroDivisionError")
        assert finding["minimal_size_bytes"] <= finding["size_bytes"]
        (path,) = document["files"]
        exit_code, document = run("--replay", path)
        assert exit_code == ExitCode.UNEXPECTED
        assert document["code"] == "ZeroDivisionError"
    exit_code, document = run("--replay", path)
    assert exit_code == ExitCode.OK
    assert document["was"]["code"] == "ZeroDivisionError"


def test_a_message_that_stops_a_node_is_found_and_cut_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = Validator.check_vote

    def crash(self: Validator, sender: int, vote: Vote) -> None:
        if vote.data.epoch:
            raise KeyError("planted")
        honest(self, sender, vote)

    monkeypatch.setattr(Validator, "check_vote", crash)
    target = find_target(TARGETS, "peer")
    total = Tally("peer")
    for seed in range(1, 20):
        total.add(run_block(target, prepare_corpus(), seed))
        if total.findings:
            break
    (finding,) = total.findings
    assert finding.result.kind is Kind.VIOLATION
    assert "planted" in finding.result.detail
    assert len(decode_script(finding.minimal).sayings) == 1
    assert judge(target, finding.minimal).fault == finding.result.fault


@pytest.mark.usefixtures("_lenient_envelopes")
@pytest.mark.parametrize("part", ["_draw", "minimise"])
def test_an_error_of_the_fuzzer_is_told_as_its_own_and_loses_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    honest = getattr(campaign, part)

    def break_late(*arguments: Any) -> bytes:
        if part == "minimise" or arguments[1] == 2_000:
            raise OverflowError("planted")
        data: bytes = honest(*arguments)
        return data

    monkeypatch.setattr(campaign, part, break_late)
    exit_code, document = run("--target", "envelope", "--seeds", "1", "--keep", str(tmp_path))
    assert (exit_code, document["exit_code"]) == (ExitCode.SAFETY, ExitCode.SAFETY)
    assert [each["kind"] for each in document["findings"]] == ["changed"]
    (error,) = document["own_errors"]
    assert error.startswith("envelope seed 1: OverflowError: planted at test_campaign.py:")


def test_an_error_of_the_fuzzer_alone_is_an_exit_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> bytes:
        raise OverflowError("planted")

    monkeypatch.setattr(campaign, "_draw", fail)
    exit_code, document = run("--target", "keys", "--seeds", "1..2", "--keep", str(tmp_path))
    assert (exit_code, document["findings"]) == (ExitCode.UNEXPECTED, [])
    assert len(document["own_errors"]) == 2


def test_an_input_that_ends_its_process_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    # Called with what a worker gets, it ends the new process at once.
    monkeypatch.setattr(workers, "serve_blocks", os.kill)
    blocks = [Block("envelope", seed) for seed in (1, 2)]
    tallies = list(run_blocks(blocks, jobs=2))
    assert [tally.findings[0].result.kind for tally in tallies] == [Kind.DIED, Kind.DIED]
    assert all(tally.verdict() is Verdict.CRASH for tally in tallies)


@pytest.mark.usefixtures("_lenient_envelopes")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_was_found_is_saved_when_a_signal_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    def run_interrupted(target: Target, corpus: Corpus, seed: int, *rest: Any) -> Tally:
        if target.name == "keys":
            os.kill(os.getpid(), number)
        return run_block(target, corpus, seed, *rest)

    monkeypatch.setattr(workers, "run_block", run_interrupted)
    keep = ("--seconds", "600", "--keep", str(tmp_path))
    exit_code, document = run("--target", "envelope", "--target", "keys", *keep)
    assert (exit_code, document["exit_code"], document["interrupted"]) == (20, 20, True)
    assert [Path(path).exists() for path in document["files"]] == [True]
    exit_code, document = run("--target", "keys", *keep)
    assert (exit_code, document["exit_code"], document["interrupted"]) == (code, code, True)
    assert (document["findings"], document["verdict"]) == ([], "pass")


def test_workers_do_not_hear_the_signals_that_end_the_command() -> None:
    tallies = run_blocks([Block("envelope", seed) for seed in range(4)], jobs=2)
    next(tallies)
    for worker in multiprocessing.active_children():
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker.pid, number)
    assert [each.findings for each in tallies] == [[]] * 3


def test_unknown_names_are_refused_with_those_that_there_are(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["fuzz", "--target", "nothing"], obj=Output())
    assert isinstance(result.exception, UnknownTargetError)
    assert "peer_control" in result.exception.advice
    path = tmp_path / "none.json"
    result = CliRunner().invoke(app, ["fuzz", "--replay", str(path)], obj=Output())
    assert isinstance(result.exception, FindingFileError)
    assert result.exception.message == f"{path}: No such file or directory"
    path.write_bytes(b'{"target":"peer"}')
    result = CliRunner().invoke(app, ["fuzz", "--replay", str(path)], obj=Output())
    assert isinstance(result.exception, FindingFileError)


def test_the_corpus_says_nothing_on_the_chain_that_a_hostile_member_attacks() -> None:
    clusters: list[NodeCluster] = []
    schedule = make_schedule(1, 1)
    run_schedule(schedule, clusters.append)
    assert clusters[0].chain_id != prepare_ground().cluster.chain_id
