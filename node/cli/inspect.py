"""`rota inspect`: the objects of the protocol as a node has them."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from node.cli.output import JsonOption, command_group, current_output, record, to_plain
from node.cli.target import DIR_DEFAULT, DirOption, NodeOption, query_at_door

app = command_group(
    "Look at blocks, certificates and state roots.",
    "rota inspect block 120",
    "rota inspect state --json",
)

HEIGHT_MAX: Final = 2**63 - 1
"""What the protocol's whole numbers hold."""

HeightArgument = Annotated[
    int, typer.Argument(min=1, max=HEIGHT_MAX, metavar="HEIGHT", help="A block's number.")
]


@app.command()
def block(
    context: typer.Context,
    block: Annotated[
        str, typer.Argument(metavar="BLOCK", help="Height, or block id of 64 hexadecimal digits.")
    ],
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """Show a committed block.

    \b
    Examples:
      rota inspect block 1
      rota inspect block 1200 --node node2 --json
    """
    _show(context, directory, node, "block", _block_reference(block))


@app.command()
def qc(
    context: typer.Context,
    height: HeightArgument,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """Show the quorum certificate that certifies the committed block of a height.

    \b
    Example:
      rota inspect qc 1200
    """
    _show(context, directory, node, "commit", height)


@app.command()
def state(
    context: typer.Context,
    height: HeightArgument,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    json: JsonOption = False,
) -> None:
    """Show the checkpoint of a height: its roots and the certificate over them.

    \b
    Example:
      rota inspect state 1200 --json
    """
    _show(context, directory, node, "certificate", height)


def _block_reference(text: str) -> int | bytes:
    if text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    try:
        block_id = bytes.fromhex(text)
    except ValueError:
        block_id = b""
    if len(block_id) != 32:
        raise typer.BadParameter("give a height, or a block id of 64 hexadecimal digits")
    return block_id


def _show(
    context: typer.Context, directory: Any, node: str | None, name: str, argument: int | bytes
) -> None:
    answer = query_at_door(directory, node, lambda client: client.query(name, argument))
    current_output(context).data(answer, record(_flatten(to_plain(answer))))


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _flatten(each, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _flatten(each, f"{prefix}[{index}]")
    else:
        yield prefix, value
