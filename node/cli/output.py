"""Where a command's words go: data to stdout, everything else to stderr.

With `--json` a command prints exactly one JSON document on stdout, errors included; a script needs
to look nowhere else. Without it, people get tables. Colour and movement only on a terminal, and
not where `NO_COLOR` is set.
"""

import os
import sys
import textwrap
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal, TextIO

import msgspec
import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from node import plain
from node.exit_codes import ExitCode, OperatorError

WIDTH_UNBOUNDED: Final = 10_000
"""Columns of whatever must not be cut off. A narrow terminal breaks the line where its edge is;
what is copied from there is whole."""

COLUMN_GAP: Final = 2
"""Blanks between two columns of a table."""

LAST_COLUMN_MIN: Final = 20
"""Columns that the last one of a table has at least: words in fewer cannot be read."""


class UnwritableError(OperatorError):
    """The output's destination takes no more."""

    code = "output.unwritable"
    exit_code = ExitCode.STORAGE


class DetailedError(OperatorError):
    """An error with more for programs to read than the words that people get."""

    def __init__(
        self, message: str, *, advice: str, details: Mapping[str, object], code: str | None = None
    ) -> None:
        """`details` stand in the document beside the code and the message."""
        super().__init__(message, advice=advice, code=code)
        self.details = details


class Output:
    """The two streams of one command, and the choice between JSON and text."""

    def __init__(self) -> None:
        self.is_json = False
        """Set by `--json` of whichever command runs."""
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)

    def data(self, document: object, *human: object) -> None:
        """Print the result: `document` as JSON, or `human` (tables, lines) to people.

        Raises `UnwritableError`.
        """
        with _writing(sys.stdout):
            if self.is_json:
                sys.stdout.write(encode_json(document) + "\n")
                sys.stdout.flush()
                return
            for each in human:
                self.out.print(each, highlight=False, soft_wrap=True, markup=False)

    def note(self, text: str) -> None:
        """Say something that is no data: what changed, what comes next.

        Raises `UnwritableError`.
        """
        with _writing(sys.stderr):
            self.err.print(text, highlight=False, soft_wrap=True, markup=False)

    def note_table(self, content: "WholeTable") -> None:
        """Say a table that is no data. Raises `UnwritableError`."""
        with _writing(sys.stderr):
            self.err.print(content, highlight=False, soft_wrap=True, markup=False)

    def error(
        self,
        message: str,
        *,
        advice: str,
        code: str,
        exit_code: int,
        details: Mapping[str, object] | None = None,
    ) -> None:
        """Say what is wrong and what to do about it.

        Where nobody can be told, on a full disk for one, the exit code still tells: this never
        raises `OSError`.
        """
        try:
            self._print_error(message, advice, code, exit_code, details or {})
        except OSError:
            _silence(sys.stdout, sys.stderr)

    def bug(self, error: Exception) -> None:
        """Print an error that nobody foresaw: its traceback on stderr, then it in one line."""
        try:
            traceback.print_exception(error)
        except OSError:
            _silence(sys.stderr)
        self.error(
            f"unexpected {type(error).__name__}: {error}",
            advice="report this, with the traceback on stderr",
            code="bug",
            exit_code=int(ExitCode.UNEXPECTED),
        )

    def _print_error(
        self, message: str, advice: str, code: str, exit_code: int, details: Mapping[str, object]
    ) -> None:
        if self.is_json:
            problem = {
                "code": code,
                "message": message,
                "next": advice,
                "exit_code": exit_code,
                **details,
            }
            sys.stdout.write(encode_json({"error": problem}) + "\n")
            sys.stdout.flush()
            return
        line = Text.assemble(("error: ", "bold red"), message)
        if code:
            line.append(f" [{code}]", style="dim")
        self.err.print(line, soft_wrap=True)
        if advice:
            self.err.print(Text.assemble(("next: ", "bold"), advice), soft_wrap=True)

    def operator_error(self, error: OperatorError) -> None:
        """Print an error that the operator can mend."""
        self.error(
            error.message,
            advice=error.advice,
            code=error.code,
            exit_code=int(error.exit_code),
            details=error.details if isinstance(error, DetailedError) else None,
        )


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr)
    if console.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return console
    return Console(stderr=stderr, width=WIDTH_UNBOUNDED)


@contextmanager
def _writing(stream: TextIO) -> Iterator[None]:
    """Turn what goes wrong while writing into `UnwritableError`; a reader who went away is left
    to whoever runs the command line, which ends quietly."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence(stream)
        raise UnwritableError(
            f"cannot write to {stream.name}: {error.strerror or error}",
            advice="see that the file or disk behind it has room",
        ) from error


def _silence(*streams: TextIO) -> None:
    """Let nothing more be written: what still waits in the buffers would fail again when the
    interpreter exits, and turn the exit code into 120."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(null, stream.fileno())
    os.close(null)


def encode_json(document: object) -> str:
    """One line of JSON; byte strings as hexadecimal."""
    return msgspec.json.encode(to_plain(document)).decode()


def to_plain(value: object) -> Any:
    """What JSON has for it (`node.plain.to_plain`): bytes become hexadecimal text."""
    return plain.to_plain(value, is_hex=True)


class WholeTable:
    """A table whose words are never cut: ids, addresses and paths in it stay whole, however narrow
    the terminal. The last column is broken between words if it goes beyond the edge.

    Print it with `soft_wrap=True`.
    """

    def __init__(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str
    ) -> None:
        self._columns = tuple(columns)
        self._rows = [tuple(str(cell) for cell in row) for row in rows]
        self._title = title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render as on an unbounded line, without blanks at the ends of lines."""
        rich_table = self._make(self._find_room(options.max_width))
        segments = console.render(rich_table, options.update(width=WIDTH_UNBOUNDED))
        for line in Segment.split_lines(segments):
            while line and not line[-1].text.strip():
                line.pop()
            yield from line[:-1]
            if line:
                yield Segment(line[-1].text.rstrip(), line[-1].style)
            yield Segment.line()

    def _make(self, room: int) -> Table:
        result = Table(title=self._title or None, title_justify="left", box=None, pad_edge=False)
        for column in self._columns:
            justify: Literal["left", "right"] = "right" if column.endswith(">") else "left"
            result.add_column(column.rstrip(">!"), justify=justify, no_wrap=True)
        is_whole = not self._columns or self._columns[-1].endswith((">", "!"))
        for row in self._rows:
            *others, last = row
            if not is_whole and cell_len(last) > room:
                last = textwrap.fill(last, room, break_long_words=False, break_on_hyphens=False)
            result.add_row(*(Text(cell) for cell in (*others, last)))
        return result

    def _find_room(self, width: int) -> int:
        """Columns of the terminal that are left for the last one."""
        used = 0
        for place, column in enumerate(self._columns[:-1]):
            cells = (column.rstrip(">!"), *(row[place] for row in self._rows))
            used += max(map(cell_len, cells)) + COLUMN_GAP
        return max(width - used, LAST_COLUMN_MIN)


def record(rows: Iterable[tuple[str, object]]) -> str:
    """Return keys and values as plain lines, the values in one column."""
    found = list(rows)
    width = max((len(key) for key, _ in found), default=0)
    return "\n".join(f"{key:{width}}  {value}".rstrip() for key, value in found)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = ""
) -> WholeTable:
    """Return a plain table. Columns whose name ends in `>` are right-aligned; a last one whose name
    ends in `!` holds what is copied, such as a command, and is not broken into lines."""
    return WholeTable(columns, rows, title)


def show_cell(value: object) -> str:
    """A value in a table, or a dash where there is none."""
    return "-" if value is None else str(value)


def current_output(context: typer.Context) -> Output:
    """The output of the command that runs."""
    output = context.find_root().obj
    assert isinstance(output, Output)
    return output


def _set_json(context: typer.Context, value: bool) -> bool:
    if value and isinstance(output := context.find_root().obj, Output):
        output.is_json = True
    return value


JsonOption = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON document on stdout, errors included.",
        callback=_set_json,
        is_eager=True,
        show_default=False,
    ),
]
"""Every command takes it. The callback notes it in the `Output`; the value itself goes unused."""


def command_group(help_text: str, *examples: str) -> typer.Typer:
    """A group of commands that looks like all others: plain help that ends with these command
    lines, `-h` as well as `--help`."""
    parts = [help_text]
    if examples:
        title = "Examples:" if len(examples) > 1 else "Example:"
        # The mark keeps the parser from flowing the lines into one paragraph.
        parts.append("\n".join(["\b", title, *(f"  {example}" for example in examples)]))
    return typer.Typer(
        help="\n\n".join(parts),
        rich_markup_mode=None,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
