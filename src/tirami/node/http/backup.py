"""Copies of the journal for the operator's backup."""

from tirami.api.schemas import BackupReply
from tirami.node.http.handlers import Call, handles


@handles("backup")
async def backup(call: Call) -> BackupReply:
    ledger = call.parts.ledger
    await ledger.durable()
    position = ledger.seq
    directory = await call.parts.staging.make(ledger)
    files = sorted(directory.iterdir())
    return BackupReply(
        directory=directory.name,
        files=[path.name for path in files],
        bytes=sum(path.stat().st_size for path in files),
        journal_position=position,
    )
