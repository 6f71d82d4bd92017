"""The root command: finds the groups, runs one, turns its errors into words and exit codes."""

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any, Final

import typer
from typer.core import TyperGroup

import rota_build
from node.cli.output import JsonOption, Output, current_output, table
from node.exit_codes import ExitCode, OperatorError

ENTRY_POINT_GROUP: Final = "rota.commands"


class RootGroup(TyperGroup):
    """Loads a command only when it is named: a node starts without importing the benchmarks."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands, own and found."""
        return sorted({*super().list_commands(ctx), *_found_commands()})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the command of that name, or return None."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        found = _found_commands().get(cmd_name)
        return None if found is None else typer.main.get_command(found.load())


def _found_commands() -> dict[str, EntryPoint]:
    return {each.name: each for each in entry_points(group=ENTRY_POINT_GROUP)}


app = typer.Typer(
    cls=RootGroup,
    name="rota",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Data goes to stdout, all else to stderr. Exit codes: rota exit-codes.",
)


@app.callback()
def root(context: typer.Context, json: JsonOption = False) -> None:
    """Rota: a decentralized sequencer committee for a derivatives exchange.

    \b
    Examples:
      rota localnet up                                     four nodes and demo traders
      rota order place BTC-PERP buy 0.1 --price 60000      trade as alice
      rota localnet status --json
    """


@app.command("version")
def show_version(context: typer.Context, json: JsonOption = False) -> None:
    """Print the version, and whether compiled modules run.

    \b
    Example:
      rota version --json
    """
    python = sys.version.split()[0]
    build = rota_build.describe()
    document = {"rota": version("rota"), "python": python, "build": build}
    current_output(context).data(document, f"rota {document['rota']} (Python {python}, {build})")


@app.command("exit-codes")
def show_exit_codes(context: typer.Context, json: JsonOption = False) -> None:
    """List the exit codes of all commands.

    \b
    Example:
      rota exit-codes
    """
    current_output(context).data(
        [{"code": int(code), "name": code.name, "meaning": code.meaning} for code in ExitCode],
        table(["code>", "name", "meaning"], [(int(c), c.name, c.meaning) for c in ExitCode]),
    )


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code.

    Whatever an operator cannot mend is a bug: it keeps its traceback, on stderr.
    """
    output = Output()
    try:
        result = app(
            list(arguments) or ["--help"], prog_name="rota", standalone_mode=False, obj=output
        )
    except OperatorError as error:
        output.operator_error(error)
        return int(error.exit_code)
    except typer.TyperException as error:
        # A usage error printed before `--json` was parsed still has to be JSON.
        output.is_json = output.is_json or "--json" in arguments
        context = getattr(error, "ctx", None)
        output.error(
            _describe_usage_error(error),
            advice=f"see {context.command_path if context else 'rota'} --help",
            code="usage.invalid",
            exit_code=error.exit_code,
        )
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        output.note("interrupted")
        return int(ExitCode.INTERRUPTED)
    except Exception as error:
        # The last barrier of the process. Nothing is hidden: it is told with its traceback.
        output.bug(error)
        return int(ExitCode.UNEXPECTED)
    return result if isinstance(result, int) else 0


_VALUE_PROBLEMS: Final = {
    "greater_than_equal": "{input} is not at least {ge}",
    "less_than_equal": "{input} is not at most {le}",
    "int_parsing": "{input!r} is not a whole number",
    "int_parsing_size": "the number has too many digits",
    "float_parsing": "{input!r} is not a number",
}
"""What is wrong with the value of an option, by the kind that its parser gives it."""


def _describe_usage_error(error: typer.TyperException) -> str:
    """The parser's message, with the value that it leaves out."""
    # Imported here: it is slow, and the parser too loads it only when it has something to parse.
    from pydantic import ValidationError

    message: str = error.format_message()
    option = getattr(error, "option_name", None)
    if option is not None and option[1:2].isdigit():
        return f"{message}; an amount, a number or a size is written without a sign, above zero"
    if not isinstance(error.__cause__, ValidationError):
        return message
    problem = error.__cause__.errors()[0]
    if problem["type"] == "value_error":
        return message.replace(problem["msg"], str(problem["ctx"]["error"]))
    words = _VALUE_PROBLEMS.get(problem["type"])
    if words is None:
        return message
    bounds = {
        name: int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        for name, bound in problem.get("ctx", {}).items()
    }
    return message.replace(problem["msg"], words.format(input=problem["input"], **bounds))


def main() -> None:
    """Entry point of the `rota` script."""
    if not __debug__:
        # Assertions are part of how nodes stay safe.
        sys.exit("rota does not run under python -O")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
