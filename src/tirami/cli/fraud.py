"""How ``tirami verify`` shows a fraud proof."""

from rich.console import Console

from tirami.cli.terminal import fields
from tirami.verify import Verdict

ROLES = {"payer": "a payer", "issuer": "an issuer of lines", "log": "the keeper of a log"}


def facts(verdict: Verdict) -> dict[str, object]:
    return {
        "verified": True,
        "guilty": verdict.guilty.hex(),
        "role": verdict.role,
        "kind": verdict.kind,
        "offence": verdict.offence,
        "network": verdict.network,
        "records": len(verdict.records),
        "evidence_id": verdict.evidence_id.hex(),
    }


def show(console: Console, verdict: Verdict) -> None:
    found = {
        "Guilty": verdict.guilty.hex(),
        "As": ROLES[verdict.role],
        "Of": f"it {verdict.offence}",
        "Kind": verdict.kind,
        "Network": verdict.network,
        "Signed by it": f"all {len(verdict.records)} records of this file",
        "Evidence": verdict.evidence_id.hex(),
    }
    console.print("[bold red]Fraud proved[/]")
    fields(console, "", found)
    console.print("The key convicts itself: nothing is believed but its own signatures. Whose key it is is not shown.")
