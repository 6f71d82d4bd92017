"""What `rota fault` and `rota byz` ask of a running localnet, over its supervisor's socket."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Struct

from localnet.control import Handler
from localnet.faults.desk import FaultDesk
from localnet.faults.model import FaultError


class AddRequest(Struct, forbid_unknown_fields=True):
    """The argument of `fault-add`."""

    fault: dict[str, Any]
    for_s: float | None = None


class LiarRequest(Struct, forbid_unknown_fields=True):
    """The argument of `byz-set`; no behaviour is honesty."""

    node: str
    behaviour: str | None = None


def fault_handlers(
    desk: FaultDesk, wait_answer: Callable[[str], Awaitable[None]]
) -> dict[str, Handler]:
    """The supervisor's answers. `wait_answer` returns when a node that was started answers."""

    async def add(argument: str) -> object:
        request = _decode(argument, AddRequest)
        return desk.describe(await desk.add(request.fault, request.for_s))

    async def list_(_argument: str) -> object:
        return {"faults": [desk.describe(each) for each in desk.entries]}

    async def remove(argument: str) -> object:
        return desk.describe(await desk.remove(_decode(argument, int)))

    async def heal(_argument: str) -> object:
        return {"healed": await desk.heal()}

    async def set_liar(argument: str) -> object:
        request = _decode(argument, LiarRequest)
        is_started = await desk.set_liar(request.node, request.behaviour)
        if is_started:
            await wait_answer(request.node)
        return {"node": request.node, "behaviour": request.behaviour, "started": is_started}

    async def liars(_argument: str) -> object:
        found = sorted(desk.liars.items())
        return {
            "liars": [
                {
                    "node": node,
                    "behaviour": behaviour,
                    "failure": desk.failures[node].message if node in desk.failures else None,
                }
                for node, behaviour in found
            ]
        }

    return {
        "fault-add": add,
        "fault-list": list_,
        "fault-remove": remove,
        "fault-heal": heal,
        "byz-set": set_liar,
        "byz-active": liars,
    }


def _decode(argument: str, kind: Any) -> Any:
    try:
        return msgspec.json.decode(argument, type=kind)
    except msgspec.MsgspecError as error:
        raise FaultError(
            f"the request is malformed: {error}", advice="use the same version of rota for both"
        ) from error
