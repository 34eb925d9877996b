"""Chat templates: what they are given, what of theirs is refused, and templates that mean harm."""

import asyncio
import json
import os
import signal
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.infer.blocks import block, byte_level
from tests.infer.ggufs import CONTROL
from tirami.core.errors import InvalidRequest, TokenizerError
from tirami.infer import BlockCache, Prompter, Prompters, Tools, rendering
from tirami.infer.chat import Renderer
from tirami.infer.rendering import RenderingProcess, RenderingProcesses
from tirami.infer.template import ChatTemplate

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello 猫"}]
CALL = {"function": {"name": "sum", "arguments": '{"a": 1,"b": "é"}'}, "id": "1", "type": "function"}
CALLS = [*HELLO, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "2"}]
SUM = Tools(({"name": "sum", "description": "adds <two>", "parameters": {"type": "object"}},))


async def rendered(
    source: str, messages: Sequence[Mapping[str, object]] = HELLO, tools: Sequence[Mapping[str, object]] = ()
) -> str:
    async with renderer_of(source, bos="<s>", eos="</s>") as render:
        return await render(messages, tools)


@asynccontextmanager
async def renderer_of(source: str, bos: str = "", eos: str = "") -> AsyncIterator[Renderer]:
    async with aclosing(RenderingProcesses()) as processes:
        async with ChatTemplate(source, bos=bos, eos=eos, processes=processes).renderer() as render:
            yield render


async def test_a_template_sees_what_templates_expect() -> None:
    source = """
    {%- for message in messages %}
        {% if loop.index0 > 5 %}{% break %}{% endif %}
{{ bos_token }}{{ message.role }}: {{ message['content'] | trim }}{{ eos_token }}
    {% endfor %}
{%- if add_generation_prompt %}{% generation %}ai:{% endgeneration %}{% endif %}
{%- if tools is none %}, no tools{% endif %} {{ strftime_now('%Y') | length }}"""
    assert await rendered(source) == "<s>user: Hello 猫</s>\nai:, no tools 4"


async def test_tools_and_calls_are_written_as_json() -> None:
    source = "{{ tools | tojson }}{% for m in messages %}{% for c in m.tool_calls %}{{ %s }}{% endfor %}{% endfor %}"
    specs = json.dumps(SUM.specs)
    arguments = {"c.function.arguments | tojson": '{"a": 1, "b": "é"}', "c.function.arguments": '{"a": 1,"b": "é"}'}
    arguments["'=' + c.function.arguments + '.'"] = '={"a": 1,"b": "é"}.'
    arguments["c.function.arguments.b"] = "é"
    for way, expected in arguments.items():
        messages = [*CALLS, *HELLO]
        assert await rendered(source.replace("%s", way), messages, SUM.specs) == specs + expected


async def test_several_prompts_are_rendered_by_one_process() -> None:
    async with renderer_of("{{ messages[0].content }}") as render:
        assert [await render([{"role": "user", "content": word}]) for word in "abc"] == ["a", "b", "c"]


async def test_a_process_waits_for_the_next_prompt_and_remembers_nothing_of_the_last() -> None:
    source = "{% set n = namespace(x=0) %}{% set n.x = n.x + 1 %}{{ n.x }}{{ cycler('a', 'b').next() }}"
    source += "{{ messages[0].content }}"
    async with aclosing(RenderingProcesses(waiting=1)) as processes:
        template = ChatTemplate(source, bos="", eos="", processes=processes)
        for word in ("one", "two"):
            async with template.renderer() as render:
                assert await render([{"role": "user", "content": word}]) == "1a" + word
        ((kept, process),) = processes._waiting.items()
        async with ChatTemplate("other", bos="", eos="", processes=processes).renderer() as render:
            assert await render(HELLO) == "other"
        assert kept not in processes._waiting and process._process.returncode is not None, "one waits, no more"
        assert len(processes._waiting) == 1
    assert not processes._waiting


async def test_a_process_that_was_refused_by_goes_on_and_one_that_broke_does_not() -> None:
    source = "{% if messages[0].content == 'no' %}{{ raise_exception('no') }}{% endif %}"
    source += "{{ 'x' * messages[0].content | length }}"
    async with aclosing(RenderingProcesses()) as processes:
        template = ChatTemplate(source, bos="", eos="", processes=processes)
        with pytest.raises(InvalidRequest):
            async with template.renderer() as render:
                await render([{"role": "user", "content": "no"}])
        (process,) = processes._waiting.values()
        async with template.renderer() as render:
            assert await render(HELLO) == "x" * 7
        assert list(processes._waiting.values()) == [process]
        with pytest.raises(ZeroDivisionError):
            async with template.renderer():
                raise ZeroDivisionError
        assert not processes._waiting and process._process.returncode is not None


async def test_two_prompts_at_a_time_have_two_processes_and_one_of_them_stays() -> None:
    async with aclosing(RenderingProcesses()) as processes:
        template = ChatTemplate("{{ messages[0].content }}", bos="", eos="", processes=processes)
        async with template.renderer() as one, template.renderer() as other:
            assert await other(HELLO) == await one(HELLO) == "Hello 猫"
        assert len(processes._waiting) == 1


async def test_who_is_interrupted_while_one_of_two_is_ended_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ran side by side; the second to end puts the first out, and is cancelled while it waits for that."""
    started: list[RenderingProcess] = []
    start = RenderingProcess.start

    async def noted() -> RenderingProcess:
        started.append(await start())
        return started[-1]

    monkeypatch.setattr(RenderingProcess, "start", noted)
    async with aclosing(RenderingProcesses()) as processes:
        template = ChatTemplate("x", bos="", eos="", processes=processes)
        waits = asyncio.Event()
        close = RenderingProcess.close

        async def slow(process: RenderingProcess) -> None:
            waits.set()
            await asyncio.sleep(0.2)
            await close(process)

        async def second() -> None:
            async with template.renderer() as render:
                async with template.renderer() as other:
                    await other(HELLO)
                await render(HELLO)
                monkeypatch.setattr(RenderingProcess, "close", slow)

        ending = asyncio.create_task(second())
        await waits.wait()
        ending.cancel()
        await asyncio.wait([ending])
        monkeypatch.setattr(RenderingProcess, "close", close)
    assert len(started) == 2
    await asyncio.wait_for(asyncio.gather(*(process._process.wait() for process in started)), 5)


async def test_a_process_that_died_while_it_waited_is_not_lent() -> None:
    async with aclosing(RenderingProcesses()) as processes:
        template = ChatTemplate("{{ messages[0].content }}", bos="", eos="", processes=processes)
        async with template.renderer() as render:
            await render(HELLO)
        (waiting,) = processes._waiting.values()
        os.killpg(waiting._process.pid, signal.SIGKILL)
        await waiting._process.wait()
        async with template.renderer() as render:
            assert await render(HELLO) == "Hello 猫"


async def test_an_answer_already_begun_is_gone_on_with() -> None:
    begun = [*HELLO, {"role": "assistant", "content": "Well, "}]
    assert await rendered("", begun) == "<|im_start|>user\nHello 猫<|im_end|>\n<|im_start|>assistant\nWell, "
    with pytest.raises(InvalidRequest):
        await rendered("", [*begun, begun[-1]])


async def test_what_a_template_refuses_is_the_callers_fault() -> None:
    with pytest.raises(InvalidRequest, match="roles must take turns") as caught:
        await rendered("{{ raise_exception('roles must take turns') }}")
    assert caught.value.param == "messages"
    with pytest.raises(InvalidRequest, match="UndefinedError"):
        await rendered("{{ messages[0].nothing.at_all }}")
    with pytest.raises(InvalidRequest, match="JSON"):
        await rendered("", [{"role": "user", "content": object()}])
    with pytest.raises(InvalidRequest, match="JSON"):
        await rendered("", [{"role": "user", "content": "\ud800"}])


async def test_a_template_that_is_none_is_the_models_fault() -> None:
    for source in ("{% for %}", "{{ 'a' | nothing }}", "{% include 'x' %}{% block a %}"):
        with pytest.raises((TokenizerError, InvalidRequest)):
            await rendered(source)


HOSTILE = {
    "endless loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a number without end": "{{ (10 ** 10) ** (10 ** 10) }}",
    "a wide format": "{{ '{:9999999999}'.format(1) }}",
    "a wide percent": "{{ '%9999999999d' % 1 }}",
    "a wide centre": "{{ 'a' | center(9999999999) }}",
    "a long product": "{{ 'a' * 9999999999 }}",
    "a long answer": "{% for a in range(99999) %}{{ 'a' * 9999 }}{% endfor %}",
    "doubling": "{% set n = namespace(x='aaaaaaaa') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a deep expression": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "many brackets": "{{ " + "[" * 90_000 + "}}",
    "a lorem ipsum": "{{ lipsum(99999, true, 9999, 99999) }}",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_template_ends_within_its_bounds(source: str) -> None:
    began = time.monotonic()
    with pytest.raises((TokenizerError, InvalidRequest)):
        await rendered(source)
    assert time.monotonic() - began < rendering.DEADLINE_S + 1


ESCAPES = {
    "class": "{{ ''.__class__.__mro__ }}",
    "globals": "{{ raise_exception.__globals__['__builtins__'] }}",
    "format": "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
    "frames": "{{ messages.__init__.__globals__.sys.modules }}",
    "attr": "{{ messages | attr('__class__') }}",
    "changes what it is given": "{{ messages.append(1) }}",
}


@pytest.mark.parametrize("source", ESCAPES.values(), ids=ESCAPES)
async def test_the_sandbox_holds(source: str) -> None:
    try:
        assert await rendered(source) == ""
    except InvalidRequest as refused:
        assert "SecurityError" in refused.message or "UndefinedError" in refused.message


async def test_the_process_can_open_nothing_knows_nothing_and_is_gone_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TIRAMI_API_TOKEN", "canary")
    started = []
    spawn = asyncio.create_subprocess_exec

    async def noted(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        started.append(await spawn(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    async with renderer_of("x") as render:
        assert await render(HELLO) == "x"
        (fork,) = Path(f"/proc/{started[0].pid}/task/{started[0].pid}/children").read_text().split()
        environment = Path(f"/proc/{fork}/environ").read_bytes()
        limits = Path(f"/proc/{fork}/limits").read_text().splitlines()
    assert b"canary" not in environment
    told = {line[:26].strip(): line[26:].split()[:2] for line in limits}
    assert told["Max open files"] == told["Max file size"] == told["Max processes"] == ["0", "0"]
    assert told["Max address space"] == [str(rendering.MEMORY_BYTES)] * 2
    assert started[0].returncode is not None


async def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "DEADLINE_S", 0.5)
    with pytest.raises(TokenizerError, match="too much time"):
        await rendered(HOSTILE["endless loops"])


def prompter(**more: object) -> Prompter:
    made = block(byte_level("qwen2", (), {"<s>": CONTROL, "</s>": CONTROL}, **more))
    return Prompter.from_block(made, RenderingProcesses(0))


async def test_a_prompt_is_what_was_rendered_with_its_marks_read() -> None:
    made = await prompter(**{"tokenizer.chat_template": "<s>{{ messages[0].content }}"}).prepare(HELLO)
    assert made.tokens == (256, *"Hello 猫".encode())
    assert (made.count, made.exact, made.text, made.messages) == (len(made.tokens), True, "<s>Hello 猫", HELLO)


async def test_what_the_tokenizer_adds_is_taken_off_what_the_template_wrote() -> None:
    frame = {"tokenizer.chat_template": "{{ bos_token }}a{{ eos_token }}", "bos_token_id": 256, "eos_token_id": 257}
    assert (await prompter(**frame, add_bos_token=True).prepare(HELLO)).tokens == (256, 97, 257)
    assert (await prompter(**frame, add_eos_token=True).prepare(HELLO)).tokens == (256, 97, 257)
    assert (await prompter(**frame).prepare(HELLO)).tokens == (256, 97, 257)


async def test_tools_that_a_template_leaves_out_are_told_in_words() -> None:
    told = await prompter(**{"tokenizer.chat_template": "{{ messages[0].content }}"}).prepare(HELLO, SUM)
    assert "adds <two>" in told.text


HERMES = '<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>'
REVERSED = '<tool_call>\\n{"arguments": <args-dict>, "name": <function-name>}\\n</tool_call>'
BRACES = HERMES.replace("{", "{{").replace("}", "}}")
OTHERS = {
    "llama 3": 'Respond in the format {"name": function name, "parameters": dictionary of arguments}.',
    "mistral": "[AVAILABLE_TOOLS][/AVAILABLE_TOOLS]",
    "qwen 3 coder": "<tool_call>\\n<function=example_function_name>\\n</function>\\n</tool_call>",
    "glm 4": "<tool_call>{function-name}\\n<arg_key>{arg-key-1}</arg_key>\\n</tool_call>",
}
TELLS = (
    "{%% if tools %%}{{ tools | tojson }}{{ '%s' }}{%% endif %%}{%% for m in messages %%}{{ m.content }}{%% endfor %%}"
)


@pytest.mark.parametrize("way", [HERMES, REVERSED, BRACES])
async def test_a_template_that_has_calls_written_as_they_are_read_tells_of_tools_itself(way: str) -> None:
    knows = prompter(**{"tokenizer.chat_template": TELLS % way})
    expected = json.dumps(SUM.specs, ensure_ascii=False) + way.replace("\\n", "\n") + "Hello 猫"
    assert (await knows.prepare(HELLO, SUM)).text == expected


@pytest.mark.parametrize("way", OTHERS.values(), ids=OTHERS)
async def test_a_template_that_has_calls_written_in_another_way_is_not_asked_to_tell_of_tools(way: str) -> None:
    """What such a model answered was shown to the client as text: nobody read it as a call."""
    quoted: list[dict[str, Any]] = [{"role": "user", "content": 'Is <tool_call>{"name": "sum"}</tool_call> yours?'}]
    other = prompter(**{"tokenizer.chat_template": TELLS % way})
    for messages in (HELLO, quoted):
        told = (await other.prepare(messages, SUM)).text
        assert '<tool_call>\n{"name": "<name>", "arguments": {<arguments>}}\n</tool_call>' in told
        assert way.replace("\\n", "\n") not in told


async def test_earlier_calls_stay_in_the_templates_own_words_where_no_tools_are_offered() -> None:
    own = "{% for m in messages %}{% for c in m.tool_calls %}[CALL]{{ c.function.name }}{% endfor %}{% endfor %}"
    assert (await prompter(**{"tokenizer.chat_template": own}).prepare(CALLS)).text == "[CALL]sum"


async def test_no_messages_no_role_and_no_prompt_are_refused() -> None:
    for messages in ([], [{"content": "x"}]):
        with pytest.raises(InvalidRequest):
            await prompter().prepare(messages)
    with pytest.raises(InvalidRequest):
        prompter().prepare_text("")
    with pytest.raises(InvalidRequest):
        await prompter(**{"tokenizer.chat_template": "{{ '' }}"}).prepare(HELLO)


def test_prompters_are_kept_in_memory_and_their_blocks_on_disk(tmp_path: Path) -> None:
    kept = Prompters(BlockCache(tmp_path), kept=1)
    blocks = [block(byte_level("qwen2", **{"general.name": name})) for name in "ab"]
    assert kept.get(blocks[0].digest) is None
    first = kept.add(blocks[0])
    assert kept.get(blocks[0].digest) is first
    kept.add(blocks[1])
    again = kept.get(blocks[0].digest)
    assert again is not None and again is not first
    bad = block({"model": "bert"})
    with pytest.raises(TokenizerError):
        kept.add(bad)
    assert kept.get(bad.digest) is None


def test_two_threads_may_have_a_prompter_at_a_time(tmp_path: Path) -> None:
    """The second comes just when the first has put its own where one is kept."""
    kept = Prompters(BlockCache(tmp_path), kept=1)
    one, two = (block(byte_level("qwen2", **{"general.name": name})) for name in "ab")
    threads: list[Thread] = []

    class Disturbed(OrderedDict[Any, Any]):
        def __setitem__(self, digest: Any, prompter: Any) -> None:
            super().__setitem__(digest, prompter)
            if not threads:
                threads.append(Thread(target=kept.add, args=(two,)))
                threads[0].start()
                threads[0].join(1)

    kept._ready = Disturbed()
    kept.add(one)
    threads[0].join()
    assert list(kept._ready) == [two.digest]
