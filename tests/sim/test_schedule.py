"""Schedule files: what names nothing, or is too much, is refused when it is read."""

import json
import re

import pytest

from consensus.effects import Persist
from consensus.messages import Message
from localnet.sim import bounds
from localnet.sim.bounds import KINDS, TABLES
from localnet.sim.disk import ARCHIVE_WRITES_LOST_MAX
from localnet.sim.faults import CrashFault, PartitionFault
from localnet.sim.generator import generate
from localnet.sim.oracles.watchers import Watcher
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import (
    Liar,
    Schedule,
    ScheduleError,
    TwinLinks,
    decode_schedule,
    encode_schedule,
    load_schedule,
    save_schedule,
    validate_schedule,
)
from node.cli.main import run

LIAR = {"member": 0, "behaviour": "silent"}


def make_liars(count: int) -> list[dict[str, object]]:
    """So many, each another member."""
    return [LIAR | {"member": member} for member in range(count)]


LOSS = {"type": "loss", "at_ms": 0, "permille": 1}
CRASH = {"type": "crash_at_persist", "at_ms": 0, "host": 0}


def read(**fields) -> Schedule:
    return decode_schedule(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("fault", "words", "known"),
    [
        ({**LOSS, "kinds": ["votes"]}, "no message is called 'votes'", "vote"),
        ({"type": "partition", "at_ms": 0, "side": [0], "kinds": ["x"]}, "no message is", "vote"),
        ({**CRASH, "table": "vtoe"}, "no table is called 'vtoe'", "vote"),
        ({**CRASH, "table": "state"}, "no table is called 'state'", "vote"),
        ({**LOSS, "type": "los"}, "fault 0: no fault is called 'los'$", "loss"),
    ],
)
def test_a_name_that_nothing_bears_is_refused_with_those_that_there_are(
    fault: dict, words: str, known: str
) -> None:
    with pytest.raises(ScheduleError, match=words) as caught:
        read(faults=[fault])
    assert caught.value.advice is not None
    assert known in caught.value.advice.removeprefix("there are: ").split(", ")


def test_all_there_is_can_be_named() -> None:
    read(faults=[{**LOSS, "kinds": sorted(KINDS)}])
    for table in ("", *TABLES):
        read(faults=[{**CRASH, "table": table}])


def test_every_table_and_message_of_a_run_has_a_name_that_a_schedule_may_use() -> None:
    tables: set[str] = set()
    kinds: set[str] = set()

    class Names(Watcher):
        def on_durable(self, index: int, persist: Persist) -> None:
            tables.update(put.table for put in persist.puts)

        def on_sent(self, index: int, message: Message) -> None:
            kinds.add(str(message.__struct_config__.tag))

    schedule = Schedule(seed=3, views=10, liars=(Liar(member=1, behaviour="equivocating_leader"),))
    run_schedule(schedule, lambda cluster: cluster.world.observers.append(Names()))
    assert {"vote", "safety", "block", "output"} <= tables <= TABLES
    assert {"vote", "proposal", "batch"} <= kinds <= KINDS


def test_what_the_generator_draws_can_be_read_back_and_names_all_that_it_may() -> None:
    tables: set[str] = set()
    for seed in range(300):
        schedule = generate(seed, views=100)
        assert decode_schedule(encode_schedule(schedule)) == schedule
        tables.update(getattr(fault, "table", "none") for fault in schedule.faults)
    assert tables - {"none", ""} == {
        "vote",
        "timeout",
        "proposal",
        "state_vote",
        "pending_block",
        "safety",
        "batch",
        "engine_snapshot",
        "drop",
    }


@pytest.mark.parametrize(
    ("most", "more"),
    [
        ({"name": "a" * bounds.NAME_MAX}, {"name": "a" * (bounds.NAME_MAX + 1)}),
        ({"name": "Twins: 4+1, (all)"}, {"name": "../../x"}),
        ({"views": bounds.VIEWS_MAX}, {"views": bounds.VIEWS_MAX + 1}),
        ({"powers": [1] * bounds.MEMBERS_MAX}, {"powers": [1] * (bounds.MEMBERS_MAX + 1)}),
        (
            {"liars": make_liars(bounds.MEMBERS_MAX), "powers": [1] * bounds.MEMBERS_MAX},
            {"liars": make_liars(bounds.MEMBERS_MAX + 1), "powers": [1] * bounds.MEMBERS_MAX},
        ),
        ({"faults": [LOSS] * bounds.FAULTS_MAX}, {"faults": [LOSS] * (bounds.FAULTS_MAX + 1)}),
        (
            {"twin_links": [{"view": 1, "masks": [1] * 4}] * bounds.TWIN_VIEWS_MAX},
            {"twin_links": [{"view": 1, "masks": [1] * 4}] * (bounds.TWIN_VIEWS_MAX + 1)},
        ),
        (
            {"twin_links": [{"view": bounds.VIEWS_MAX, "masks": [15] * 4}]},
            {"twin_links": [{"view": bounds.VIEWS_MAX + 1, "masks": [15] * 4}]},
        ),
        (
            {"twin_links": [{"view": 1, "masks": [15] * 4}]},
            {"twin_links": [{"view": 1, "masks": [16] * 4}]},
        ),
        (
            {"faults": [{**LOSS, "at_ms": bounds.TIME_MAX_MS}]},
            {"faults": [{**LOSS, "at_ms": bounds.TIME_MAX_MS + 1}]},
        ),
        (
            {"faults": [{**CRASH, "skip": bounds.WRITES_SKIPPED_MAX}]},
            {"faults": [{**CRASH, "skip": bounds.WRITES_SKIPPED_MAX + 1}]},
        ),
        (
            {"faults": [{**LOSS, "kinds": ["vote"] * len(KINDS)}]},
            {"faults": [{**LOSS, "kinds": ["vote"] * (len(KINDS) + 1)}]},
        ),
        (
            {"faults": [{**LOSS, "senders": [0] * bounds.HOSTS_MAX}]},
            {"faults": [{**LOSS, "senders": [0] * (bounds.HOSTS_MAX + 1)}]},
        ),
    ],
)
def test_every_bound_lets_through_what_it_allows_and_nothing_beyond(most, more) -> None:
    read(**most)
    with pytest.raises(ScheduleError):
        read(**more)


@pytest.mark.parametrize(
    ("kind", "field", "least", "most"),
    [
        ("clock", "offset_ms", -bounds.CLOCK_STEP_MAX_MS, bounds.CLOCK_STEP_MAX_MS),
        ("power_loss", "archive_writes", 0, ARCHIVE_WRITES_LOST_MAX),
        ("bit_flip", "record", 0, bounds.RECORD_MAX),
        ("bit_flip", "bit", 0, bounds.RECORD_MAX),
    ],
)
def test_numbers_of_faults_are_bounded(kind: str, field: str, least: int, most: int) -> None:
    for value in (least, most):
        read(faults=[{"type": kind, "at_ms": 0, "host": 0, field: value}])
    for value in (least - 1, most + 1):
        with pytest.raises(ScheduleError):
            read(faults=[{"type": kind, "at_ms": 0, "host": 0, field: value}])


def test_a_bandwidth_is_bounded() -> None:
    most = bounds.BANDWIDTH_MAX_BYTES_PER_S
    read(faults=[{"type": "bandwidth", "at_ms": 0, "bytes_per_s": most}])
    for value in (0, most + 1):
        with pytest.raises(ScheduleError):
            read(faults=[{"type": "bandwidth", "at_ms": 0, "bytes_per_s": value}])


def test_the_largest_masks_survive_a_file_and_no_larger_ones_are_read() -> None:
    hosts = bounds.TWIN_HOSTS_MAX
    full = (1 << hosts) - 1
    links = TwinLinks(view=1, masks=(full,) * hosts)
    schedule = Schedule(powers=(1,) * hosts, twin_links=(links,))
    assert decode_schedule(encode_schedule(schedule)) == schedule
    with pytest.raises(ScheduleError):
        read(
            powers=[1] * (hosts + 1),
            twin_links=[{"view": 1, "masks": [1] * (hosts + 1)}],
        )


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path) -> None:
    path = tmp_path / "large.json"
    text = encode_schedule(Schedule())
    path.write_bytes(text + b" " * (bounds.FILE_MAX_BYTES - len(text)))
    assert load_schedule(path) == Schedule()
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ScheduleError, match="more than"):
        load_schedule(path)


def test_a_schedule_that_names_nobody_is_refused() -> None:
    with pytest.raises(ScheduleError, match="host 9 of 4"):
        validate_schedule(Schedule(faults=(CrashFault(at_ms=1, host=9),)))
    with pytest.raises(ScheduleError, match="liar 4"):
        validate_schedule(Schedule(liars=(Liar(member=4, behaviour="silent"),)))
    with pytest.raises(ScheduleError, match="need masks"):
        validate_schedule(Schedule(twins=(0,), twin_links=(TwinLinks(view=1, masks=(1,)),)))
    for text in ("{", '{"seed": -1}', '{"views": 0}', '{"surprise": 1}', '{"version": 2}'):
        with pytest.raises(ScheduleError):
            decode_schedule(text.encode())
    assert json.loads(encode_schedule(Schedule()))["views"] == 100


DELAY = {"type": "delay", "at_ms": 0, "least_ms": 5, "most_ms": 4}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            {"network": {"delay_least_ms": 6}},
            "network: delay_least_ms 6 is above delay_most_ms 5",
        ),
        (
            {"disks": {"write_least_ms": 9, "write_most_ms": 8}},
            "disks: write_least_ms 9 is above write_most_ms 8",
        ),
        ({"faults": [DELAY]}, "fault 0: least_ms 5 is above most_ms 4"),
        ({"liars": [LIAR, LIAR | {"behaviour": "replaying"}]}, "a member lies in one way"),
    ],
)
def test_what_contradicts_itself_is_refused(text: dict[str, object], words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        decode_schedule(json.dumps(text).encode())


def test_a_replay_says_which_faults_never_struck(run_sim, tmp_path) -> None:
    faults = (
        CrashFault(at_ms=100, duration_ms=50, host=1),
        CrashFault(at_ms=80_000_000, duration_ms=50, host=1),
        PartitionFault(at_ms=80_000_000, side=(0,)),
    )
    path = tmp_path / "schedule.json"
    save_schedule(path, Schedule(views=4, faults=faults))
    code, document = run_sim("replay", str(path))
    assert (code, document["faults_struck"], document["faults"]) == (0, 1, 3)


def test_people_are_told_which_faults_never_struck(tmp_path, capsys) -> None:
    path = tmp_path / "schedule.json"
    late = PartitionFault(at_ms=80_000_000, side=(0,))
    save_schedule(path, Schedule(views=2, faults=(late,)))
    assert run(["sim", "replay", str(path)]) == 0
    assert "faults that struck  0 of 1; never: partition\n" in capsys.readouterr().out


def test_people_are_told_how_often_each_liar_lied(tmp_path, capsys) -> None:
    path = tmp_path / "schedule.json"
    liars = tuple(Liar(member=member, behaviour="silent") for member in (1, 2))
    save_schedule(path, Schedule(views=2, liars=liars))
    assert run(["sim", "replay", str(path)]) == 0
    assert re.search(
        r"^lies told +silent [1-9][0-9,]* \(node1, node2\)$", capsys.readouterr().out, re.M
    )
    save_schedule(path, Schedule(views=2))
    assert run(["sim", "replay", str(path)]) == 0
    assert "lies told" not in capsys.readouterr().out
