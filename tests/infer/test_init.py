"""The public names of the room, pinned."""

import tirami.infer


def test_public_names() -> None:
    assert tirami.infer.__all__ == [
        "ANY_OBJECT",
        "CATALOGUE",
        "MAX_BLOCK_BYTES",
        "BlockCache",
        "CallDelta",
        "CallReader",
        "ChildEngine",
        "Chunk",
        "Count",
        "CountedBy",
        "DigestBook",
        "Engine",
        "EngineStatus",
        "FinishReason",
        "Generation",
        "Header",
        "LocalModel",
        "Message",
        "MetadataBlock",
        "ModelCard",
        "Progress",
        "Prompt",
        "Prompter",
        "Prompters",
        "Reading",
        "Sampling",
        "Shaping",
        "Source",
        "SourceKind",
        "TextDelta",
        "TokenLogprob",
        "Tokenizer",
        "Tools",
        "UpstreamEngine",
        "available",
        "default_models_dir",
        "flop",
        "installed",
        "memory_bytes",
        "pinned",
        "read_card",
        "remove",
        "resolve",
        "unrendered",
    ]
    for name in tirami.infer.__all__:
        assert getattr(tirami.infer, name) is not None
