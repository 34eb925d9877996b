"""``/v1/embeddings``."""

import struct
from base64 import b64decode

from tirami.api.schemas import EmbeddingEntry, EmbeddingList, EmbeddingRequest, EmbeddingUsage
from tirami.node.chat import EmbeddingCall
from tirami.node.http.caller import payer_of, ticket_of
from tirami.node.http.handlers import Call, handles
from tirami.node.http.openai.frame import Frame
from tirami.node.http.openai.naming import named
from tirami.node.http.openai.stream import while_connected

FLOAT_BYTES = 4


@handles("embeddings")
async def embeddings(call: Call) -> EmbeddingList:
    body: EmbeddingRequest = call.body
    payer = payer_of(call.request, call.caller, call.parts)
    asked = EmbeddingCall(
        payer=payer,
        model=body.model,
        any_name=call.forge,
        inputs=[text if isinstance(text, str) else tuple(text) for text in body.input],
        request_id=call.request_id,
        dimensions=body.dimensions,
        ticket=ticket_of(call.request),
    )
    with named(messages="input", prompt="input"):
        answer = await while_connected(call.request, call.parts.chat.embed(asked))
    in_text = body.encoding_format == "base64"
    frame = Frame(call, answer.ticket, "embd-")
    read = frame.usage(answer.settlements, answer.prompts).prompt_tokens
    return EmbeddingList(
        data=[
            EmbeddingEntry(index=index, embedding=chunk.text if in_text else _floats(chunk.text))
            for index, chunk in enumerate(answer.chunks[0])
        ],
        model=frame.model,
        usage=EmbeddingUsage(prompt_tokens=read, total_tokens=read),
        **frame.extensions(answer.settlements),
    )


def _floats(vector: str) -> list[float]:
    data = b64decode(vector)
    return list(struct.unpack(f"<{len(data) // FLOAT_BYTES}f", data))
