"""A stolen key, from outside: once rotated, it buys its thief nothing; what it signed before stays good (A-31)."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import NodeProcess
from tests.rows.mesh import address_of, eventually, network, seed, worker
from tests.rows.test_finding import said, tirami
from tests.rows.test_keys import asked
from tests.rows.test_mesh import MODEL, TIRAMI, sees_offer
from tests.rows.test_saf import chat
from tirami.api.schemas import ChatCompletionRequest
from tirami.core.errors import EngineFailed
from tirami.sdk import Tirami


def buy(client: Tirami) -> str:
    """An answer; the id of its trade."""
    body = chat("Say hello.", 8).model_dump(exclude_unset=True) | {"model": MODEL}
    paid = client.chat_completions(ChatCompletionRequest.model_validate(body)).x_tirami
    assert paid.trade_id is not None
    return paid.trade_id


def bought(node: NodeProcess) -> str:
    eventually(lambda: sees_offer(node))
    with node.client() as client:
        return buy(client)


def receipt(node: NodeProcess, trade: str, out: Path) -> Path:
    done = tirami(node, "receipt", trade, "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out


def verified(file: Path, *trusted: str) -> bool:
    """By somebody who has neither node nor data directory."""
    named = [part for key in trusted for part in ("--trust", key)]
    done = subprocess.run([*TIRAMI, "verify", str(file), "--json", *named], capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 3), done.stderr
    return done.returncode == 0 and json.loads(done.stdout)["verified"] is True


def in_book(node: NodeProcess) -> set[str]:
    with node.admin() as admin:
        assert admin.log_state().sum_of_accounts == 0
        return {trade.id for trade in admin.trades().trades}


@pytest.mark.row("BEY-15", part="key rotation")
@pytest.mark.model
@pytest.mark.timeout(300)
def test_a_thief_buys_nothing_with_a_key_that_was_rotated_and_old_receipts_stay_good(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    file, keys = network(tmp_path, "seller", "old", "new")
    with seed(tmp_path / "seller", file, "-m", MODEL) as seller:
        at = address_of(seller)
        with worker(tmp_path / "old", file, at) as old:
            trade = bought(old)
            eventually(lambda: in_book(seller) == {trade})
            receipts = [receipt(old, trade, tmp_path / "before.json")]
            assert old.stop() == 0
            shutil.copytree(old.data_dir, tmp_path / "thief")
            old.start()
            eventually(lambda: sees_offer(old))
            ended = asked(old, "key", "rotate", str(tmp_path / "new"), "--yes")
            assert (ended["node_id"], ended["successor"], ended["peers"]) == (keys["old"], keys["new"], 1)
            eventually(lambda: said(seller, "key_ended", key=keys["old"]))
            ordered, heard = (said(node, "key_ended", key=keys["old"]) for node in (old, seller))
            assert ordered is not None and heard is not None
        known = asked(seller, "key", "show", keys["old"])
        assert (known["ended"], known["acts_now"]) == (True, keys["new"])
        with worker(tmp_path / "thief", file, at, program="tests.rows.deaf_node") as thief:
            assert asked(thief, "key", "show")["ended"] is False, "it does not want to hear of it"
            with pytest.raises(EngineFailed, match="this key was rotated or revoked"):  # so says the seller
                bought(thief)
            assert in_book(seller) == in_book(thief) == {trade}, "nothing was booked, at neither"
        with worker(tmp_path / "new", file, at) as new:
            follows = bought(new)
            eventually(lambda: in_book(seller) == {trade, follows})
        receipts.append(receipt(seller, trade, tmp_path / "after.json"))
    figure = f"two processes, QUIC on loopback: the second node knew of the rotation {heard - ordered:.3f} s after it"
    print(figure)
    record_property("figure", figure)
    assert heard - ordered < 5
    assert all(verified(each, keys["seller"], keys["old"]) for each in receipts), "no node is left to be asked"
    assert not verified(receipts[0], keys["new"]), "the successor has not signed it"
