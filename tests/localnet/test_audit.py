"""The audit finds a double signature in the durable records, and only there."""

import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from consensus.chain import ARCHIVE_BLOCK_TABLE, ARCHIVE_COMMIT_TABLE
from consensus.effects import Put, compute_key
from consensus.evidence import DoubleVote
from consensus.safety import PROPOSAL_TABLE, TIMEOUT_TABLE, VOTE_TABLE
from consensus.state_signer import STATE_VOTE_TABLE
from consensus.types import (
    QC,
    Block,
    CheckpointHeader,
    StateCertificate,
    TimeoutData,
    VoteData,
    make_genesis_qc,
)
from crypto.bitmap import encode_bitmap
from crypto.codec import encode
from localnet.audit import OwnRecords, Span, audit, load_records
from localnet.control import acquire_supervisor_lock
from localnet.network import create_network
from node.cli.main import run
from node.exit_codes import ExitCode
from node.network import Network
from node.recovery import CERTIFICATE_BY_HEIGHT_TABLE
from node.storage.archive import ArchiveStore
from node.storage.records import RecordWrite
from node.storage.safety import SafetyStore

VIEW = 7
SIGNERS = encode_bitmap((0, 1, 2), 4)
HEADER = CheckpointHeader(0, 1, bytes(32), 2**40, b"\x01" * 32, b"\x02" * 32, b"\x03" * 32)
OTHER_HEADER = msgspec.structs.replace(HEADER, market_root=b"\x04" * 32)


def make_block(network: Network, evidence: tuple[bytes, ...] = ()) -> Block:
    """Proposed by node0."""
    qc = make_genesis_qc(network.chain_id, network.genesis().committee())
    return Block(
        epoch=0,
        height=1,
        view=VIEW,
        author=0,
        parent_id=qc.block_id,
        time_ms=2**40,
        lanes=(),
        inbox=(),
        openings=b"",
        evidence=evidence,
        state_certificate=None,
        qc=qc,
        tc=None,
    )


class Story:
    """A chain of one block that is certified by node0, node1 and node2, and what each remembers."""

    def __init__(self, network: Network, evidence: tuple[bytes, ...] = ()) -> None:
        self.network = network
        self.block = make_block(network, evidence)
        self.block_id = self.block.block_id(network.chain_id)
        self.certified = VoteData(0, VIEW, 1, self.block_id)
        self.archived: dict[str, list[Put]] = {}
        self.recorded: dict[str, list[Put]] = {}
        for node in network.nodes:
            key = compute_key(1)
            self.archived[node.name] = [
                Put(ARCHIVE_BLOCK_TABLE, key, encode(self.block)),
                Put(ARCHIVE_COMMIT_TABLE, key, encode(QC(self.certified, SIGNERS, bytes(96)))),
                Put(CERTIFICATE_BY_HEIGHT_TABLE, key, encode(self.certificate(HEADER))),
            ]
            self.vote(node.name, self.block_id)
            self.state_vote(node.name, HEADER)
        self.put("node0", PROPOSAL_TABLE, VIEW, self.block_id)

    @staticmethod
    def certificate(header: CheckpointHeader) -> StateCertificate:
        return StateCertificate(header, SIGNERS, bytes(96))

    def put(self, name: str, table: str, number: int, value: bytes) -> None:
        """Let the node remember this; the last word on a number stands."""
        self.recorded.setdefault(name, []).append(Put(table, compute_key(number), value))

    def vote(self, name: str, block_id: bytes, view: int = VIEW) -> None:
        self.put(name, VOTE_TABLE, view, encode(VoteData(0, view, 1, block_id)))

    def state_vote(self, name: str, header: CheckpointHeader) -> None:
        self.put(name, STATE_VOTE_TABLE, header.height, encode(header))

    def time_out(self, name: str, view: int, tip_view: int) -> None:
        self.put(name, TIMEOUT_TABLE, view, encode(TimeoutData(0, view, 0, tip_view)))

    def forget(self, name: str, table: str) -> None:
        self.recorded[name] = [put for put in self.recorded[name] if put.table != table]

    def store(self) -> None:
        for member in self.network.genesis().members:
            home = self.network.home(member.name)
            archive = ArchiveStore(home.chain_path, owner=self.network.chain_id)
            archive.commit([RecordWrite(tuple(self.archived[member.name]))])
            archive.close()
            owner = self.network.chain_id + member.identity_key
            safety = SafetyStore(home.safety_path, owner=owner, create=True)
            newest = {(put.table, put.key): put for put in self.recorded[member.name]}
            safety.commit([RecordWrite(tuple(newest.values()))])
            safety.close()

    def contradictions(self, **earlier: list[OwnRecords]) -> tuple[str, ...]:
        self.store()
        return tuple(map(str, audit(self.network, earlier).contradictions))


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(create_network(tmp_path / "net", port_first=14_000))


def test_an_honest_committee_has_no_contradictions(story: Story) -> None:
    story.store()
    report = audit(story.network)
    assert report.contradictions == ()
    checked = {
        node.name: (
            node.certificate_votes_checked,
            node.certificate_state_votes_checked,
            node.proposals_checked,
        )
        for node in report.nodes
    }
    assert checked == {
        "node0": (1, 1, 1),
        "node1": (1, 1, 0),
        "node2": (1, 1, 0),
        "node3": (0, 0, 0),
    }
    assert (report.blocks, report.certificates, report.state_certificates) == (4, 4, 4)


def test_a_vote_that_a_certificate_contradicts_is_found(story: Story) -> None:
    story.vote("node1", bytes(32))
    assert story.contradictions() == ("node1 recorded one vote in view 7, signed another",)


def test_a_state_vote_that_a_certificate_contradicts_is_found(story: Story) -> None:
    story.state_vote("node2", OTHER_HEADER)
    assert story.contradictions() == (
        "node2 recorded one state vote at height 1, signed another",
    )  # fmt: skip


def test_a_proposal_that_an_archived_block_contradicts_is_found(story: Story) -> None:
    story.put("node0", PROPOSAL_TABLE, VIEW, bytes(32))
    assert story.contradictions() == ("node0 recorded one proposal in view 7, signed another",)


def test_two_blocks_of_one_view_in_two_archives_are_found(story: Story) -> None:
    other = msgspec.structs.replace(story.block, time_ms=2**41)
    story.archived["node3"][0] = Put(ARCHIVE_BLOCK_TABLE, compute_key(1), encode(other))
    assert story.contradictions() == ("node0 proposed two blocks in view 7",)


def test_two_certificates_of_one_height_are_found_with_all_who_signed_both(story: Story) -> None:
    other = encode(story.certificate(OTHER_HEADER))
    story.archived["node3"][2] = Put(CERTIFICATE_BY_HEIGHT_TABLE, compute_key(1), other)
    assert story.contradictions() == tuple(
        f"{name} is in two state certificates of height 1" for name in ("node0", "node1", "node2")
    )


def test_a_timeout_that_denies_a_certified_vote_is_found(story: Story) -> None:
    story.time_out("node1", VIEW, tip_view=0)
    assert story.contradictions() == ("node1 voted in view 7 after leaving it",)


def test_a_timeout_that_denies_an_own_vote_is_found_without_a_certificate(story: Story) -> None:
    story.vote("node3", bytes(32), view=9)
    story.time_out("node3", 9, tip_view=VIEW)
    assert story.contradictions() == ("node3 voted in view 9 after leaving it",)


def test_a_timeout_that_names_the_vote_before_it_is_honest(story: Story) -> None:
    story.time_out("node1", VIEW, tip_view=VIEW)
    story.time_out("node2", VIEW + 1, tip_view=0)
    assert story.contradictions() == ()


def test_a_certified_vote_between_records_that_lacks_its_own_is_found(story: Story) -> None:
    story.forget("node1", VOTE_TABLE)
    story.vote("node1", bytes(32), view=VIEW - 1)
    assert story.contradictions() == ("node1 has no record of its vote in view 7",)


def test_what_a_store_has_forgotten_in_good_order_says_nothing(story: Story) -> None:
    story.forget("node1", VOTE_TABLE)
    story.vote("node1", bytes(32), view=VIEW + 1)
    story.forget("node2", STATE_VOTE_TABLE)
    assert story.contradictions() == ()


def records(*puts: tuple[str, int, bytes]) -> OwnRecords:
    """What a store held at an earlier moment."""
    tables: dict[str, dict[bytes, bytes]] = {}
    for table, number, value in puts:
        tables.setdefault(table, {})[compute_key(number)] = value
    return OwnRecords(tables)


def vote(view: int, block_id: bytes) -> tuple[str, int, bytes]:
    return VOTE_TABLE, view, encode(VoteData(0, view, 1, block_id))


def forget_votes_but(story: Story, view: int) -> None:
    """Let node1's store hold one vote, far above all others."""
    story.forget("node1", VOTE_TABLE)
    story.vote("node1", bytes(32), view=view)


def test_the_report_says_how_far_back_the_records_of_each_node_reach(story: Story) -> None:
    story.vote("node1", bytes(32), view=VIEW + 4)
    story.time_out("node1", VIEW + 2, tip_view=VIEW)
    story.forget("node3", VOTE_TABLE)
    story.store()
    nodes = {node.name: node for node in audit(story.network).nodes}
    assert nodes["node1"].vote_views == Span(VIEW, VIEW + 4)
    assert nodes["node1"].timeout_views == Span(VIEW + 2, VIEW + 2)
    assert nodes["node1"].state_vote_heights == Span(1, 1)
    assert nodes["node0"].proposal_views == Span(VIEW, VIEW)
    assert (nodes["node3"].vote_views, nodes["node3"].proposal_views) == (None, None)


def test_a_vote_before_a_crash_that_the_store_has_forgotten_is_held_against_certificates(
    story: Story,
) -> None:
    forget_votes_but(story, VIEW + 100)
    assert story.contradictions() == ()
    before_crash = records(vote(VIEW, b"\x09" * 32))
    assert story.contradictions(node1=[before_crash]) == (
        "node1 recorded one vote in view 7, signed another",
    )  # fmt: skip


def test_a_record_that_changes_between_two_moments_is_found(story: Story) -> None:
    assert story.contradictions(node3=[records(vote(VIEW, b"\x09" * 32))]) == (
        "node3 recorded one vote in view 7, later another",
    )  # fmt: skip


def test_between_two_moments_a_store_may_forget_but_at_none_of_them_lack_a_vote(
    story: Story,
) -> None:
    forget_votes_but(story, VIEW + 100)
    old = vote(VIEW - 2, bytes(32))
    assert story.contradictions(node1=[records(old)]) == ()
    assert story.contradictions(node1=[records(old, vote(VIEW + 1, bytes(32)))]) == (
        "node1 has no record of its vote in view 7",
    )  # fmt: skip


def test_records_are_read_from_a_copy_of_a_store(story: Story, tmp_path: Path) -> None:
    story.store()
    member = story.network.genesis().members[0]
    copy = shutil.copy(story.network.home("node0").safety_path, tmp_path / "safety.db")
    found = load_records(Path(copy), owner=story.network.chain_id + member.identity_key)
    assert found.votes == {VIEW: story.block_id}
    assert found.proposals == {VIEW: story.block_id}


def test_the_command_prints_what_the_records_cover(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    story.vote("node1", bytes(32), view=VIEW + 4)
    story.store()
    words = ["localnet", "audit", "--dir", str(story.network.path)]
    assert run(words) == 0
    assert "node1     7 to 11         -" in capsys.readouterr().out
    assert run([*words, "--json"]) == 0
    node1 = json.loads(capsys.readouterr().out)["nodes"][1]
    assert node1["vote_views"] == {"first": 7, "last": 11}
    assert node1["timeout_views"] is None


def test_whom_the_chain_convicts_is_told_and_is_no_contradiction_on_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (VoteData(0, 5, 1, bytes([each]) * 32) for each in (1, 2))
    proof = encode(DoubleVote(2, one, bytes(96), other, bytes(96)))
    story = Story(create_network(tmp_path / "net", port_first=18_200), (proof,))
    story.store()
    words = ["localnet", "audit", "--dir", str(story.network.path)]
    assert run(words) == 0
    said = capsys.readouterr()
    assert "node2      DoubleVote         1" in said.out
    assert "0 contradictions on disk, 1 proof in blocks" in said.err
    assert run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["evidence"] == [
        {"height": 1, "member": "node2", "offence": "DoubleVote"}
    ]


def test_a_localnet_that_never_ran_has_nothing_to_audit_and_gets_no_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = create_network(tmp_path / "net", port_first=14_000)
    before = sorted(network.path.rglob("*"))
    assert run(["localnet", "audit", "--dir", str(network.path), "--json"]) == ExitCode.CONFIG
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["message"]) == ("audit.no_records", "node0 never ran")
    assert sorted(network.path.rglob("*")) == before


def test_a_localnet_that_runs_is_not_audited(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    story.store()
    lock = acquire_supervisor_lock(story.network.run_dir)
    try:
        words = ["localnet", "audit", "--dir", str(story.network.path), "--json"]
        assert run(words) == ExitCode.CONFIG
    finally:
        os.close(lock)
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "localnet.running"
    assert "rota localnet down" in error["next"]


def test_the_command_ends_with_the_code_for_safety(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    story.vote("node1", bytes(32))
    story.store()
    assert run(["localnet", "audit", "--dir", str(story.network.path)]) == ExitCode.SAFETY
    captured = capsys.readouterr()
    assert "node1 recorded one vote in view 7, signed another" in captured.err
    assert "audit.contradiction" in captured.err
