"""Ids of tokens that the engine's server counted but did not name.

Measured: of a stream full of CJK and emoji the server names about half the ids, because a token that ends
inside a character is sent merged with the next one and only the last id comes along.
"""

from tirami.infer.llama import LlamaClient
from tirami.infer.vocabulary import Fragments


class IdRecovery:
    """Finds the ids behind a merged piece of text, or says that they are not known.

    A single split of the bytes into withheld tokens is proof. Where several exist, or the tokenizer is not
    understood, the tokenizer's own cut is taken if it agrees in count and last id.
    """

    def __init__(self, client: LlamaClient, fragments: Fragments) -> None:
        self._client = client
        self._fragments = fragments

    async def recover(self, text: str, last: int, count: int) -> tuple[int, ...] | None:
        """The ``count`` ids of which ``last`` is the last and which together read ``text``; ``None`` if unknown."""
        splits = self._fragments.splits(text.encode(), last, count)
        if len(splits) == 1:
            return splits[0]
        if self._fragments and not splits:
            return None
        cut = await self._client.tokenize(text, whole_prompt=False)
        return cut if len(cut) == count and cut[-1] == last else None
