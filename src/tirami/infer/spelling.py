"""How a piece of text without marks becomes token ids: byte-level BPE and SentencePiece, as llama.cpp does them.

BPE is left to the ``tokenizers`` library, with the pre-tokenizers that llama.cpp names (``llm_tokenizer_bpe``). Its way
to do SentencePiece, merges made from the vocabulary, takes 7 s and 320 MB for gemma's 262 144 tokens, and ties are
broken differently; llama.cpp's own algorithm needs the vocabulary alone.
"""

import heapq
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, Protocol

from tirami.core.errors import TokenizerError
from tirami.infer.gguf import Header
from tirami.infer.lexicon import SPACE, Lexicon, numbers, texts

MAX_MERGES: Final = 1 << 19
"""Known models have up to 446 000. The library builds them without letting other threads run: 100 000 in 0.3 s."""
_GPT2: Final = (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",)
_SINGLE_DIGITS: Final = (r"\p{N}", *_GPT2)
_CONTRACTIONS: Final = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_MODERN: Final = _CONTRACTIONS + (
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{NUMBERS}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3: Final = (_MODERN.replace("{NUMBERS}", "{1,3}"),)
_QWEN2: Final = (_MODERN.replace("{NUMBERS}", ""),)
PRETOKENIZERS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "exaone4", "gigachat", "mellum", "a.x-4.0"), _GPT2),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _SINGLE_DIGITS
    ),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "dbrx", "smaug-bpe"),
        _LLAMA3,
    ),
    **dict.fromkeys(("chatglm-bpe", "glm4"), _LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2", "megrez"), _QWEN2),
}
"""Patterns by ``tokenizer.ggml.pre``; the matches of one are cut by the next. All end a word before a single space."""
WHOLE_WORDS: Final = frozenset(
    ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2")
)
"""Pre-tokenizers whose models take a word that is a token as it is; they also begin every prompt with ``bos``."""
_KEPT_WORDS: Final = 1 << 14
_KEPT_LENGTH: Final = 32


class Spelling(Protocol):
    """From text to ids; never fails for text that is valid Unicode. Safe to share between threads."""

    def spell(self, text: str) -> list[int]: ...


class BytePairs:
    """Byte-level BPE.

    Raises:
        TokenizerError: an unknown pre-tokenizer, or merges that do not fit the vocabulary.
    """

    def __init__(self, header: Header, lexicon: Lexicon) -> None:
        from tokenizers import Regex, Tokenizer
        from tokenizers.models import BPE
        from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

        named = header.text("tokenizer.ggml.pre")
        patterns = PRETOKENIZERS.get(named)
        if patterns is None:
            raise TokenizerError(
                f"the model's pre-tokenizer {named[:40]!r} is unknown, so it cannot be checked: not bought"
            )
        merges = [_pair(merge) for merge in texts(header, "tokenizer.ggml.merges", MAX_MERGES)]
        try:
            model = BPE(lexicon.ids, merges, ignore_merges=named in WHOLE_WORDS)
        except Exception as error:
            raise TokenizerError(f"the model's merges do not fit its vocabulary: {str(error)[:100]}") from None
        self._tokenizer = Tokenizer(model)
        splits = [Split(Regex(pattern), "isolated") for pattern in patterns]
        self._tokenizer.pre_tokenizer = Sequence([*splits, ByteLevel(add_prefix_space=False, use_regex=False)])

    def spell(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


class Pieces:
    """SentencePiece's BPE: of all neighbours that together are a token, those with the highest score are joined first.

    A text is cut before its spaces where no token crosses such a place, which changes nothing and keeps words short.
    """

    def __init__(self, header: Header, lexicon: Lexicon) -> None:
        scores = numbers(header, "tokenizer.ggml.scores")
        if scores and len(scores) < len(lexicon):
            raise TokenizerError("the model's vocabulary does not score every token")
        self._ids = lexicon.ids
        self._scores: Sequence[float] = scores or (0.0,) * len(lexicon)
        self._bytes = [self._byte(byte) for byte in range(256)]
        self.before_space = {
            one for text in lexicon.texts if SPACE in text for one, other in pairwise(text) if other == SPACE
        } | {SPACE}
        """What may stand before a space inside a token."""
        self._words: dict[str, list[int]] = {}

    def spell(self, text: str) -> list[int]:
        text = text.replace(" ", SPACE)
        ids: list[int] = []
        start = 0
        while start < len(text):
            end = text.find(SPACE, start + 1)
            while end > 0 and text[end - 1] in self.before_space:
                end = text.find(SPACE, end + 1)
            end = end if end > 0 else len(text)
            ids += self._word(text[start:end])
            start = end
        return ids

    def _word(self, word: str) -> list[int]:
        known = self._words.get(word)
        if known is not None:
            return known
        ids = self._joined(list(word))
        if len(word) <= _KEPT_LENGTH:
            if len(self._words) >= _KEPT_WORDS:
                self._words = {}
            self._words[word] = ids
        return ids

    def _joined(self, symbols: list[str]) -> list[int]:
        """llama.cpp's ``llm_tokenizer_spm_session``: a joined symbol leaves an empty one behind."""
        after = [*range(1, len(symbols)), -1]
        before = list(range(-1, len(symbols) - 1))
        queue: list[tuple[float, int, int, str]] = []

        def offer(left: int, right: int) -> None:
            if left >= 0 and right >= 0:
                both = symbols[left] + symbols[right]
                if (number := self._ids.get(both)) is not None:
                    heapq.heappush(queue, (-self._scores[number], left, right, both))

        for right in range(1, len(symbols)):
            offer(right - 1, right)
        while queue:
            _, left, right, both = heapq.heappop(queue)
            if not symbols[left] or not symbols[right] or symbols[left] + symbols[right] != both:
                continue
            symbols[left], symbols[right] = both, ""
            after[left] = after[right]
            if after[left] >= 0:
                before[after[left]] = left
            offer(before[left], left)
            offer(left, after[left])
        return [number for symbol in symbols if symbol for number in self._written(symbol)]

    def _written(self, symbol: str) -> list[int]:
        number = self._ids.get(symbol)
        return [number] if number is not None else [self._bytes[byte] for byte in symbol.encode()]

    def _byte(self, byte: int) -> int:
        number = self._ids.get(f"<0x{byte:02X}>")
        if number is None:
            number = self._ids.get(chr(byte)) if byte < 0x80 else None
        if number is None:
            raise TokenizerError(f"the model's vocabulary has no token for byte {byte}")
        return number


def _pair(merge: str) -> tuple[str, str]:
    cut = merge.find(" ", 1)
    if cut < 0:
        raise TokenizerError("the model's tokenizer has a merge that is no pair")
    return merge[:cut], merge[cut + 1 :]
