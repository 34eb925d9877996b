"""The vocabulary of a tokenizer as llama.cpp reads it: which tokens there are, what each stands for, which are marks.

Follows ``llama_vocab::impl::load`` and ``token_to_piece`` of llama.cpp, whose ids and texts a provider sends.
"""

from collections.abc import Sequence
from typing import Final

from tirami.core.errors import TokenizerError
from tirami.infer.gguf import Header
from tirami.infer.vocabulary import from_byte_level, from_hexadecimal

MAX_TOKENS: Final = 1 << 19
"""Twice the largest vocabulary in use. An id costs a hostile block 8 bytes and us 200."""
MAX_TOKEN_CHARACTERS: Final = 1024
SPACE: Final = "▁"
"""How SentencePiece writes a space."""
BYTE_LEVEL, SENTENCE_PIECE = "gpt2", "llama"
UNKNOWN, CONTROL, USER_DEFINED, BYTE, NORMAL = 2, 3, 4, 6, 1
_SILENT: Final = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
    "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
    "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~[",
    "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>",
    "<|prefix|>", "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
    "<|code_suffix|>", "<|suffix|>", "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>",
    "▁<MID>", "<|code_middle|>", "<|middle|>", "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]",
    "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>",
}  # fmt: skip
"""Texts that llama.cpp takes for control tokens whatever the file says."""
_SHOWN: Final = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"}
"""Texts that llama.cpp always shows."""


class Lexicon:
    """Tokens by id and ids by token.

    Args:
        header: of a metadata block.

    Attributes:
        model: ``BYTE_LEVEL`` or ``SENTENCE_PIECE``.
        texts: each token as the vocabulary writes it, by id.
        kinds: each token's type in GGUF's numbers, after llama.cpp's corrections, by id.
        ids: id by text.
        bos, eos: the tokens that begin and end a text; ``None`` where there is none.

    Raises:
        TokenizerError: of another model, without a vocabulary, or with one that is too large or contradicts itself.
    """

    def __init__(self, header: Header) -> None:
        self.model = header.text("tokenizer.ggml.model")
        if self.model not in (BYTE_LEVEL, SENTENCE_PIECE):
            raise TokenizerError(
                f"the model's tokenizer is of the kind {self.model[:40]!r}, which this node cannot check: not bought"
            )
        self.texts = texts(header, "tokenizer.ggml.tokens", MAX_TOKENS)
        self.ids = {text: number for number, text in enumerate(self.texts)}
        if not self.texts or len(self.ids) != len(self.texts):
            raise TokenizerError("the model's vocabulary is empty or has a token twice")
        self.kinds = self._kinds(numbers(header, "tokenizer.ggml.token_type"))
        self.bos = self._special(header, "bos", 11 if self.model == BYTE_LEVEL else 1)
        self.eos = self._special(header, "eos", 11 if self.model == BYTE_LEVEL else 2)

    def __len__(self) -> int:
        return len(self.texts)

    def piece(self, number: int) -> bytes:
        """The bytes that token ``number`` adds to an answer; control tokens add none. Raises ``TokenizerError``."""
        if not 0 <= number < len(self.texts):
            raise TokenizerError(f"the model has no token {number}")
        text, kind = self.texts[number], self.kinds[number]
        if kind == USER_DEFINED:
            return text.encode()
        if kind == BYTE:
            return from_hexadecimal(text.encode())
        if kind != NORMAL:
            return b""
        return from_byte_level(text.encode()) if self.model == BYTE_LEVEL else text.replace(SPACE, " ").encode()

    def marks(self, *, control: bool) -> dict[str, int]:
        """Tokens that are cut out of a text before anything else: user-defined and, if asked for, control ones."""
        cut = (USER_DEFINED, CONTROL, UNKNOWN) if control else (USER_DEFINED,)
        return {
            text: number for number, (text, kind) in enumerate(zip(self.texts, self.kinds, strict=True)) if kind in cut
        }

    def _kinds(self, told: Sequence[float]) -> bytearray:
        if told and len(told) < len(self.texts):
            raise TokenizerError("the model's vocabulary does not tell the type of every token")
        known = (UNKNOWN, CONTROL, USER_DEFINED, BYTE, NORMAL)
        kinds = bytearray(int(kind) if kind in known else 0 for kind in told[: len(self.texts)])
        kinds = kinds or bytearray([NORMAL]) * len(self.texts)
        for named, kind in ((_SILENT, CONTROL), (_SHOWN, USER_DEFINED)):
            for text in named & self.ids.keys():
                kinds[self.ids[text]] = kind
        return kinds

    def _special(self, header: Header, name: str, default: int) -> int | None:
        default_or_none = default if default < len(self.texts) else None
        told = header.values.get(f"tokenizer.ggml.{name}_token_id")
        return told if type(told) is int and 0 <= told < len(self.texts) else default_or_none


def texts(header: Header, key: str, limit: int) -> list[str]:
    """The texts under ``key``. Raises ``TokenizerError`` for more than ``limit``, long ones, and what is no UTF-8."""
    span = header.arrays.get(key)
    if span is not None and span.count > limit:
        raise TokenizerError(f"the model's tokenizer has {span.count} entries in {key}; at most {limit} are read")
    try:
        found = [text.decode() for text in header.strings(key)]
    except UnicodeDecodeError:
        raise TokenizerError(f"the model's tokenizer has an entry in {key} that is not UTF-8") from None
    if any(len(text) > MAX_TOKEN_CHARACTERS for text in found):
        raise TokenizerError(f"the model's tokenizer has an entry in {key} of over {MAX_TOKEN_CHARACTERS} characters")
    return [text or f"[EMPTY_{number}]" for number, text in enumerate(found)]


def numbers(header: Header, key: str) -> tuple[float, ...]:
    """The numbers under ``key``, one a token. Raises ``TokenizerError`` for more than any vocabulary has."""
    span = header.arrays.get(key)
    if span is not None and span.count > MAX_TOKENS:
        raise TokenizerError(f"the model's tokenizer has {span.count} entries in {key}; at most {MAX_TOKENS} are read")
    return header.numbers(key)
