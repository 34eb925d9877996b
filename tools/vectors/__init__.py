"""The protocol's test vectors and the generated parts of its documents: ``python -m tools.vectors`` writes them.

Everything comes from fixed seeds (``tests/proto/samples.py``), so a second run writes the same bytes. One module a
document has its ``vectors`` and its ``example``. Byte strings are lowercase hex; an integer JSON cannot hold (beyond
±(2⁵³ − 1)) is decimal text.
"""
