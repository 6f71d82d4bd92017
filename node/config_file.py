"""Reading, overlaying, checking and writing `node.toml`.

Precedence, weakest first: defaults, `node.toml`, environment variables `ROTA__SECTION__KEY`, flags
`--set section.key=value`. An unknown key is an error wherever it comes from.
"""

import difflib
import os
import re
import reprlib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args, get_origin

import msgspec
from msgspec import Struct

from node.config import CONFIG_VERSION, ConfigError, NodeConfig, PeerEntry, parse_endpoint

CONFIG_SIZE_MAX_BYTES: Final = 1 << 20
ENVIRONMENT_PREFIX: Final = "ROTA__"

_SEE_KEYS: Final = "`rota config keys` lists every key with its meaning and bounds"


class Setting(NamedTuple):
    """One key and where its value came from, for `rota config show --origin`."""

    key: str
    value: object
    origin: str
    """`default`, `node.toml`, `env ROTA__...` or `flag --set`."""


class LoadedConfig(NamedTuple):
    """A validated configuration and the origin of every key that is not a default."""

    config: NodeConfig
    origins: Mapping[str, str]

    def settings(self) -> Iterator[Setting]:
        """Every key in the order of the file."""
        for key, value in _flatten(msgspec.to_builtins(self.config)):
            yield Setting(key, value, self.origins.get(key, "default"))


def load_config(
    path: Path,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
) -> LoadedConfig:
    """Read `node.toml`, lay environment and flags over it, validate the result.

    `overrides` maps dotted keys to text. `environment` is the process environment unless given.
    Raises `ConfigError`, which names the source, the key and the remedy.
    """
    tree = _read_toml(path)
    version = tree.get("version")
    if version != CONFIG_VERSION:
        raise ConfigError(
            f"{path}: version is {reprlib.repr(version)}; "
            f"this program reads version {CONFIG_VERSION}",
            advice=f"put `version = {CONFIG_VERSION}` at the top, or run the matching program",
        )
    _refuse_unknown_keys(tree, str(path))
    origins = {key: "node.toml" for key, _ in _flatten(tree)}
    texts = dict(_environment_settings(os.environ if environment is None else environment))
    texts |= {key: ("flag --set", value) for key, value in (overrides or {}).items()}
    for key, (origin, value) in texts.items():
        _lay_over(tree, key, value, origin)
        origins[key] = origin
    config = _convert(tree, path, origins)
    _validate_relations(config, path)
    return LoadedConfig(config, origins)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}",
            advice="create a home with `rota node init`, or name the right one with --home",
        ) from error
    if len(data) > CONFIG_SIZE_MAX_BYTES:
        raise ConfigError(
            f"{path} is larger than {CONFIG_SIZE_MAX_BYTES} bytes",
            advice="is this really a node.toml?",
        )
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        # Also what is TOML but cannot be held: a number of 5,000 digits, a thousand brackets.
        raise ConfigError(f"{path} is not TOML: {error}", advice="mend that line") from error


def _environment_settings(environment: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, str]]]:
    """`ROTA__SECTION__KEY=value` as dotted keys; names are compared in lower case."""
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX):
            key = name.removeprefix(ENVIRONMENT_PREFIX).replace("__", ".").lower()
            yield key, (f"env {name}", environment[name])


def _lay_over(tree: dict[str, Any], key: str, value: str, origin: str) -> None:
    if key == "version":
        raise ConfigError(f"{origin}: the version belongs to the file", advice="do not set it")
    *tables, last = key.split(".")
    for table in tables:
        tree = tree.setdefault(table, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"{origin}: {table} is a value, not a section", advice=_SEE_KEYS)
    tree[last] = value


def _refuse_unknown_keys(tree: Mapping[str, Any], source: str) -> None:
    for key, known in _unknown_keys(tree, NodeConfig, ""):
        close = difflib.get_close_matches(key.rpartition(".")[2], known, n=1)
        table = key.rpartition(".")[0]
        advice = (
            f"did you mean {table + '.' if table else ''}{close[0]}?"
            if close
            else f"keys {'of [' + table + ']' if table else 'at the top'}: {', '.join(known)}"
        )
        raise ConfigError(f"{source}: unknown key {key}", advice=advice)


def _unknown_keys(
    tree: Mapping[str, Any], type_: Any, prefix: str
) -> Iterator[tuple[str, list[str]]]:
    """Every key of `tree` that the struct `type_` lacks, with the keys that it has."""
    fields = {each.encode_name: each.type for each in msgspec.structs.fields(type_)}
    for key, value in tree.items():
        if key not in fields:
            yield prefix + key, list(fields)
        elif isinstance(value, Mapping):
            inner = fields[key]
            if get_origin(inner) is dict:
                entry_type = get_args(inner)[1]
                for name, entry in value.items():
                    if isinstance(entry, Mapping):
                        yield from _unknown_keys(entry, entry_type, f"{prefix}{key}.{name}.")
            elif isinstance(inner, type) and issubclass(inner, Struct):
                yield from _unknown_keys(value, inner, f"{prefix}{key}.")


def _convert(tree: dict[str, Any], path: Path, origins: Mapping[str, str]) -> NodeConfig:
    for key, origin in origins.items():
        if origin != "node.toml":
            _refuse_unknown_keys(_nest(key), origin)
    for key, origin in origins.items():
        if origin != "node.toml":
            _parse_text(tree, key, origin)
    try:
        return msgspec.convert(tree, NodeConfig)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        key = where.rstrip("`").lstrip(".").replace("[...]", ".*")
        origin = origins.get(key, "node.toml")
        source = str(path) if origin == "node.toml" else origin
        raise ConfigError(f"{source}: {key or 'file'}: {reason}", advice=_SEE_KEYS) from error


def _nest(key: str) -> dict[str, Any]:
    tree: Any = ""
    for part in reversed(key.split(".")):
        tree = {part: tree}
    result: dict[str, Any] = tree
    return result


def _parse_text(tree: dict[str, Any], key: str, origin: str) -> None:
    """Turn the text of an environment variable or flag into the type of its key, in place."""
    *tables, last = key.split(".")
    type_: Any = NodeConfig
    for part in key.split("."):
        if get_origin(type_) is dict:
            type_ = get_args(type_)[1]
        elif isinstance(type_, type) and issubclass(type_, Struct):
            type_ = {each.encode_name: each.type for each in msgspec.structs.fields(type_)}[part]
        else:
            raise ConfigError(f"{origin}: {key} is not a key", advice=_SEE_KEYS)
    for table in tables:
        tree = tree[table]
    try:
        tree[last] = msgspec.to_builtins(msgspec.convert(tree[last], type_, strict=False))
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin}: {key}: {error}", advice=_SEE_KEYS) from error


def _validate_relations(config: NodeConfig, path: Path) -> None:
    """What no single key can tell."""
    addresses = [("peer.listen", config.peer.listen), ("door.listen", config.door.listen)]
    addresses += [(f"peers.{name}.address", entry.address) for name, entry in config.peers.items()]
    for key, address in addresses:
        try:
            parse_endpoint(address)
        except ValueError as error:
            raise ConfigError(f"{path}: {key}: {error}", advice="write host:port") from error
    if config.peer.listen == config.door.listen:
        raise ConfigError(
            f"{path}: peer.listen and door.listen are both {config.door.listen}",
            advice="give each its own port",
        )
    if config.node.name in config.peers:
        raise ConfigError(
            f"{path}: peers.{config.node.name} is this node itself", advice="remove that section"
        )
    pace = config.consensus
    if not pace.min_block_interval_ms <= pace.idle_interval_ms < pace.base_view_timeout_ms:
        raise ConfigError(
            f"{path}: consensus.min_block_interval_ms ({pace.min_block_interval_ms}), "
            f"idle_interval_ms ({pace.idle_interval_ms}) and base_view_timeout_ms "
            f"({pace.base_view_timeout_ms}) are out of order",
            advice="keep min_block_interval_ms <= idle_interval_ms < base_view_timeout_ms: an idle "
            "chain is no faster than a busy one, and no leader is given up before it speaks",
        )


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


class KeyDescription(NamedTuple):
    """One key of `node.toml`, for the commented file, the command and the reference page."""

    key: str
    type: str
    default: object
    """None where there is no default."""
    description: str


def describe_keys() -> Iterator[KeyDescription]:
    """Every key in the order of the file; `NAME` stands for a peer's name."""
    yield from _describe(NodeConfig, "")


def _describe(type_: Any, prefix: str) -> Iterator[KeyDescription]:
    for each in msgspec.structs.fields(type_):
        inner = each.type
        if get_origin(inner) is dict:
            yield from _describe(get_args(inner)[1], f"{prefix}{each.encode_name}.NAME.")
        elif isinstance(inner, type) and issubclass(inner, Struct):
            yield from _describe(inner, f"{prefix}{each.encode_name}.")
        else:
            info = msgspec.inspect.type_info(inner)
            assert isinstance(info, msgspec.inspect.Metadata), f"{each.name} lacks a description"
            assert info.extra_json_schema is not None
            default = None if each.default is msgspec.NODEFAULT else each.default
            yield KeyDescription(
                prefix + each.encode_name,
                _type_text(info.type),
                default,
                info.extra_json_schema["description"],
            )


def _type_text(info: Any) -> str:
    if isinstance(info, msgspec.inspect.IntType):
        return f"integer, {info.ge} to {info.le}" if info.le is not None else "integer"
    if isinstance(info, msgspec.inspect.LiteralType):
        return " | ".join(str(value) for value in info.values)
    if isinstance(info, msgspec.inspect.BoolType):
        return "true | false"
    if isinstance(info, msgspec.inspect.BytesType):
        return "base64"
    return "string"


def render_config(config: NodeConfig) -> str:
    """Return the text of a `node.toml` with this content.

    Every key is explained; one that has its default value is commented out, so that a later
    version's better default reaches old homes. Addresses are always written out.
    """
    values = dict(_flatten(msgspec.to_builtins(config)))
    lines = ["# Configuration of one Rota node. `rota config keys` lists every key.", ""]
    section = ""
    for description in describe_keys():
        table, _, key = description.key.rpartition(".")
        if table.startswith("peers."):
            continue
        if table != section:
            section = table
            lines += ["", f"[{table}]"]
        lines.append(f"# {description.description} ({description.type})")
        value = values[description.key]
        mark = "#" if value == description.default and key != "listen" else ""
        lines.append(f"{mark}{key} = {_toml_value(value)}")
    tables = [render_peer(name, entry) for name, entry in config.peers.items()]
    return "\n\n".join(["\n".join(lines), *tables]) + "\n"


def render_peer(name: str, entry: PeerEntry) -> str:
    """Return the table by which the `node.toml` of the other members knows a member."""
    values = _flatten(msgspec.to_builtins(entry))
    return "\n".join(
        [f"[peers.{name}]", *(f"{key} = {_toml_value(value)}" for key, value in values)]
    )


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    assert isinstance(value, str)
    assert not re.search(r'[\x00-\x1f"\\]', value), "our values need no escapes"
    return f'"{value}"'
