"""A schedule: everything that decides one run of a simulated cluster, as data.

Whoever holds a schedule can replay its run bit for bit, cut it smaller, or keep it as a
regression. It is read and written as JSON.
"""

import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from localnet.byzantine import UnknownBehaviourError, find_behaviour
from localnet.sim.bounds import (
    FAULTS_MAX,
    FILE_MAX_BYTES,
    KINDS,
    MEMBERS_MAX,
    TWIN_HOSTS_MAX,
    TWIN_VIEWS_MAX,
    VIEWS_MAX,
    WRITES,
    Index,
    Milliseconds,
    Name,
    Permille,
)
from localnet.sim.faults import Fault, amnesiacs, kind_of

FORMAT_VERSION: Final = 1

_UNKNOWN_FAULT: Final = re.compile(
    r"Invalid value (?P<name>'.*') - at `\$\.faults\[(?P<number>[0-9]+)\]\.type`", re.S
)


class Network(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How every link behaves before any fault."""

    delay_least_ms: Milliseconds = 1
    delay_most_ms: Milliseconds = 5
    drop_permille: Permille = 0
    duplicate_permille: Permille = 0


class Disks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long each durable write of every host takes before any fault, and until healing."""

    write_least_ms: Milliseconds = 0
    write_most_ms: Milliseconds = 4


class Traffic(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What clients do while the attack lasts."""

    interval_ms: Annotated[int, Meta(ge=1, le=60_000)] = 40
    """Between two submissions, drawn at random nodes. Nothing is sent to nodes that are down."""


class Liar(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A member whose node runs a byzantine behaviour."""

    member: Index
    behaviour: Name
    """A name in `localnet.byzantine`, or `FILE.py:CLASS` for a file beside that of the schedule;
    in a schedule that was read the file is an absolute path."""


CALM_VIEWS: Final = 4
"""Views of an attack by twins after the last one that the links between hosts are about."""


class TwinLinks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who hears whom about one view, when there are twins: one mask of receiving hosts (bit i
    stands for host i) for each sending host. Masks may overlap."""

    view: Annotated[int, Meta(ge=1, le=VIEWS_MAX)]
    masks: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=(1 << TWIN_HOSTS_MAX) - 1)], ...],
        Meta(max_length=TWIN_HOSTS_MAX),
    ]


class Schedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See the module docstring."""

    version: Annotated[int, Meta(ge=FORMAT_VERSION, le=FORMAT_VERSION)] = FORMAT_VERSION
    name: Name = ""
    """What it is, for people; the seed alone tells schedules of a name apart."""
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    """Decides every delay, every choice and all traffic that the schedule leaves open."""
    powers: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=2**32)], ...], Meta(min_length=1, max_length=MEMBERS_MAX)
    ] = (1, 1, 1, 1)
    leader_seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    """Decides who leads which view; 0 for the schedule that simulations have by default."""
    views: Annotated[int, Meta(ge=1, le=VIEWS_MAX)] = 100
    """The attack ends when an honest node gets here, or when no view ends any more."""
    network: Network = Network()
    disks: Disks = Disks()
    traffic: Traffic | None = Traffic()
    liars: Annotated[tuple[Liar, ...], Meta(max_length=MEMBERS_MAX)] = ()
    twins: Annotated[tuple[Index, ...], Meta(max_length=MEMBERS_MAX)] = ()
    """Members with a second host of the same keys; the k-th gets host index `len(powers) + k`."""
    twin_links: Annotated[tuple[TwinLinks, ...], Meta(max_length=TWIN_VIEWS_MAX)] = ()
    """For views that are not named, everybody hears everybody."""
    faults: Annotated[tuple[Fault, ...], Meta(max_length=FAULTS_MAX)] = ()
    real_signatures: bool = False
    """BLS and Ed25519 instead of the mock schemes: a hundred times slower."""

    def leader_seed_bytes(self) -> bytes:
        """The seed as the leader schedule takes it."""
        return self.leader_seed.to_bytes(8, "big") if self.leader_seed else b""

    def byzantine(self) -> frozenset[int]:
        """Members that count toward f: liars, twins, and those that lose their memory."""
        count = len(self.powers)
        lost = {
            host if host < count else self.twins[host - count] for host in amnesiacs(self.faults)
        }
        return frozenset({liar.member for liar in self.liars} | set(self.twins) | lost)

    def is_within_f(self) -> bool:
        """May the protocol be expected to hold? Only with less than a third of the power lying."""
        return 3 * sum(self.powers[index] for index in self.byzantine()) < sum(self.powers)


class ScheduleError(ValueError):
    """A file that holds no schedule that can be run; the message says where."""

    def __init__(self, message: str, advice: str | None = None) -> None:
        """`advice` names what there is instead, if that is known."""
        super().__init__(message)
        self.advice = advice


def validate_schedule(schedule: Schedule) -> None:
    """Refuse what names a host, a member, a kind of message or a table that does not exist, and
    what contradicts itself. Raises `ScheduleError`, and `BehaviourFailedError` for a broken file
    of somebody's own."""
    count = len(schedule.powers)
    hosts = count + len(schedule.twins)
    for liar in schedule.liars:
        if liar.member >= count:
            raise ScheduleError(f"liar {liar.member}: there are {count} members")
        try:
            find_behaviour(liar.behaviour)
        except UnknownBehaviourError as error:
            raise ScheduleError(f"liar {liar.member}: {error}", error.advice) from error
    if len({liar.member for liar in schedule.liars}) != len(schedule.liars):
        raise ScheduleError("a member lies in one way: it is named twice in liars")
    _validate_ranges("network", schedule.network)
    _validate_ranges("disks", schedule.disks)
    for twin in schedule.twins:
        if twin >= count:
            raise ScheduleError(f"twin {twin}: there are {count} members")
    if len(set(schedule.twins)) != len(schedule.twins):
        raise ScheduleError("a member has one twin")
    for links in schedule.twin_links:
        if len(links.masks) != hosts:
            raise ScheduleError(f"twin_links of view {links.view}: {hosts} hosts need masks")
        if any(mask >> hosts for mask in links.masks):
            raise ScheduleError(f"twin_links of view {links.view} name more than {hosts} hosts")
    for number, fault in enumerate(schedule.faults):
        named = {getattr(fault, "host", 0), *getattr(fault, "side", ())}
        named.update(getattr(fault, "senders", ()), getattr(fault, "receivers", ()))
        if max(named) >= hosts:
            raise ScheduleError(f"fault {number} names host {max(named)} of {hosts}")
        unknown = sorted(set(getattr(fault, "kinds", ())) - KINDS)
        if unknown:
            raise ScheduleError(
                f"fault {number}: no message is called {unknown[0]!r}", _list_names(KINDS)
            )
        table = getattr(fault, "table", "")
        if table and table not in WRITES:
            raise ScheduleError(
                f"fault {number}: no table is called {table!r}", _list_names(WRITES)
            )
        _validate_ranges(f"fault {number}", fault)


def _list_names(names: Iterable[str]) -> str:
    return f"there are: {', '.join(sorted(names))}"


def _validate_ranges(what: str, bounds: Struct) -> None:
    """No `…least_ms` is above its `…most_ms`."""
    for name in bounds.__struct_fields__:
        if not name.endswith("least_ms"):
            continue
        other = name.replace("least", "most")
        least_ms, most_ms = getattr(bounds, name), getattr(bounds, other)
        if least_ms > most_ms:
            raise ScheduleError(f"{what}: {name} {least_ms} is above {other} {most_ms}")


def decode_schedule(
    data: bytes, folder: Path | None = None, on_own: Callable[[str], Any] = lambda file: None
) -> Schedule:
    """Read a schedule from JSON; behaviours of one's own lie in `folder`, and `on_own` hears of the
    file of each before it is run. Raises `ScheduleError`, and `BehaviourFailedError` for a broken
    one of those."""
    try:
        schedule = msgspec.json.decode(data, type=Schedule)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        unknown = _UNKNOWN_FAULT.fullmatch(str(error))
        if unknown is not None:
            raise ScheduleError(
                f"fault {unknown['number']}: no fault is called {unknown['name']}",
                _list_names(map(kind_of, get_args(Fault))),
            ) from error
        raise ScheduleError(f"not a schedule: {error}") from error
    if folder is not None:
        schedule = _move(schedule, lambda file: str((folder / file).resolve()))
    for liar in schedule.liars:
        if (file := _find_own(liar)) is not None:
            on_own(file)
    validate_schedule(schedule)
    return schedule


def encode_schedule(schedule: Schedule) -> bytes:
    """Write a schedule as JSON for people, with all its fields: a later default changes no run."""
    portable = _move(schedule, lambda file: Path(file).name)
    return msgspec.json.format(msgspec.json.encode(portable), indent=2) + b"\n"


def save_schedule(path: Path, schedule: Schedule) -> None:
    """Write a schedule file, and beside it the files of behaviours that it names. Raises
    `OSError`."""
    for liar in schedule.liars:
        if (file := _find_own(liar)) is not None and Path(file).is_file():
            copy = path.parent / Path(file).name
            if not (copy.exists() and copy.samefile(file)):
                shutil.copyfile(file, copy)
    path.write_bytes(encode_schedule(schedule))


def _move(schedule: Schedule, rename: Callable[[str], str]) -> Schedule:
    """With other places for the files of behaviours."""
    liars = tuple(
        liar
        if (file := _find_own(liar)) is None
        else replace(liar, behaviour=rename(file) + liar.behaviour.removeprefix(file))
        for liar in schedule.liars
    )
    return schedule if liars == schedule.liars else replace(schedule, liars=liars)


def _find_own(liar: Liar) -> str | None:
    """The file of a behaviour of somebody's own."""
    path, separator, _ = liar.behaviour.rpartition(".py:")
    return f"{path}.py" if separator else None


def load_schedule(path: Path, on_own: Callable[[str], Any] = lambda file: None) -> Schedule:
    """Read a schedule file; `on_own` as for `decode_schedule`. Raises `ScheduleError`
    and `OSError`, and `BehaviourFailedError` for a broken behaviour beside it."""
    with path.open("rb") as file:
        data = file.read(FILE_MAX_BYTES + 1)
    if len(data) > FILE_MAX_BYTES:
        raise ScheduleError(f"not a schedule: more than {FILE_MAX_BYTES} bytes")
    return decode_schedule(data, path.parent, on_own)
