"""``tirami key``: what it refuses before anything is written."""

import os
from pathlib import Path

import pytest

from tirami.api.schemas import KeyReply
from tirami.cli.key import _own
from tirami.core.errors import InvalidField
from tirami.core.keyfile import NEXT_KEY, NODE_KEY, load_or_create_node_key


def test_a_key_that_the_nodes_own_user_could_not_read_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root reads everything, and what it writes is its own."""
    node = load_or_create_node_key(tmp_path / NODE_KEY)[0].public_key.hex()
    now = KeyReply.model_construct(node_id=node)
    assert _own(tmp_path, now) == tmp_path / NEXT_KEY
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(InvalidField, match=f"sudo -u '#{owner}' tirami key rotate --data-dir {tmp_path}"):
        _own(tmp_path, now)
