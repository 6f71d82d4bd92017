"""A node that lies, or has bad parts, or both: `python -m localnet.faults.node_main`.

With `--dir` its connections go through the localnet's proxy and its network, clock and disk obey
the table of faults; with `--behaviour` it lies. Everything else is what `rota node start` runs.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from crypto.bls import BLS
from crypto.ed25519 import ED25519
from localnet.byzantine import Behaviour, LyingNode, find_behaviour, make_liar
from localnet.faults.bad_disk import VFS_NAME, BadDisk, BadVfs
from localnet.faults.bad_network import BadNetwork
from localnet.faults.model import Link
from localnet.faults.proxy import read_links
from localnet.faults.table import Journal, journal_path, table_path
from localnet.faults.weather import Weather
from node.cli.node import ChooseCore, start_node
from node.clock import Clock
from node.core import CoreFactory, NodeCore
from node.core_config import NodeCoreConfig
from node.exit_codes import ExitCode, OperatorError
from node.genesis import Genesis
from node.keystores import NodeKeys
from node.network import load_network
from node.recovery import RecoveredNode
from node.runtime import HostParts
from node.transport.network import PeerNetwork


def start_bad_node(
    home: Path,
    settings: list[str] | None,
    password_file: Path | None = None,
    *,
    behaviour: str | None = None,
    seed: int = 0,
    network_path: Path | None = None,
    routes: Mapping[str, str] | None = None,
) -> None:
    """Run a node until it is stopped: lying if there is a behaviour, whose open choices `seed`
    decides, and with bad parts if it belongs to the localnet in a folder.

    `routes` says which members it dials under another name. Raises `OperatorError`, and `OSError`
    or `msgspec.MsgspecError` if the localnet's proxy does not run.
    """
    liars: list[LyingNode] = []
    choose_core = None
    if behaviour is not None:
        choose_core = _choose_liar(find_behaviour(behaviour), seed, liars)
    parts, vfs, journal = None, None, None
    if network_path is not None:
        network = load_network(network_path)
        journal = Journal(journal_path(network.path), home.name)
        weather = Weather(home.name, table_path(network.run_dir), journal)
        # Of each node its own, so that the same messages are not lost everywhere.
        random = Random(f"{network.manifest.seed} {home.name}")
        parts, vfs = _make_parts(weather, read_links(network.run_dir), routes or {}, random)
    start_node(home, settings, password_file, choose_core=choose_core, parts=parts)
    # SQLite finds the file system by name: it has to live as long as the node.
    del vfs
    if journal is not None and behaviour is not None:
        journal.note("lied", times=sum(each.lies for each in liars))


def _choose_liar(behaviour: type[Behaviour], seed: int, made: list[LyingNode]) -> ChooseCore:
    """Whoever is made is put into `made`."""

    def choose(keys: NodeKeys) -> CoreFactory:
        make = make_liar(
            behaviour,
            scheme=BLS,
            identity_scheme=ED25519,
            secret=keys.consensus,
            identity_secret=keys.identity,
            seed=seed,
        )

        def make_and_tell(
            config: NodeCoreConfig, genesis: Genesis, me: int, recovered: RecoveredNode
        ) -> NodeCore:
            liar = make(config, genesis, me, recovered)
            assert isinstance(liar, LyingNode)
            made.append(liar)
            return liar

        return make_and_tell

    return choose


def _make_parts(
    weather: Weather, ports: Mapping[Link, int], routes: Mapping[str, str], random: Random
) -> tuple[HostParts, BadVfs]:
    """The parts of a node in this weather, and the file system, which the caller keeps alive."""

    def make_network(**options: Any) -> PeerNetwork:
        return BadNetwork(weather, ports, routes, random, **options)

    def make_clock() -> Clock:
        return Clock(lambda: time.time_ns() / 1_000_000 + weather.skew_ms)

    vfs = BadVfs(weather)
    return HostParts(make_network, make_clock, BadDisk(weather), VFS_NAME), vfs


def main() -> int:
    """Run one node; return its exit code."""
    parser = argparse.ArgumentParser(prog="localnet.faults.node_main", description="A bad node.")
    parser.add_argument("--home", type=Path, required=True, help="the node's home")
    parser.add_argument("--dir", type=Path, help="the localnet's folder: obey its faults")
    parser.add_argument("--behaviour", help="lie like this")
    parser.add_argument("--seed", type=int, default=0, help="of the lies")
    parser.add_argument("--route", action="append", default=[], help="dial MEMBER=OTHER")
    parser.add_argument("--set", action="append", default=[], help="override SECTION.KEY=VALUE")
    options = parser.parse_args()
    try:
        start_bad_node(
            options.home,
            options.set,
            behaviour=options.behaviour,
            seed=options.seed,
            network_path=options.dir,
            routes=dict(each.split("=", 1) for each in options.route),
        )
    except OperatorError as error:
        sys.stderr.write(f"error: {error.message} [{error.code}]\n  {error.advice}\n")
        return int(error.exit_code)
    except (OSError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"error: no links: {error}\n")
        return int(ExitCode.CONFIG)
    return 0


if __name__ == "__main__":
    sys.exit(main())
