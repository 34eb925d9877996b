"""The testing engine: ``python -m tirami.testing.engine [--port N]``. An OpenAI-shaped server that makes words up.

It honours ``stop``, ``seed``, ``logprobs``, ``response_format`` and ``tools`` (it calls one that is demanded, or what
``[[call=name]]`` in the prompt says). Prints one JSON line ``{"port": N}`` when it listens; ends when its standard
input closes or on SIGTERM.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from itertools import islice
from typing import Any

import msgspec
from aiohttp import web

from tirami.testing.script import Directive, count_words, cut, example, pieces, tokens, vector

MODEL = "tirami-testing"
CONTEXT = 8192
DIMENSIONS = 1024
SLOTS = 64
SAYS = {"X-Tirami-Testing": "1"}


class _Engine:
    def __init__(self) -> None:
        self.busy = 0
        self.asked = 0

    async def models(self, request: web.Request) -> web.Response:
        meta = {"n_params": 10**9, "n_ctx_train": CONTEXT, "n_embd": DIMENSIONS, "n_layer": 16, "testing": True}
        entry = {"id": MODEL, "object": "model", "owned_by": "tirami.testing", "created": 0, "meta": meta}
        return web.json_response({"object": "list", "data": [entry]}, headers=SAYS)

    async def slots(self, request: web.Request) -> web.Response:
        return web.json_response({"busy": self.busy, "slots": SLOTS, "asked": self.asked}, headers=SAYS)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = msgspec.json.decode(await request.read())
        prompt = "\n".join(str(message.get("content", "")) for message in body["messages"])
        return await self._answer(request, body, prompt)

    async def completion(self, request: web.Request) -> web.StreamResponse:
        body = msgspec.json.decode(await request.read())
        prompt = body["prompt"]
        return await self._answer(request, body, prompt if isinstance(prompt, str) else " ".join(map(str, prompt)))

    async def embeddings(self, request: web.Request) -> web.Response:
        body = msgspec.json.decode(await request.read())
        texts = [entry if isinstance(entry, str) else " ".join(map(str, entry)) for entry in body["input"]]
        self.asked += 1
        directive = Directive.read(texts[0])
        if directive.error is not None:
            return _error(directive.error, "scripted", "a scripted error")
        await asyncio.sleep(directive.prefill_ms / 1000)
        data = [
            {"object": "embedding", "index": index, "embedding": vector(text, DIMENSIONS)}
            for index, text in enumerate(texts)
        ]
        read = sum(count_words(text) for text in texts)
        usage = {"prompt_tokens": read, "total_tokens": read}
        return web.json_response({"object": "list", "data": data, "model": MODEL, "usage": usage}, headers=SAYS)

    async def _answer(self, request: web.Request, body: dict[str, Any], prompt: str) -> web.StreamResponse:
        directive, read = Directive.read(prompt), count_words(prompt)
        self.asked += 1
        most = int(body.get("max_tokens") or 16)
        if directive.error is not None:
            return _error(directive.error, "scripted", "a scripted error")
        if read + most > CONTEXT:
            return _error(400, "context_length_exceeded", f"the context is {CONTEXT} tokens")
        self.busy += 1
        try:
            answer = _Answer(body, prompt, directive, read, most)
            return await (answer.stream(request) if body.get("stream") else answer.whole())
        except ConnectionResetError:
            raise asyncio.CancelledError from None  # the client left; aiohttp has nothing to answer
        finally:
            self.busy -= 1


class _Answer:
    def __init__(self, body: dict[str, Any], prompt: str, directive: Directive, read: int, most: int) -> None:
        self._directive = directive
        self._read = read
        self._chat = "messages" in body
        self._calls = _called(body, directive)
        self._logprobs = body.get("logprobs")
        schema = _schema(body)
        if schema is not None:
            written = pieces(json.dumps(example(schema)))
            length = min(len(written), most)
            self._finish = "stop" if len(written) <= most else "length"
        else:
            length = most if directive.tokens is None else min(directive.tokens, most)
            self._finish = "length" if length == most else "stop"
            seed = int(body.get("seed") or 0)
            written = list(islice(tokens(prompt, seed, unicode=directive.unicode), length))
        self._pieces, stopped = cut(written[:length], list(body.get("stop") or ()))
        if stopped:
            self._finish = "stop"
        if self._calls:
            self._pieces, self._finish = [], "tool_calls"
        self._continuous = bool((body.get("stream_options") or {}).get("continuous_usage_stats"))
        self._object = "chat.completion" if self._chat else "text_completion"
        self._frame = {"id": "testing", "created": int(time.time()), "model": MODEL}

    def _usage(self, written: int) -> dict[str, int]:
        return {"prompt_tokens": self._read, "completion_tokens": written, "total_tokens": self._read + written}

    async def _pace(self, index: int) -> None:
        directive = self._directive
        if index == 0 and directive.prefill_ms:
            await asyncio.sleep(directive.prefill_ms / 1000)
        if directive.die_after is not None and index >= directive.die_after:
            os._exit(9)
        if directive.stall_after is not None and index >= directive.stall_after:
            await asyncio.Event().wait()
        if directive.delay_ms:
            await asyncio.sleep(directive.delay_ms / 1000)

    async def whole(self) -> web.Response:
        for index in range(len(self._pieces)):
            await self._pace(index)
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._pieces)}
        if self._calls:
            message["tool_calls"] = self._calls
        said = {"message": message} if self._chat else {"text": message["content"]}
        choice = {"index": 0, **said, "finish_reason": self._finish}
        content = {**self._frame, "object": self._object, "choices": [choice], "usage": self._usage(self._written)}
        return web.json_response(content, headers=SAYS)

    @property
    def _written(self) -> int:
        return len(self._pieces) + sum(count_words(call["function"]["arguments"]) for call in self._calls)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={**SAYS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        for index, piece in enumerate(self._pieces):
            await self._pace(index)
            if index == self._directive.break_after and request.transport is not None:
                request.transport.close()
                return response
            await response.write(self._event({"content": piece}, None, index + 1))
        for call in self._calls:
            await response.write(self._event({"tool_calls": [call]}, None, self._written))
        await response.write(self._event({}, self._finish, self._written))
        final = {**self._frame, "object": self._streamed, "choices": [], "usage": self._usage(self._written)}
        await response.write(b"data: " + msgspec.json.encode(final) + b"\n\ndata: [DONE]\n\n")
        await response.write_eof()
        return response

    @property
    def _streamed(self) -> str:
        return "chat.completion.chunk" if self._chat else self._object

    def _event(self, delta: dict[str, Any], finish: str | None, written: int) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        choice |= {"delta": delta} if self._chat else {"text": delta.get("content", "")}
        if self._logprobs not in (None, False) and delta.get("content"):
            token = {"token": delta["content"], "logprob": -0.5, "bytes": list(delta["content"].encode())}
            choice["logprobs"] = {"content": [{**token, "top_logprobs": [token]}]}
        event: dict[str, Any] = {**self._frame, "object": self._streamed, "choices": [choice]}
        if self._continuous:
            event["usage"] = self._usage(written)
        return b"data: " + msgspec.json.encode(event) + b"\n\n"


def _called(body: dict[str, Any], directive: Directive) -> list[dict[str, Any]]:
    """The calls of this answer: one that is demanded, or those the prompt names."""
    functions = {tool["function"]["name"]: tool["function"] for tool in body.get("tools") or ()}
    choice = body.get("tool_choice")
    names = [name for name in directive.call if name in functions]
    if isinstance(choice, dict):
        names = [choice["function"]["name"]]
    elif choice == "required" and not names:
        names = [next(iter(functions))]
    return [
        {
            "index": index,
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(example(functions[name].get("parameters") or {}))},
        }
        for index, name in enumerate(names)
    ]


def _schema(body: dict[str, Any]) -> Any:
    shape = body.get("response_format") or {}
    if shape.get("type") == "json_object":
        return {"type": "object", "properties": {"answer": {"type": "string"}}}
    return shape["json_schema"]["schema"] if shape.get("type") == "json_schema" else None


def _error(status: int, code: str, message: str) -> web.Response:
    content = {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": None}}
    return web.json_response(content, status=status, headers=SAYS)


def build() -> web.Application:
    """The server's application; handlers are cancelled the moment their client is gone."""
    engine, app = _Engine(), web.Application(client_max_size=1 << 24)
    app.router.add_get("/v1/models", engine.models)
    app.router.add_get("/slots", engine.slots)
    app.router.add_get("/health", engine.slots)
    app.router.add_post("/v1/chat/completions", engine.chat)
    app.router.add_post("/v1/completions", engine.completion)
    app.router.add_post("/v1/embeddings", engine.embeddings)
    return app


async def serve(port: int) -> None:
    runner = web.AppRunner(build(), handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=2048)
    await site.start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(serve(parser.parse_args().port))
