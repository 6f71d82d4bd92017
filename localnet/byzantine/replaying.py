"""Says old things again: its own messages, and what it heard from others, to anybody."""

from collections import deque
from collections.abc import Iterable
from typing import ClassVar, Final

from consensus.effects import Received, Send
from consensus.messages import Message
from localnet.byzantine.behaviour import Tools
from localnet.byzantine.notebook import Listener
from node.events import NodeEvent

MESSAGES_KEPT: Final = 200
REPLAYS: Final = 6
"""With each new view."""


class Replaying(Listener):
    """Says old things again, its own and others', to anybody."""

    name: ClassVar[str] = "replaying"

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._messages: deque[Message] = deque(maxlen=MESSAGES_KEPT)

    def send(self, now_ms: int, send: Send) -> Iterable[Send]:
        self._messages.append(send.message)
        return (send,)

    def volunteer(self, now_ms: int, event: NodeEvent) -> Iterable[Send]:
        assert isinstance(event, Received), "volunteers when something was heard"
        if event.sender != self.tools.member:
            self._messages.append(event.message)
        if self.opened is not None:
            for _ in range(REPLAYS):
                message = self.tools.random.choice(self._messages)
                yield Send((self.tools.random.choice(self.tools.others),), message)
