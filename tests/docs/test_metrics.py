"""``docs/metrics.md`` lists exactly what a scrape has: name, type, labels."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.node.conftest import Door, door

__all__ = ["door"]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
LINE = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.+) \|$", re.MULTILINE)
WITHOUT_SERIES = "tirami_collusion_"


async def test_the_page_lists_what_a_scrape_has(door: Door) -> None:
    _, token = await door.agent()
    await door.call("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}, token=token)
    async with door.http.get(door.url + "/metrics") as reply:
        text = await reply.text()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    listed = LINE.findall(PAGE.read_text())
    assert {name: kind for name, kind, _, _ in listed} == types
    assert len(listed) == len(types), "each name once"
    labels = {name: set(re.findall(r"`(\w+)`", cell)) for name, _, cell, _ in listed}
    seen = labels_of(text)
    assert {name: of for name, of in labels.items() if not name.startswith(WITHOUT_SERIES)} == seen
    assert all(of == {"node_id"} for name, of in labels.items() if name.startswith(WITHOUT_SERIES))


def labels_of(text: str) -> dict[str, set[str]]:
    """Label names by name, of all that has series; the bounds of a histogram are not counted."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = re.sub("_(bucket|sum|count)$", "", sample.name) if family.type == "histogram" else sample.name
            found.setdefault(name, set()).update(set(sample.labels) - {"le"})
    return found
