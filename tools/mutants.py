"""What the last ``mutmut run`` found: writes ``docs/mutants.md`` with the score of each module and every survivor.

A mutant is a small change to the code; it is killed when a test fails because of it. A survivor is a change that no
test of the selection in ``pyproject.toml`` notices.
"""

import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "mutants.md"
NOTICED = ("killed", "timeout", "caught by type check", "segfault")
_RESULT = re.compile(r"^\s+(\S+): (.+)$")
_TEXT = re.compile(r"""f?("[^"]*"|'[^']*')""")


def mutmut(*arguments: str) -> str:
    """What a command of mutmut prints. Raises ``CalledProcessError``."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def results() -> dict[str, str]:
    """Mutant → verdict, of all that were tried."""
    lines = (_RESULT.match(line) for line in mutmut("results", "--all", "true").splitlines())
    return {match[1]: match[2] for match in lines if match and match[2] != "not checked"}


def module_of(mutant: str) -> str:
    """``tirami.ledger.book.xǁBookǁadd__mutmut_3`` is of ``ledger.book``."""
    return mutant.rpartition(".")[0].removeprefix("tirami.")


def change(mutant: str) -> tuple[str, str]:
    """The lines taken out and put in."""
    lines = [line for line in mutmut("show", mutant).splitlines() if not line.startswith(("---", "+++"))]
    out, new = (" ⏎ ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return out, new


def is_wording(out: str, new: str) -> bool:
    """Whether only what stands between quotation marks differs."""
    return _TEXT.sub('""', out) == _TEXT.sub('""', new)


def measured() -> str:
    """The day of this run, and the commit whose code and tests were tried. Raises ``CalledProcessError``."""
    command = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    return f"{datetime.now(UTC):%Y-%m-%d}, commit {commit}"


def document(verdicts: dict[str, str], when: str) -> str:
    counts: dict[str, Counter[str]] = {}
    for mutant, verdict in verdicts.items():
        counts.setdefault(module_of(mutant), Counter())["noticed" if verdict in NOTICED else verdict] += 1
    lines = [
        "# Mutants",
        "",
        "Written by `make mutants`: small changes to the code of the modules below, and whether a test notices. What",
        "is not in the table was not tried in the last run. Neither was what changed after it:",
        f"`git log -p COMMIT.. -- src tests` of the commit below. Last run: {when}.",
        "",
        "| module | mutants | noticed | survived | no test | score |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    total: Counter[str] = Counter()
    for module, found in sorted(counts.items()):
        lines.append(_row(f"`{module}`", found))
        total += found
    lines.append(_row("all", total))
    survivors = {name: change(name) for name, verdict in verdicts.items() if verdict not in NOTICED}
    code = {name: lines for name, lines in survivors.items() if not is_wording(*lines)}
    words = {name: lines for name, lines in survivors.items() if name not in code}
    lines += _listed("Survivors", code)
    lines += _listed("Survivors that change only a text", words)
    return "\n".join(lines) + "\n"


def _row(name: str, found: Counter[str]) -> str:
    survived, untested = found["survived"] + found["suspicious"], found["no tests"]
    share = found["noticed"] / found.total()
    return f"| {name} | {found.total()} | {found['noticed']} | {survived} | {untested} | {share:.1%} |"


def _listed(title: str, survivors: dict[str, tuple[str, str]]) -> list[str]:
    if not survivors:
        return []
    lines = ["", f"## {title}", ""]
    for name, (out, new) in sorted(survivors.items()):
        lines += [f"- `{name.removeprefix('tirami.')}`", f"  - `{out}`", f"  - `{new}`"]
    return lines


def main() -> int:
    verdicts = results()
    if not verdicts:
        print("nothing was tried: run mutmut first", file=sys.stderr)
        return 1
    PAGE.write_text(document(verdicts, measured()))
    noticed = sum(verdict in NOTICED for verdict in verdicts.values())
    print(f"{noticed} of {len(verdicts)} mutants noticed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
