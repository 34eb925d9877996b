"""``tirami earnings``: what this node was paid, by day, payer and model."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tirami.api.schemas import EarningsEntry, EarningsQuery, EarningsReply
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal

SUMMED = ("requests", "prompt_tokens", "completion_tokens", "trm")


class By(StrEnum):
    """What a line of the table is about."""

    DAY = "day"
    PEER = "peer"
    MODEL = "model"


def earnings(
    days: Annotated[int, typer.Option(min=1, max=400, help="How many days back, today included.")] = 30,
    by: Annotated[By | None, typer.Option(help="Sum up by one of the three; every row if absent.")] = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """What strangers and hosted accounts paid this node; own use earns nothing."""
    with connect(url, token, data_dir, admin=True) as client:
        reply = client.earnings(EarningsQuery(days=days))
    facts = reply.model_dump()
    if by is not None:
        facts["rows"] = _rows(reply, by)
    Terminal(json_output).show(facts, lambda console: _show(console, reply, by))


def _rows(reply: EarningsReply, by: By) -> list[dict[str, object]]:
    """One a day, payer or model, its sums under the names that a row of the reply has."""
    kept = {By.DAY: ("day",), By.PEER: ("payer", "hosted"), By.MODEL: ("model", "model_digest")}[by]
    sums: dict[tuple[object, ...], dict[str, int]] = {}
    for row in reply.rows:
        total = sums.setdefault(tuple(getattr(row, name) for name in kept), dict.fromkeys(SUMMED, 0))
        for name in SUMMED:
            total[name] += getattr(row, name)
    return [dict(zip(kept, names, strict=True)) | total for names, total in sums.items()]


def _show(console: Console, reply: EarningsReply, by: By | None) -> None:
    console.print(f"{reply.trm} TRM for {reply.requests} answers")
    for owing in reply.unpaid:
        then = ", and is refused" if owing.refused else ""
        console.print(f"{owing.payer[:16]} left {owing.trm} TRM of {owing.sessions} answers unpaid in 24 hours{then}")
    sums: dict[tuple[str, ...], list[int]] = {}
    for row in reply.rows:
        total = sums.setdefault(_names(row, by), [0, 0, 0])
        for index, amount in enumerate((row.requests, row.completion_tokens, row.trm)):
            total[index] += amount
    if not sums:
        return
    table = Table(box=None, pad_edge=False)
    for title in (by.value,) if by else ("day", "peer", "model"):
        table.add_column(title)
    for title in ("answers", "tokens", "TRM"):
        table.add_column(title, justify="right")
    for names, total in sums.items():
        table.add_row(*map(escape, names), *map(str, total))
    console.print(table)


def _names(row: EarningsEntry, by: By | None) -> tuple[str, ...]:
    payer = "others" if row.payer is None else row.payer[:16] + (" (hosted)" if row.hosted else "")
    model = row.model or (row.model_digest[:16] if row.model_digest else "others")
    names = {By.DAY: row.day, By.PEER: payer, By.MODEL: model}
    return tuple(names.values()) if by is None else (names[by],)
