"""From chat messages to the text of a prompt, whoever renders the template: the engine, or a payer without one."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from tirami.core.errors import InvalidRequest
from tirami.infer.engine import Message
from tirami.infer.tools import Tools, names_called


class Renderer(Protocol):
    """A chat template over messages and tools in OpenAI's shapes; raises ``InvalidRequest`` for what it refuses."""

    async def __call__(self, messages: Sequence[Message], tools: Sequence[Mapping[str, object]] = ...) -> str: ...


def check(messages: Sequence[Message]) -> None:
    """Raises ``InvalidRequest`` where there is no message or one without a role."""
    if not messages:
        raise InvalidRequest("there are no messages", param="messages")
    if not all(isinstance(message.get("role"), str) for message in messages):
        raise InvalidRequest("every message needs a role", param="messages")


async def rendered(render: Renderer, messages: Sequence[Message], tools: Tools | None) -> str:
    """The text of a prompt. A template that leaves out tools or calls does not know them; then they are told in words.

    Raises:
        InvalidRequest: the template refuses the messages.
    """
    called = names_called(messages)
    if tools is None and not called:
        return await render(messages)
    bare = [{key: value for key, value in message.items() if key != "tool_calls"} for message in messages]
    try:
        text = await render(messages, tools.specs if tools else ())
        known = text != await render(bare) and all(name in text for name in called)
    except InvalidRequest:
        known = False
    return text if known else await render((tools or Tools(())).described(messages))
