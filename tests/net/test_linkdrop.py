"""A link that goes down and comes back: two nodes in two network namespaces, joined by a veth pair."""

import json
import shutil
import subprocess
import sys

import pytest

can_unshare = (
    shutil.which("unshare") is not None
    and shutil.which("ip") is not None
    and subprocess.run(["unshare", "-rn", "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0
)


@pytest.mark.skipif(not can_unshare, reason="this machine lets nobody make a network namespace")
def test_an_answer_within_5_seconds_after_the_link_is_back() -> None:
    command = ["unshare", "-rn", sys.executable, "-m", "tests.net.linkdrop", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["back_s"] < 5, figures
