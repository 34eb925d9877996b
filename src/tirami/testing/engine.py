"""The testing engine: ``python -m tirami.testing.engine [--port N]``. An OpenAI-shaped server that makes words up.

Prints one JSON line ``{"port": N}`` when it listens; ends when its standard input closes or on SIGTERM.
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

from tirami.testing.script import Directive, count_words, tokens

MODEL = "tirami-testing"
CONTEXT = 8192
SLOTS = 64
SAYS = {"X-Tirami-Testing": "1"}


class _Engine:
    def __init__(self) -> None:
        self.busy = 0
        self.asked = 0

    async def models(self, request: web.Request) -> web.Response:
        meta = {"n_params": 10**9, "n_ctx_train": CONTEXT, "n_embd": 1024, "n_layer": 16, "testing": True}
        entry = {"id": MODEL, "object": "model", "owned_by": "tirami.testing", "created": 0, "meta": meta}
        return web.json_response({"object": "list", "data": [entry]}, headers=SAYS)

    async def slots(self, request: web.Request) -> web.Response:
        return web.json_response({"busy": self.busy, "slots": SLOTS, "asked": self.asked}, headers=SAYS)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = msgspec.json.decode(await request.read())
        prompt = "\n".join(str(message.get("content", "")) for message in body["messages"])
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
        length = most if directive.tokens is None else min(directive.tokens, most)
        self._finish = "length" if length == most else "stop"
        seed = int(body.get("seed") or 0)
        self._pieces = list(islice(tokens(prompt, seed, unicode=directive.unicode), length))
        self._continuous = bool((body.get("stream_options") or {}).get("continuous_usage_stats"))
        self._frame = {"id": "chatcmpl-testing", "created": int(time.time()), "model": MODEL}

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
        message = {"role": "assistant", "content": "".join(self._pieces)}
        choice = {"index": 0, "message": message, "finish_reason": self._finish}
        content = {
            **self._frame,
            "object": "chat.completion",
            "choices": [choice],
            "usage": self._usage(len(self._pieces)),
        }
        return web.json_response(content, headers=SAYS)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={**SAYS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        for index, piece in enumerate(self._pieces):
            await self._pace(index)
            if index == self._directive.break_after and request.transport is not None:
                request.transport.close()
                return response
            await response.write(self._event({"content": piece}, None, index + 1))
        await response.write(self._event({}, self._finish, len(self._pieces)))
        final = {
            **self._frame,
            "object": "chat.completion.chunk",
            "choices": [],
            "usage": self._usage(len(self._pieces)),
        }
        await response.write(b"data: " + msgspec.json.encode(final) + b"\n\ndata: [DONE]\n\n")
        await response.write_eof()
        return response

    def _event(self, delta: dict[str, str], finish: str | None, written: int) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        event: dict[str, Any] = {**self._frame, "object": "chat.completion.chunk", "choices": [choice]}
        if self._continuous:
            event["usage"] = self._usage(written)
        return b"data: " + msgspec.json.encode(event) + b"\n\n"


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
