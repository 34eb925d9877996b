"""The original's ``/chat`` and ``/chat/stream``: a prompt as it is. An answer that ended early has its own word."""

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from tirami.api.schemas import CutOff, LegacyChatReply, LegacyChatRequest
from tirami.core.errors import EngineFailed, KillSwitchActive, TiramiError
from tirami.infer import Chunk, FinishReason
from tirami.ledger import Payer
from tirami.market import Settlement
from tirami.node.answer import written
from tirami.node.chat import ChatCall
from tirami.node.http.caller import payer_of, ticket_of
from tirami.node.http.handlers import Call, handles
from tirami.node.http.openai.asking import TOP_P
from tirami.node.http.openai.frame import Frame
from tirami.node.http.openai.naming import named
from tirami.node.http.openai.stream import EventStream, while_connected


@handles("legacy_chat")
async def legacy_chat(call: Call) -> LegacyChatReply:
    """What came of an answer that was cut is handed over: it was paid for, and an error would be asked for again."""
    payer = payer_of(call.request, call.caller, call.parts)
    with named(messages="prompt"):
        answer = await while_connected(call.request, call.parts.chat.answer(_call(call, payer), written))
    failure = _failure(answer.settlements)
    frame = Frame(call, answer.ticket, "cmpl-")
    return LegacyChatReply(
        text=answer.told[0],
        tokens_generated=frame.usage(answer.settlements, answer.prompts).completion_tokens,
        cut=None if failure is None else CutOff(code=failure.code, message=failure.message),
        **frame.extensions(answer.settlements),
    )


@handles("legacy_chat_stream")
async def legacy_chat_stream(call: Call) -> Response:
    payer = payer_of(call.request, call.caller, call.parts)
    with named(messages="prompt"):
        stream = await while_connected(call.request, call.parts.chat.stream(_call(call, payer)))
    return EventStream(OriginalNarrator(Frame(call, stream.ticket, "cmpl-")), stream)


class OriginalNarrator:
    """One event a piece, its text as it is; no JSON, no end mark and no reason: what was cut ends in an error."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    def opening(self, index: int) -> bytes:
        return b""

    def piece(self, index: int, chunk: Chunk) -> bytes:
        if chunk.reasoning and not chunk.text:
            return b""
        lines = chunk.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return b"".join(b"data: " + line.encode() + b"\n" for line in lines) + b"\n"

    def held(self, index: int) -> int:
        return 0

    def closing(self, index: int) -> bytes:
        return b""

    def ending(self, settlements: Sequence[Settlement | None], failure: TiramiError | None) -> bytes:
        failure = failure or _failure(settlements)
        return b"" if failure is None else b"event: error\n" + self._frame.error(failure)


def _failure(settlements: Sequence[Settlement | None]) -> TiramiError | None:
    return next((_cut(settlement) for settlement in settlements if settlement is not None), None)


def _cut(settlement: Settlement) -> TiramiError | None:
    """Why an answer ended before its end, if it did, and what was paid for it: no error of those is to be retried."""
    paid = f"the answer ends here, {settlement.cost} TRM were paid for it"
    if settlement.reason is FinishReason.KILLED:
        return KillSwitchActive(f"all TRM transactions are frozen; {paid}")
    if (denied := settlement.denied) is not None:
        data: dict[str, Any] = denied.data
        return type(denied)(f"{denied.message}; {paid}", **data)
    if settlement.reason is FinishReason.STOPPED:
        return EngineFailed(f"this node is stopping; {paid}")
    if settlement.reason is FinishReason.FAILED:
        return EngineFailed(f"the provider broke off; {paid}")
    if settlement.reason is FinishReason.UNCHECKABLE:
        return EngineFailed(f"the provider cannot tell the ids of what comes next, so nobody could check it; {paid}")
    if settlement.reason is FinishReason.IDLE:
        return EngineFailed(f"it was not read on for so long that the provider left; {paid}")
    if settlement.reason is FinishReason.BARRED:
        return EngineFailed(f"a key of this session was convicted or has ended; {paid}")
    return None


def _call(call: Call, payer: Payer) -> ChatCall:
    body: LegacyChatRequest = call.body
    return ChatCall(
        payer=payer,
        model=None,
        messages=(),
        prompts=(body.prompt,),
        max_tokens=body.max_tokens,
        temperature=float(body.temperature),
        top_p=TOP_P,
        top_k=0,
        seed=None,
        request_id=call.request_id,
        ticket=ticket_of(call.request),
    )
