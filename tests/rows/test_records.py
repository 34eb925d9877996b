"""An auditor follows every TRM: all balances from what was exported, and a transfer proved without the node."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.processes import NodeProcess
from tests.rows.conftest import make_agent
from tests.rows.meshes import LOOPBACK
from tests.rows.test_keys import asked
from tests.rows.test_saf import chat
from tirami.api.schemas import BalanceQuery, RecordEntry, RecordsQuery, TransferRequest
from tirami.core.keys import PublicKey, Signature, sha256, verify
from tirami.ledger import Book, admit, allowance_rule
from tirami.proto import Envelope, NetworkFile, Transfer, decode
from tirami.sdk import Tirami
from tirami.testing import RunningEngine
from tirami.verify import leaf_hash, verify_head, verify_inclusion


def exported(client: Tirami) -> list[RecordEntry]:
    """Everything, oldest first, in small pages."""
    found: list[RecordEntry] = []
    cursor: int | None = None
    while True:
        page = client.records(RecordsQuery(limit=3, cursor=cursor, signatures=True))
        found += page.records
        if (cursor := page.next_cursor) is None:
            return found[::-1]


@pytest.mark.row("L1-01")
@pytest.mark.row("L1-06")
def test_an_auditor_rebuilds_every_balance_from_the_records_and_proves_a_transfer(
    engine: RunningEngine, tmp_path: Path
) -> None:
    env = LOOPBACK | {"TIRAMI_PRICING_PROMPT_PPM": "0", "TIRAMI_PRICING_FOLLOW_LOAD": "false"}
    with NodeProcess(tmp_path / ".tirami", "--upstream", engine.url, env=env) as node, node.admin() as admin:
        first, second = make_agent(node), make_agent(node)
        first.client.chat_completions(chat("x", 90))
        funded = admin.transfer(TransferRequest(to=second.account, amount=50)).record_id
        second.client.chat_completions(chat("x", 60))
        admin.chat_completions(chat("x", 7))
        payout = asked(node, "key", "rotate", "--yes")
        assert payout["moved_trm"] == 90 - 50 + 60

        records = exported(admin)
        assert [record.leaf_index for record in records] == list(range(admin.log_head().size))
        assert Counter(r.kind for r in records if r.scope == "network") == {"grant": 3, "trade": 2, "transfer": 2}
        income, spent, lines = defaultdict[str, int](int), defaultdict[str, int](int), defaultdict[str, int](int)
        for record in (record for record in records if record.applied and record.scope == "network"):
            if record.kind == "grant":
                lines[record.payee] = max(lines[record.payee], record.trm_amount)
            else:
                income[record.payee] += record.trm_amount
                spent[record.payer] += record.trm_amount
        for key in {*income, *spent, *lines}:
            has = admin.balance(BalanceQuery(node=key))
            assert (has.contributed_trm, has.consumed_trm) == (income[key], spent[key]), key
            assert (has.net_balance, has.credit_limit) == (income[key] - spent[key], lines[key]), key
        assert income[payout["successor"]] == 100
        refolded(node, admin, records)
        proved(admin, funded, second.account, 50)
        proved(admin, payout["record_id"], payout["successor"], 100)
        for agent in (first, second):
            own = [record for record in records if agent.account in (record.payer, record.payee)]
            assert exported(agent.client) == own
            agent.client.close()


def refolded(node: NodeProcess, admin: Tirami, records: list[RecordEntry]) -> None:
    """Also which of them apply is no matter of belief: it follows from what was signed, under the network's rules."""
    network = NetworkFile.regtest(PublicKey(bytes.fromhex(admin.status().node_id)))
    assert network.hash.hex() == admin.network().network_hash
    book = Book(allowance_rule(network))
    for record in records[::-1]:
        assert record.body is not None and record.signatures is not None and record.attachments is not None
        signatures, attachments = (tuple(map(bytes.fromhex, part)) for part in (record.signatures, record.attachments))
        admitted = admit(Envelope(record.kind, bytes.fromhex(record.body), signatures, attachments), network)
        book.add(admitted.record_id, admitted.demand)
        assert admitted.record_id.hex() == record.id
    assert all(book.is_applied(bytes.fromhex(record.id)) == record.applied for record in records)
    state = admin.log_state()
    assert (book.own_state_hash().hex(), book.state_hash().hex()) == (state.own_state_hash, state.state_hash)


def proved(client: Tirami, record_id: str, to: str, amount: int) -> None:
    """A transfer stands under a head of this node, on the word of its signatures only."""
    record, proof = client.record(record_id), client.record_proof(record_id)
    body, [signature] = bytes.fromhex(record.body or ""), map(bytes.fromhex, record.signatures or ())
    transfer = decode(Transfer, body)
    assert (transfer.to.hex(), transfer.amount, sha256(Transfer.TAG, body).hex()) == (to, amount, record_id)
    assert verify(PublicKey(transfer.payer), Signature(signature), Transfer.TAG + body)
    log = PublicKey(bytes.fromhex(client.status().node_id))
    head = verify_head(bytes.fromhex(proof.head.body), bytes.fromhex(proof.head.signature), log)
    path = [bytes.fromhex(step) for step in proof.proof]
    verify_inclusion(leaf_hash(body + signature), proof.leaf_index, head.size, path, head.root)
