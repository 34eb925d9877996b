"""Three hosts in network namespaces: real processes, QUIC, the small model (issue 4, acceptance 2)."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.hosts import ACCOUNTS, WINDOW_TRM
from tirami.infer import resolve

pytestmark = [pytest.mark.soak, pytest.mark.model]
PROBE = "mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && ip netns add probe && ip link add br0 type bridge"
can_play = (
    shutil.which("unshare") is not None
    and shutil.which("ip") is not None
    and subprocess.run(["unshare", "-rnm", "sh", "-c", PROBE], capture_output=True).returncode == 0
)


@pytest.mark.timeout(600)
@pytest.mark.skipif(not can_play, reason="this machine lets nobody make network namespaces and a bridge between them")
def test_a_provider_is_cut_off_in_the_middle_and_all_books_are_equal_afterwards(tmp_path: Path) -> None:
    models = resolve("smollm2:135m").path.parent
    command = ["unshare", "-rnm", sys.executable, "-m", "tests.soak.hosts", str(tmp_path), str(models)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr[-5000:]
    print(f"three hosts, QUIC over veth: {done.stdout}")
    figures = json.loads(done.stdout)
    assert figures["noticed_s"] <= 5
    assert figures["healed_s"] < 60
    assert figures["relayed_s"] < 5, "one hop more is no reason to wait"
    assert figures["brought"] >= 4 * ACCOUNTS
    assert figures["packets_each"] < 20 and figures["bytes_each"] < 5_000, "with heads, heartbeats and what QUIC adds"
    assert figures["rejoined_s"] < 60, "a partition along another cut heals like the first"
    assert 0 < figures["paid_trm"] <= figures["shown_as_owed"], "at most what the payer signed"
    assert figures["paid_tokens"] <= figures["received"], "at most what it received"
    lost = figures["received"] - figures["paid_tokens"]
    assert lost <= WINDOW_TRM, "the provider loses at most one window of a stranger"
    assert len({tuple(book) for book in figures["books"]}) == 1
    assert len({tuple(nets) for nets in figures["nets"].values()}) == 1
