"""The chat template of a metadata block, rendered as a payer renders it: in a process of its own, within bounds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tirami.infer.chat import Renderer
from tirami.infer.rendering import RenderingProcesses, Source

CHATML: Final = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}"
    "{%- endfor -%}"
    "{{- '<|im_start|>assistant\n' -}}"
)
"""What llama.cpp takes for a model without a template."""


class ChatTemplate:
    """A template and what it may mention.

    Args:
        source: jinja; empty for :data:`CHATML`.
        bos, eos: texts of the tokens that begin and end a text.
        processes: where it is rendered.
    """

    def __init__(self, source: str, *, bos: str, eos: str, processes: RenderingProcesses) -> None:
        self._source = Source(source or CHATML, bos, eos)
        self._processes = processes

    @asynccontextmanager
    async def renderer(self) -> AsyncIterator[Renderer]:
        """For the renderings of one prompt. The prompt for an answer (``add_generation_prompt``) is always added.

        Raises what :meth:`~tirami.infer.rendering.RenderingProcesses.lent` and the renderings do.
        """
        async with self._processes.lent(self._source) as process:
            yield process.render
