"""Shows certificates in which its own signature counts more than once."""

from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace

from consensus.effects import Send
from consensus.messages import Advance
from consensus.types import TC, TimeoutData, TimeoutGroup
from crypto.bitmap import encode_bitmap
from localnet.byzantine.behaviour import Need
from localnet.byzantine.notebook import Listener
from node.events import NodeEvent


class TwiceCounted(Listener):
    """Shows TCs in which its own signature stands in many groups."""

    name: ClassVar[str] = "twice_counted"
    needs: ClassVar[Need] = Need.FAILED_VIEWS

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[Send]:
        heard = self.opened
        if heard is None:
            return
        tools, epoch = self.tools, heard.block.epoch
        signers = encode_bitmap((tools.member,), len(tools.committee))
        qcs = [qc for view, qc in sorted(self.notes.qcs.items()) if view < heard.view]
        chosen = qcs[-len(tools.committee) :]
        groups = []
        for qc in chosen:
            data = TimeoutData(epoch, heard.view, qc.view, 0)
            signature = tools.sign(data.signing_bytes(tools.chain_id))
            groups.append(TimeoutGroup(qc.view, 0, signers, signature))
        tc = TC(epoch, heard.view, tuple(groups), chosen[-1])
        yield Send(tools.others, Advance(heard.block.qc, tc))
        # The same groups the other way round, which the order of groups forbids besides.
        yield Send(tools.others, Advance(heard.block.qc, replace(tc, groups=tc.groups[::-1])))
