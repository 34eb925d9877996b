"""From chat messages to the text of a prompt, whoever renders the template: the engine, or a payer without one."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from tirami.core.errors import InvalidRequest
from tirami.core.units import TokenCount
from tirami.infer.engine import Message, Prompt
from tirami.infer.tools import Tools, marked_calls, names_called

PER_MESSAGE, PER_PROMPT, PER_TOOLS = 16, 16, 512
"""Upper bound of what a chat template adds, tokens."""


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
    """The text of a prompt, as whoever serves and whoever pays makes it.

    A template that leaves out tools or calls does not know them, and one that has calls written in another way than
    answers are read would have them shown as text; then they are told in words.

    Raises:
        InvalidRequest: the template refuses the messages.
    """
    called = names_called(messages)
    if tools is None and not called:
        return await render(messages)
    bare = [{key: value for key, value in message.items() if key != "tool_calls"} for message in messages]
    try:
        text, without = await render(messages, tools.specs if tools else ()), await render(bare)
        known = text != without and all(name in text for name in called)
        if tools is not None:
            known = known and marked_calls(text) > marked_calls(without)
    except InvalidRequest:
        known = False
    return text if known else await render((tools or Tools(())).described(messages))


def unrendered(messages: Sequence[Message], tools: Tools | None) -> Prompt:
    """The prompt of a chat that somebody else renders: its count is an upper bound, a token a byte."""
    texts = [str(message.get("content") or "") for message in messages]
    bound = sum(len(text.encode()) for text in texts) + PER_MESSAGE * len(texts) + PER_PROMPT
    text = "\n".join(f"{message.get('role')}: {text}" for message, text in zip(messages, texts, strict=True))
    beside = [message["tool_calls"] for message in messages if message.get("tool_calls")]
    if tools is not None:
        beside.append(tools.specs)
    if beside:
        told = msgspec.json.encode(beside).decode()
        bound, text = bound + 2 * len(told.encode()) + PER_TOOLS, f"{text}\n{told}"
    return Prompt((), TokenCount(bound), False, text, messages, tools)
