"""Lines that tokenizers trip over: code, scripts, emoji, runs of white space, controls, marks written out."""

import random

from tests.infer.blocks import repository_lines

SCRAPS = (
    "猫", "日本語", "한국어", "ไทย", "עברית", "العربية", " ", "  ", "\t", "\n", "\n\n", "\r\n",
    "   ", "🦊", "👩‍👩‍👧‍👦", "é", "e\u0301",
    "'s", "'LL", "'Re", " don't", "123", "4", "٣", "½", "Ⅷ", "\u00a0", "\u3000", "\u200b", "\ufeff", "\x00", "\x01",
    "\x1c", "\x85", "\x7f", "<", "|", "<|im_end|>", "<bos>", "</s>", "ÿ", "ﷺ", "𝔘", "\U0001faf8", "\ue000", "word",
    " word",
    "Hello", "==", "!!", "...", "_", "\u2028", "x = {'a': [1, 2]}", "\n    return", "\n\n\n", "\t\t\t",
)  # fmt: skip


def mixed_lines(count: int, seed: int = 7) -> list[str]:
    """Half of the repository's own lines, half scraps joined at random; never empty, all different."""
    chance = random.Random(seed)
    lines = dict.fromkeys(line for line in repository_lines() if line)
    own = chance.sample(list(lines), count // 2)
    joined = {"".join(chance.choices(SCRAPS, k=chance.randint(1, 25))) for _ in range(count)}
    return [*own, *sorted(joined)[: count - len(own)]]
