"""A process that renders one chat template, because nothing inside a process stops a stranger's template.

Jinja's sandbox keeps a template from reaching Python; it does not keep ``9 ** 9 ** 9``, ``'{:9999999999}'.format(1)``
or nested loops from taking all time and memory, and a thread in the middle of them cannot be ended. A process can: the
kernel bounds its time and memory, and lets it open no file or socket, should the sandbox have a hole.

Started by path, like the engine's worker, so that it imports none of the node's packages. Every line is a JSON object.
The first of stdin is ``{"template", "bos", "eos", "cpu_s", "memory_bytes", "characters"}``, answered by ``{"ready"}``
on stdout. An empty line begins a prompt, another ends it. In between each line, ``{"messages", "tools"}``, is answered
by ``{"text"}``, by ``{"refused": reason}`` when the template does not take these messages, or by ``{"error": reason}``
when the template is no good; the end by ``{"ended"}``. A prompt is rendered in a fork: nothing of it is left for the
next.
"""

import json
import os
import resource
import sys
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls  # noqa: N812
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

STAY_CPU_S = 60
"""Of a process that has read its template, for as long as it is there."""


class Generation(Extension):
    """``{% generation %}`` marks an answer for trainers; here it is what it encloses."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Arguments(dict[str, Any]):
    """The arguments of a call: an object to templates that look inside, their JSON text to those that print them."""

    def __init__(self, text: str) -> None:
        super().__init__(json.loads(text))
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __add__(self, other: str) -> str:
        return self._text + other

    def __radd__(self, other: str) -> str:
        return other + self._text


class Refused(Exception):
    """What ``raise_exception`` raises."""


def raise_exception(message: object = "") -> None:
    raise Refused(str(message))


def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: object) -> str:
    """JSON as the templates' authors had it: not escaped for HTML, which is jinja's own way."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def compiled(source: str, bos: str, eos: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[LoopControls, Generation]
    )
    environment.filters["tojson"] = tojson
    environment.globals.update(
        raise_exception=raise_exception,
        strftime_now=lambda form: datetime.now().strftime(form),
        bos_token=bos,
        eos_token=eos,
        add_generation_prompt=True,
    )
    return environment.from_string(source)


def with_objects(message: dict[str, Any]) -> dict[str, Any]:
    """``message`` with the arguments of its calls as objects, where they are some."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [_with_object(call) for call in calls]}


def _with_object(call: dict[str, Any]) -> dict[str, Any]:
    try:
        function = call["function"]
        return {**call, "function": {**function, "arguments": Arguments(function["arguments"])}}
    except (KeyError, TypeError, ValueError):
        return call


def answer(template: jinja2.Template, job: dict[str, Any], characters: int) -> dict[str, str]:
    pieces, room = [], characters
    try:
        given = {"tools": job["tools"]} if job["tools"] else {"tools": None}
        for piece in template.generate(messages=[with_objects(message) for message in job["messages"]], **given):
            room -= len(piece)
            if room < 0:
                return {"error": f"it makes more than {characters} characters of these messages"}
            pieces.append(piece)
    except Refused as refused:
        return {"refused": str(refused)[:200]}
    except (MemoryError, RecursionError):
        return {"error": "it takes too much memory"}
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"[:200]}
    return {"text": "".join(pieces)}


def confine(cpu_s: int, memory_bytes: int) -> None:
    """For reading the template. Once it is read, :func:`stay` and :func:`alone` go on from here."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, STAY_CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    for none in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
        resource.setrlimit(none, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, resource.getrlimit(resource.RLIMIT_NPROC)[1]))


def stay() -> None:
    """Forking takes a millisecond of time a prompt."""
    resource.setrlimit(resource.RLIMIT_CPU, (STAY_CPU_S, STAY_CPU_S))
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def alone(cpu_s: int) -> None:
    """In the fork, whose time counts from nothing."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def warm() -> None:
    """Have imported what Python imports on first use: escapes, dates, error reports. Later no file can be opened."""
    used = compiled("{{ '\\n' ~ strftime_now('%d') ~ (messages | tojson) }}{{ 1 / 0 }}", "", "")
    answer(used, {"messages": [], "tools": []}, 100)


def say(**told: object) -> None:
    sys.stdout.buffer.write(json.dumps(told, ensure_ascii=False).encode(errors="replace") + b"\n")
    sys.stdout.buffer.flush()


def render(template: jinja2.Template | None, reason: str, characters: int) -> None:
    """One prompt, in a fork."""
    while (line := sys.stdin.buffer.readline()).strip():
        say(**({"error": reason} if template is None else answer(template, json.loads(line), characters)))


def main() -> None:
    first = json.loads(sys.stdin.buffer.readline())
    warm()
    confine(first["cpu_s"], first["memory_bytes"])
    template, reason = None, ""
    try:
        template = compiled(first["template"], first["bos"], first["eos"])
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:200]
    stay()
    say(ready=True)
    while os.read(0, 1):  # not more: what follows is for the fork
        fork = os.fork()
        if not fork:
            alone(first["cpu_s"])
            render(template, reason, first["characters"])
            os._exit(0)
        os.waitpid(fork, 0)
        say(ended=True)


if __name__ == "__main__":
    main()
