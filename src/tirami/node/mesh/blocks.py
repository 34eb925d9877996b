"""The tokenizer blocks this node can give to others (B10): of a model here, or one fetched before."""

from tirami.core.keys import Digest
from tirami.infer import BlockCache, MetadataBlock
from tirami.node.engines import EngineRoom


class Blocks:
    """Looks a block up by its SHA-256; one read out of a model file is kept."""

    def __init__(self, engines: EngineRoom, cache: BlockCache) -> None:
        self._engines = engines
        self._cache = cache

    def get(self, digest: Digest) -> bytes | None:
        """Reads files."""
        if (kept := self._cache.load(digest)) is not None:
            return kept.data
        for name, path in self._engines.loader.installed().items():
            place = self._engines.pool.places.get(name)
            card = place.engine.card if place and place.engine else None
            if card is not None and card.tokenizer_digest == digest:
                found = MetadataBlock.of_file(path)
                self._cache.store(found)
                return found.data
        return None
