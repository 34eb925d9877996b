"""The public names of the room, pinned."""

import tirami.infer


def test_public_names() -> None:
    assert tirami.infer.__all__ == [
        "ANY_OBJECT",
        "CATALOGUE",
        "CallDelta",
        "CallReader",
        "ChildEngine",
        "Chunk",
        "CountedBy",
        "DigestBook",
        "Engine",
        "EngineStatus",
        "FinishReason",
        "Generation",
        "Header",
        "LocalModel",
        "Message",
        "ModelCard",
        "Progress",
        "Prompt",
        "Reading",
        "Sampling",
        "Shaping",
        "Source",
        "SourceKind",
        "TextDelta",
        "TokenLogprob",
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
    ]
    for name in tirami.infer.__all__:
        assert getattr(tirami.infer, name) is not None
