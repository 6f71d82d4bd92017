"""A node of a localnet in a bad world, or one that lies: `python -m localnet.faults.node_main`.

With `--dir` its connections go through the localnet's proxy and its network, clock and disk obey
the table of faults; with `--behaviour` it lies. Everything else is what `rota node start` runs.
"""

import argparse
import sys
from pathlib import Path

import msgspec

from localnet.byzantine import find_behaviour
from localnet.byzantine.process import choose_liar
from localnet.faults.proxy import read_links
from localnet.faults.table import Journal, journal_path, table_path
from localnet.faults.weather import Weather, make_parts
from node.cli.node import start_node
from node.exit_codes import ExitCode, OperatorError
from node.network import load_network


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
        choose_core = None
        if options.behaviour is not None:
            choose_core = choose_liar(find_behaviour(options.behaviour), options.seed)
        parts, vfs = None, None
        if options.dir is not None:
            network = load_network(options.dir)
            name = options.home.name
            journal = Journal(journal_path(network.path), name)
            weather = Weather(name, table_path(network.run_dir), journal)
            routes = dict(each.split("=", 1) for each in options.route)
            parts, vfs = make_parts(weather, read_links(network.run_dir), routes)
        start_node(
            options.home,
            ["log.format=none", *options.set],
            None,
            choose_core=choose_core,
            parts=parts,
        )
        del vfs
    except OperatorError as error:
        sys.stderr.write(f"error: {error.message} [{error.code}]\n  {error.advice}\n")
        return int(error.exit_code)
    except (OSError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"error: no links: {error}\n")
        return int(ExitCode.CONFIG)
    return 0


if __name__ == "__main__":
    sys.exit(main())
