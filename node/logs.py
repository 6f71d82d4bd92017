"""Logging of a node: one JSON object a line in `log/node.jsonl`, and a copy on stderr.

Every line begins with `ts` (RFC 3339, UTC, microseconds), `level`, `event` (stable snake_case) and
`node`; then come the event's own fields, with their units in their names. Byte strings are shown in
hexadecimal, and cut to eight digits unless the level is debug. Keys, shares and the plain text of
sealed orders are never logged.

    log = structlog.get_logger()
    log.info("block_committed", height=7, view=9, latency_ms=41)
"""

import logging
import logging.handlers
import sys
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from node.config import LogSection

DIGEST_DIGITS: Final = 8
"""Hexadecimal digits that tell hashes apart well enough for reading."""

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_HEAD: Final = ("ts", "level", "event", "node")


def configure_logging(
    config: LogSection, *, node: str, path: Path | None, stream: TextIO | None = None
) -> None:
    """Set up logging for this process; call once, before the first line.

    `path` is the file (its folder exists), None for no file. `stream` is stderr unless given.
    """
    stream = sys.stderr if stream is None else stream
    level = _LEVELS[config.level]

    def add_node(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["node"] = node
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        add_node,
        structlog.processors.StackInfoRenderer(),
    ]
    handlers: list[logging.Handler] = []
    if path is not None:
        file_handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=config.file_size_max_bytes, backupCount=config.files_max
        )
        file_handler.setFormatter(_formatter(shared, pretty=False, full=level <= 10, color=False))
        handlers.append(file_handler)
    if config.format != "none":
        terminal = stream.isatty()
        pretty = config.format == "pretty" or (config.format == "auto" and terminal)
        stream_handler = logging.StreamHandler(stream)
        stream_handler.setFormatter(
            _formatter(shared, pretty=pretty, full=level <= 10, color=terminal)
        )
        handlers.append(stream_handler)
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def is_doubling(count: int) -> bool:
    """Is a count 1, 2, 4, 8...? Then it gets a line: what others can do as often as they like must
    not fill the disk."""
    return count & (count - 1) == 0


def _formatter(
    shared: list[Processor], *, pretty: bool, full: bool, color: bool
) -> logging.Formatter:
    def show_bytes(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {key: _show(value, full) for key, value in event.items()}

    # Plain tracebacks: the other formatters print local variables, and with them secrets.
    last: Processor = (
        structlog.dev.ConsoleRenderer(
            colors=color,
            timestamp_key="ts",
            pad_event_to=28,
            exception_formatter=structlog.dev.plain_traceback,
        )
        if pretty
        else structlog.processors.JSONRenderer(serializer=_encode_line)
    )
    exceptions: list[Processor] = [] if pretty else [structlog.processors.format_exc_info]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *exceptions,
            show_bytes,
            _order_fields,
            last,
        ],
    )


def _show(value: object, full: bool) -> object:
    if isinstance(value, bytes):
        return value.hex() if full else value.hex()[:DIGEST_DIGITS]
    if isinstance(value, (list, tuple)):
        return [_show(each, full) for each in value]
    return value


def _order_fields(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    head = {key: event[key] for key in _HEAD if key in event}
    return head | {key: value for key, value in event.items() if key not in head}


def _encode_line(event: EventDict, **_options: Any) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()
