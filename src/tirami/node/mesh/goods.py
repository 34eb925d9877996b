"""What is on offer, held against what this node knows itself: which file a name stands for, how large a model is."""

from collections import OrderedDict
from pathlib import Path
from typing import Final

from tirami.core.keys import Digest
from tirami.infer import ModelSize, Pins, known_digests
from tirami.proto import Offering

KEPT: Final = 256
"""Models whose size is remembered."""


class Goods:
    """Knows the catalogue and the models whose metadata was read.

    Args:
        pins: file of the digests learnt at first downloads.
    """

    def __init__(self, pins: Path) -> None:
        self._pins = Pins(pins)
        self._sizes: OrderedDict[bytes, ModelSize] = OrderedDict()

    def learn(self, tokenizer_digest: Digest, size: ModelSize) -> None:
        """The metadata block of this digest was read."""
        self._sizes[tokenizer_digest] = size
        self._sizes.move_to_end(tokenizer_digest)
        while len(self._sizes) > KEPT:
            self._sizes.popitem(last=False)

    def fault(self, offering: Offering) -> str | None:
        """What is wrong with an offering, as far as this node can tell; ``None`` for nothing.

        Raises ``ModelLoadError`` when the pins cannot be read.
        """
        digests = known_digests(offering.name, self._pins)
        if digests is not None and offering.model_digest not in digests:
            return f"its {offering.name} is not the file that name stands for"
        size = self._sizes.get(offering.tokenizer_digest)
        field = size.contradicted(offering) if size is not None else None
        return None if field is None else f"its {offering.name} is not of the size it says: {field}"
