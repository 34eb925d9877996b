"""``tirami legal``: the text, whole, without a node."""

from tests.cli.running import Shell
from tirami.api.legal import DISCLAIMER, TITLE


def test_the_whole_text_without_a_node(nowhere: Shell) -> None:
    ended = nowhere.run("legal")
    assert (ended.code, ended.out, ended.err) == (0, f"{TITLE}\n\n{DISCLAIMER}\n", "")
    assert nowhere.run("legal", "--json").json == {"title": TITLE, "disclaimer": DISCLAIMER}
