"""``/v1/embeddings``."""

import struct
from base64 import b64decode
from collections.abc import Sequence

from tirami.api.schemas import EmbeddingEntry, EmbeddingList, EmbeddingRequest, EmbeddingUsage
from tirami.infer import Chunk
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

    def read(chunks: Sequence[Chunk]) -> list[EmbeddingEntry]:
        vectors = [chunk.text if body.encoding_format == "base64" else _floats(chunk.text) for chunk in chunks]
        return [EmbeddingEntry(index=index, embedding=vector) for index, vector in enumerate(vectors)]

    with named(messages="input", prompt="input"):
        answer = await while_connected(call.request, call.parts.chat.embed(asked, read))
    frame = Frame(call, answer.ticket, "embd-")
    counted = frame.usage(answer.settlements, answer.prompts).prompt_tokens
    return EmbeddingList(
        data=answer.told[0],
        model=frame.model,
        usage=EmbeddingUsage(prompt_tokens=counted, total_tokens=counted),
        **frame.extensions(answer.settlements),
    )


def _floats(vector: str) -> list[float]:
    data = b64decode(vector)
    return list(struct.unpack(f"<{len(data) // FLOAT_BYTES}f", data))
