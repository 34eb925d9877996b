"""The prompt of a payer without a model: from messages to the ids that it sends and pays for (PROTOCOL B10)."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Self

from tirami.core.errors import InvalidRequest
from tirami.core.keys import Digest
from tirami.core.units import TokenCount
from tirami.infer.chat import check, rendered
from tirami.infer.engine import Message, Prompt
from tirami.infer.metadata_block import BlockCache, MetadataBlock
from tirami.infer.rendering import RenderingProcesses
from tirami.infer.size import ModelSize
from tirami.infer.template import ChatTemplate
from tirami.infer.tokenizer import Tokenizer
from tirami.infer.tools import Tools


@dataclass(frozen=True, slots=True)
class Prompter:
    """Makes the same prompts as the engine of the model would.

    Attributes:
        tokenizer: cuts the rendered text; control tokens in it are read wherever they stand, as llama.cpp does.
        template: renders.
        size: of the model, as its block has it.
    """

    tokenizer: Tokenizer
    template: ChatTemplate
    size: ModelSize

    @classmethod
    def from_block(cls, block: MetadataBlock, processes: RenderingProcesses) -> Self:
        """Blocking: a second. Raises ``TokenizerError``."""
        tokenizer = Tokenizer.from_block(block)
        template = ChatTemplate(block.template, bos=tokenizer.bos, eos=tokenizer.eos, processes=processes)
        return cls(tokenizer, template, ModelSize.of(block.header))

    async def prepare(self, messages: Sequence[Message], tools: Tools | None = None) -> Prompt:
        """The prompt of a chat.

        Raises:
            InvalidRequest: no messages, one without role, or some that the template refuses.
            TokenizerError: the template is broken or takes too much.
        """
        check(messages)
        async with self.template.renderer() as render:
            text = self._unframed(await rendered(render, messages, tools))
        return self._prompt(text, messages, tools)

    def prepare_text(self, text: str) -> Prompt:
        """The prompt of a plain text. Raises ``InvalidRequest`` for an empty one."""
        return self._prompt(text, (), None)

    def _prompt(self, text: str, messages: Sequence[Message], tools: Tools | None) -> Prompt:
        ids = self.tokenizer.encode(text, special=True)
        if not ids:
            raise InvalidRequest("the prompt is empty", param="messages" if messages else "prompt")
        return Prompt(ids, TokenCount(len(ids)), True, text, messages, tools)

    def _unframed(self, text: str) -> str:
        """Without the tokens that a template wrote and the tokenizer adds again; llama.cpp takes them off, too."""
        if self.tokenizer.adds_bos:
            text = text.removeprefix(self.tokenizer.bos)
        return text.removesuffix(self.tokenizer.eos) if self.tokenizer.adds_eos else text


class Prompters:
    """Prompters by the digest of their block: those last used in memory, the blocks of more on disk.

    :meth:`aclose` ends the processes that wait for further prompts; all else may be called from several threads.

    Args:
        blocks: the disk.
        kept: how many stay in memory; one takes 35 to 60 MB.
    """

    def __init__(self, blocks: BlockCache, kept: int = 4) -> None:
        self._blocks = blocks
        self._processes = RenderingProcesses()
        self._kept = kept
        self._ready: OrderedDict[Digest, Prompter] = OrderedDict()
        self._changing = Lock()
        """Around what changes ``_ready``: what one thread has just put there another may put out."""

    async def aclose(self) -> None:
        await self._processes.aclose()

    def get(self, digest: Digest) -> Prompter | None:
        """The one of ``digest``; ``None`` when its block has to be fetched from a peer first, and then given to
        :meth:`add`. Blocking: a second unless in memory. Raises ``TokenizerError``."""
        if (ready := self._ready.get(digest)) is not None:
            return self._keep(digest, ready)
        block = self._blocks.load(digest)
        return None if block is None else self._keep(digest, Prompter.from_block(block, self._processes))

    def add(self, block: MetadataBlock) -> Prompter:
        """The one of a block that was fetched or is of a model at hand; kept only if it works.

        Blocking: a second. Raises ``TokenizerError``.
        """
        prompter = Prompter.from_block(block, self._processes)
        self._blocks.store(block)
        return self._keep(block.digest, prompter)

    def _keep(self, digest: Digest, prompter: Prompter) -> Prompter:
        with self._changing:
            self._ready[digest] = prompter
            self._ready.move_to_end(digest)
            while len(self._ready) > self._kept:
                self._ready.popitem(last=False)
        return prompter
