"""How far the mission is: reads the last test run and writes ``build/status.json``.

A row is *passed* when all its tests passed and none proves only a part; *partial* when tests passed but at least one
is marked ``part=``; *failed* when any failed; *missing* when none ran.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "build" / "rows.json"
STATUS = ROOT / "build" / "status.json"
MISSION = ROOT / "docs" / "mission.md"
_ROW = re.compile(r"^\| ([A-Z0-9]+-\d+) \|")


def mission_rows() -> list[str]:
    """Ids of all promises, in the order of the mission table."""
    return [match[1] for line in MISSION.read_text().splitlines() if (match := _ROW.match(line))]


def verdict(outcomes: list[dict[str, str | None]]) -> str:
    """outcomes: {"outcome": passed | failed | skipped, "part": text or None} of every test of one row."""
    ran = [outcome for outcome in outcomes if outcome["outcome"] != "skipped"]
    if any(outcome["outcome"] == "failed" for outcome in ran):
        return "failed"
    if not ran:
        return "missing"
    return "partial" if len(ran) < len(outcomes) or any(outcome["part"] for outcome in ran) else "passed"


def _line(name: str, counts: Counter[str]) -> str:
    rest = f"partial {counts['partial']}  failed {counts['failed']}"
    return f"{name:5} {counts['passed']:3} / {counts.total():3}  {rest}"


def main() -> int:
    results = json.loads(ROWS.read_text()) if ROWS.exists() else {}
    status = {row: verdict(list(results.get(row, {}).values())) for row in mission_rows()}
    STATUS.parent.mkdir(exist_ok=True)
    STATUS.write_text(json.dumps(status, indent=1) + "\n")
    sections: dict[str, Counter[str]] = {}
    for row, state in status.items():
        sections.setdefault(row.rsplit("-", 1)[0], Counter())[state] += 1
    for section, counts in sections.items():
        print(_line(section, counts))
    total = Counter(status.values())
    print(_line("all", total))
    unknown = sorted(set(results) - set(status))
    if unknown:
        print(f"tests name rows that do not exist: {', '.join(unknown)}", file=sys.stderr)
    return 1 if unknown or total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
