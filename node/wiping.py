"""Taking a node's data from it, and leaving its keys."""

import shutil

from msgspec.structs import replace

from node.config_file import render_config
from node.home import NodeHome, write_atomically
from node.storage.errors import mapping_errors


def wipe_home(home: NodeHome) -> None:
    """Remove all data of a node that does not run, and let it follow from now on: what it signed is
    forgotten. Raises `ConfigError` and `StorageError`."""
    with home.locked():
        config = home.load_config().config
        following = replace(config, node=replace(config.node, follow=True))
        with mapping_errors(f"clear {home.data_dir}"):
            # First, so that a crash in between leaves no home that might sign.
            write_atomically(home.config_path, render_config(following).encode(), mode=0o644)
            shutil.rmtree(home.data_dir, ignore_errors=False)
