"""From a body of the OpenAI dialect to a call this node serves."""

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from tirami.api.schemas import (
    ChatCompletionRequest,
    CompletionRequest,
    NamedTool,
    QuoteRequest,
    ResponseRequest,
    SamplingBody,
)
from tirami.api.schemas.parts import text_of
from tirami.core.errors import InvalidRequest
from tirami.infer import ANY_OBJECT, CallReader, Message, Shaping, Tools
from tirami.ledger import Payer
from tirami.node.chat import ChatCall
from tirami.node.http.caller import ticket_of
from tirami.node.http.handlers import Call
from tirami.node.http.offers import ANY_MODEL

TEMPERATURE, TOP_P = 0.7, 1.0
"""Where a request does not say."""
LEAST_TOP_P = 1e-6
"""What a quote can name: the likeliest token alone. Some servers refuse 0."""
SEEDS = 1 << 32


def chat_call(call: Call, payer: Payer, body: ChatCompletionRequest) -> ChatCall:
    tools = _chat_tools(body)
    schema = tools.constraint() if tools else None
    if body.response_format is not None:
        named_schema = body.response_format.json_schema
        schema = schema or _schema(body.response_format.type, named_schema.schema_ if named_schema else None)
    return ChatCall(
        payer=payer,
        model=body.model,
        any_name=call.forge,
        messages=_chat_messages(body),
        max_tokens=body.most_tokens,
        **_drawing(body),
        request_id=call.request_id,
        choices=body.n or 1,
        shaping=_shaping(body, schema),
        tools=tools,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        ticket=ticket_of(call.request),
    )


def quote_call(call: Call, payer: Payer, body: QuoteRequest) -> ChatCall:
    """The chat call this is a quote for; how its tokens are drawn does not matter."""
    tools = _chat_tools(body)
    return ChatCall(
        payer=payer,
        model=None if body.model == ANY_MODEL else body.model,
        any_name=call.forge,
        messages=_chat_messages(body),
        max_tokens=body.most_tokens,
        temperature=TEMPERATURE,
        top_p=TOP_P,
        top_k=0,
        seed=0,
        request_id=call.request_id,
        choices=body.n or 1,
        shaping=Shaping(schema=tools.constraint() if tools else None),
        tools=tools,
    )


def completion_call(call: Call, payer: Payer, body: CompletionRequest) -> ChatCall:
    return ChatCall(
        payer=payer,
        model=body.model,
        any_name=call.forge,
        messages=(),
        prompts=[prompt if isinstance(prompt, str) else tuple(prompt) for prompt in body.prompt],
        max_tokens=body.max_tokens,
        **_drawing(body),
        request_id=call.request_id,
        choices=body.n or 1,
        shaping=_shaping(body, None),
        logprobs=body.logprobs,
        ticket=ticket_of(call.request),
    )


def response_call(call: Call, payer: Payer, body: ResponseRequest) -> ChatCall:
    tools = None
    if body.offers_tools:
        chosen = body.tool_choice
        functions = [tool.model_dump(exclude_none=True, exclude={"type"}) for tool in body.tools or ()]
        named = None if chosen is None or isinstance(chosen, str) else chosen.name
        tools = _tools(functions, chosen if isinstance(chosen, str) else None, named)
    shape = body.text.format if body.text else None
    schema = tools.constraint() if tools else None
    if shape is not None:
        schema = schema or _schema(shape.type, shape.schema_)
    messages = list(_items(body))
    return ChatCall(
        payer=payer,
        model=body.model,
        any_name=call.forge,
        messages=messages,
        max_tokens=body.max_output_tokens,
        temperature=TEMPERATURE if body.temperature is None else float(body.temperature),
        top_p=_top_p(body.top_p),
        top_k=0,
        seed=None,
        request_id=call.request_id,
        shaping=Shaping(schema=schema),
        tools=tools,
        ticket=ticket_of(call.request),
    )


def reader_of(call: ChatCall) -> CallReader | None:
    """Of one choice; ``None`` where no calls can come."""
    if call.tools is None:
        return None
    return CallReader(lambda: f"call_{secrets.token_hex(12)}", demanded=bool(call.tools.demanded))


def _items(body: ResponseRequest) -> Iterator[Message]:
    """Messages of a response's input; calls that follow each other belong to one answer."""
    if body.instructions:
        yield _message("system", body.instructions)
    if isinstance(body.input, str):
        yield _message("user", body.input)
        return
    calls: list[dict[str, Any]] = []
    for item in body.input:
        if item.type == "function_call":
            function = {"name": item.name, "arguments": item.arguments}
            calls.append({"id": item.call_id, "type": "function", "function": function})
            continue
        if calls:
            yield _message("assistant", "", calls)
            calls = []
        if item.type == "function_call_output":
            yield _message("tool", text_of(item.output), call_id=item.call_id)
        else:
            yield _message(item.role or "user", text_of(item.content))
    if calls:
        yield _message("assistant", "", calls)


def _chat_messages(body: ChatCompletionRequest | QuoteRequest) -> list[Message]:
    return [
        _message(
            message.role,
            message.plain,
            [tool_call.model_dump() for tool_call in message.tool_calls or ()],
            message.tool_call_id,
        )
        for message in body.messages
    ]


def _message(role: str, content: str, calls: Sequence[dict[str, Any]] = (), call_id: str | None = None) -> Message:
    message: dict[str, object] = {"role": "system" if role == "developer" else role, "content": content}
    if calls:
        message["tool_calls"] = list(calls)
    if call_id is not None:
        message["tool_call_id"] = call_id
    return message


def _chat_tools(body: ChatCompletionRequest | QuoteRequest) -> Tools | None:
    chosen = body.tool_choice
    if not body.tools or chosen == "none":
        return None
    named = chosen.function.name if isinstance(chosen, NamedTool) else None
    functions = [tool.function.model_dump(exclude_none=True) for tool in body.tools]
    return _tools(functions, chosen if isinstance(chosen, str) else None, named)


def _tools(functions: list[dict[str, Any]], choice: str | None, named: str | None) -> Tools:
    demanded = tuple(function["name"] for function in functions) if choice == "required" else ()
    return Tools(tuple(functions), (named,) if named is not None else demanded)


def _schema(kind: str, schema: dict[str, Any] | None) -> str | None:
    if kind == "json_object":
        return ANY_OBJECT
    return json.dumps(schema, ensure_ascii=False) if kind == "json_schema" else None


def _drawing(body: SamplingBody) -> dict[str, Any]:
    return {
        "temperature": TEMPERATURE if body.temperature is None else float(body.temperature),
        "top_p": _top_p(body.top_p),
        "top_k": body.top_k or 0,
        "seed": None if body.seed is None else body.seed % SEEDS,
    }


def _top_p(asked: float | None) -> float:
    return TOP_P if asked is None else max(LEAST_TOP_P, float(asked))


def _biases(asked: dict[str, float]) -> tuple[tuple[int, float], ...]:
    """In order of the tokens. Raises ``InvalidRequest`` for two biases of one token: ``1`` and ``01`` are the same."""
    biases = {int(token): float(bias) for token, bias in asked.items()}
    if len(biases) != len(asked):
        raise InvalidRequest("one token has two biases", param="logit_bias")
    return tuple(sorted(biases.items()))


def _shaping(body: SamplingBody, schema: str | None) -> Shaping:
    return Shaping(
        stop=tuple(body.stop or ()),
        presence_penalty=float(body.presence_penalty or 0),
        frequency_penalty=float(body.frequency_penalty or 0),
        repeat_penalty=1.0 if body.repeat_penalty is None else float(body.repeat_penalty),
        min_p=float(body.min_p or 0),
        logit_bias=_biases(body.logit_bias or {}),
        schema=schema,
    )
