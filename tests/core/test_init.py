"""The public names of the room, pinned."""

import tirami.core


def test_public_names() -> None:
    assert sorted(tirami.core.__all__) == sorted(set(tirami.core.__all__))
    for name in tirami.core.__all__:
        assert getattr(tirami.core, name) is not None
    assert {"Config", "Keystore", "SigningKey", "TiramiError", "Trm", "load_config", "verify"} <= set(
        tirami.core.__all__
    )
