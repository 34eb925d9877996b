"""Every generated file: the vectors, and the documents with their tables and examples."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from tools.vectors import (
    book,
    canonical,
    fraud,
    hashes,
    journal,
    keys,
    log,
    market,
    network,
    receipts,
    reconciliation,
    records,
    settlement,
    wire,
)
from tools.vectors.case import Case
from tools.vectors.tables import filled

DOCS = Path(__file__).resolve().parents[2] / "docs" / "protocol"


VECTORS: Mapping[str, tuple[str, Callable[[], Case]]] = {
    "tip-01": ("Canonical bytes", canonical.vectors),
    "tip-02": ("Keys and signatures", keys.vectors),
    "tip-03": ("Records of a paid answer", records.vectors),
    "tip-04": ("Running hash and prompt hash", hashes.vectors),
    "tip-05": ("Log, heads and proofs", log.vectors),
    "tip-06": ("Receipts", receipts.vectors),
    "tip-07": ("The book", book.vectors),
    "tip-08": ("The network file", network.vectors),
    "tip-09": ("The journal", journal.vectors),
    "tip-10": ("Settlement statements and anchors", settlement.vectors),
    "tip-11": ("Fraud proofs", fraud.vectors),
    "tip-12": ("Reconciliation", reconciliation.vectors),
    "tip-13": ("Between nodes", wire.vectors),
    "tip-14": ("Signals, observations, choice", market.vectors),
}


EXAMPLES: Mapping[str, Callable[[], list[str]]] = {
    "bytes": canonical.example,
    "signature": keys.example,
    "bill": records.example,
    "hashes": hashes.example,
    "log": log.example,
    "receipt": receipts.example,
    "book": book.example,
    "network": network.example,
    "journal": journal.example,
    "settlement": settlement.example,
    "fraud": fraud.example,
    "reconciliation": reconciliation.example,
    "frames": wire.example,
    "messages": wire.messages,
    "choice": market.example,
}


def rendered() -> dict[Path, bytes]:
    """Every generated file and document, as it must stand on disk."""
    files: dict[Path, bytes] = {}
    for name, (title, make) in VECTORS.items():
        document = {"format": "tirami/1/vectors", "tip": int(name[-2:]), "title": title} | make()
        text = json.dumps(document, indent=1, ensure_ascii=False)
        files[DOCS / "vectors" / f"{name}.json"] = text.encode() + b"\n"
    for path in sorted(DOCS.glob("TIP-*.md")):
        files[path] = filled(path.read_text(encoding="utf-8"), EXAMPLES).encode()
    return files
