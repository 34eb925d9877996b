"""The steps of the demo, in order. Each names the mission row it shows and asserts what it says."""

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import openai
from prometheus_client.parser import text_string_to_metric_families

from tirami.api.schemas import (
    AccountRequest,
    BalanceQuery,
    ConsistencyQuery,
    KillRequest,
    TokenRequest,
)
from tirami.cli.demo.process import START_SECONDS, tirami_command
from tirami.cli.demo.report import expect
from tirami.cli.demo.stage import Stage
from tirami.core.keys import PublicKey, Signature, verify
from tirami.proto import Trade, decode, parse_receipt
from tirami.verify import verify_consistency

Step = Callable[[Stage], None]
QUESTION: Any = [{"role": "user", "content": "Say hello in one short sentence."}]
STORY: Any = [{"role": "user", "content": "Tell me a long story about a lighthouse."}]
ABANDON_AFTER = 20


def model_is_ready(stage: Stage) -> None:
    with stage.report.step("DEMO-02", "A real model is loaded, its file checked by digest") as step:
        deadline = time.monotonic() + START_SECONDS
        client = stage.client()
        while not client.health().model_loaded:
            engine = client.status().engine
            expect(engine.loading or engine.ready, "the model loads", problem=engine.problem)
            expect(time.monotonic() < deadline, "the model loads in time", engine=engine)
            time.sleep(0.1)
        entry = client.models().data[0]
        stage.seen.model, stage.seen.node_id = entry.id, stage.admin().status().node_id
        step.detail = f"{entry.id}, {entry.parameters / 1e6:.0f} M parameters, sha256 {entry.digest[:16]}…"
        stage.report.measured("model", entry.id)


def official_client(stage: Stage) -> None:
    with stage.report.step("DEMO-06", "The official OpenAI client gets an answer, and its price") as step:
        answer = stage.openai().chat.completions.create(model=stage.seen.model, messages=QUESTION, max_tokens=32)
        extension = answer.model_extra["x_tirami"] if answer.model_extra else {}
        usage = answer.usage
        expect(usage is not None and usage.completion_tokens > 0, "tokens were generated and counted", usage=usage)
        expect(extension["trm_cost"] > 0, "the answer carries its cost", x_tirami=extension)
        expect(extension["effective_balance"] < 0, "the owner's own use is a running total", x_tirami=extension)
        text = (answer.choices[0].message.content or "").strip().replace("\n", " ")
        step.detail = f"“{text[:60]}” for {extension['trm_cost']} TRM"


def token_by_token(stage: Stage) -> None:
    with stage.report.step("DEMO-07", "Streaming is real: text arrives long before the answer ends") as step:
        client = stage.openai()
        began, first, count = time.monotonic(), 0.0, 0
        stream = client.chat.completions.create(model=stage.seen.model, messages=STORY, max_tokens=96, stream=True)
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                first = first or time.monotonic() - began
                count += 1
        whole = time.monotonic() - began
        expect(count > 10, "the answer came in many pieces", pieces=count)
        expect(first < whole / 2, "the first piece came in the first half of the time", first=first, whole=whole)
        step.detail = f"first text after {first * 1000:.0f} ms of {whole * 1000:.0f} ms"
        stage.report.measured("time to first token", f"{first * 1000:.0f} ms")
        stage.report.measured("tokens a second, one stream", f"{count / whole:.0f}")


def hardware(stage: Stage) -> None:
    with stage.report.step("DEMO-03", "The engine says what it computes on, and how fast") as step:
        engine = stage.admin().status().engine
        speed = engine.tokens_per_second
        expect(speed is not None and speed > 0, "the speed of answers is measured", speed=speed)
        device = engine.device or "an engine elsewhere, which does not tell"
        offloaded = "unknown" if engine.layers_offloaded is None else f"{engine.layers_offloaded} of {engine.layers}"
        step.detail = f"{device}; {offloaded} layers offloaded; {speed:.1f} tokens a second in one answer"
        stage.report.measured("device", device)
        stage.report.measured("layers offloaded", offloaded)
        stage.report.measured("tokens a second, as the node measured", f"{speed:.1f}")


def agent_pays(stage: Stage) -> None:
    with stage.report.step("API-03", "An agent with its own account pays exactly what it is told") as step:
        admin, seen = stage.admin(), stage.seen
        seen.agent = admin.create_account(AccountRequest(label="demo agent")).account
        seen.token = admin.issue_token(TokenRequest(scope="inference", node_id=seen.agent)).token
        before = stage.client(seen.token).balance().effective_balance
        answer = stage.openai(seen.token).chat.completions.create(model=seen.model, messages=QUESTION, max_tokens=32)
        extension = answer.model_extra["x_tirami"] if answer.model_extra else {}
        seen.cost, seen.trade_id = extension["trm_cost"], extension["trade_id"]
        after = stage.client(seen.token).balance()
        seen.balance = after.effective_balance
        expect(before - seen.cost == seen.balance, "the balance falls by the cost", before=before, after=seen.balance)
        expect(extension["effective_balance"] == seen.balance, "the answer states the payer's own balance")
        expect(after.reserved == 0, "nothing stays reserved")
        step.detail = f"{before} − {seen.cost} = {seen.balance} TRM"


def foreign_payer(stage: Stage) -> None:
    with stage.report.step("API-03", "Nobody bills somebody else by a header"):
        try:
            stage.openai().chat.completions.create(
                model=stage.seen.model,
                messages=QUESTION,
                max_tokens=8,
                extra_headers={"X-Tirami-Node-Id": stage.seen.agent},
            )
        except openai.PermissionDeniedError as error:
            expect(error.code == "foreign_payer", "the refusal says why", code=error.code)
        else:
            expect(False, "a header alone spends nobody's money")
        expect(stage.client(stage.seen.token).balance().effective_balance == stage.seen.balance, "nothing was charged")


def two_signatures(stage: Stage) -> None:
    with stage.report.step("L1-02", "The bill is signed by both keys; verified here, not by the node") as step:
        seen = stage.seen
        client = stage.client(seen.token)
        receipt = parse_receipt(client.trade_receipt(seen.trade_id))
        body = bytes.fromhex(receipt.body)
        trade = decode(Trade, body)
        for key, signature in zip((trade.payer, trade.provider), receipt.signatures, strict=True):
            good = verify(PublicKey(key), Signature(bytes.fromhex(signature)), Trade.TAG + body)
            expect(good, "the signature verifies", key=key.hex())
        expect(trade.payer.hex() == seen.agent, "the payer is the agent")
        expect(trade.provider.hex() == seen.node_id, "the provider is this node")
        expect(trade.amount == seen.cost, "the signed amount is the billed one", amount=trade.amount)
        expect(trade.flop > 0, "the work is measured", flop=trade.flop)
        tokens = f"{trade.prompt_tokens} + {trade.completion_tokens} tokens"
        step.detail = f"{tokens}, {trade.flop:,} FLOP, {trade.amount} TRM"
        stage.report.measured("work of that answer", f"{trade.flop / 1e9:.1f} GFLOP for {trade.amount} TRM")


def only_what_arrived(stage: Stage) -> None:
    with stage.report.step("DEMO-07", "A client that leaves stops the engine and pays for what it received") as step:
        seen, received = stage.seen, 0
        with stage.openai(seen.token) as client:
            stream = client.chat.completions.create(model=seen.model, messages=STORY, max_tokens=400, stream=True)
            for chunk in stream:
                received += bool(chunk.choices and chunk.choices[0].delta.content)
                if received == ABANDON_AFTER:
                    break
            stream.close()
        admin = stage.admin()
        left = time.monotonic()
        while admin.readyz().slots_busy:  # the status would wait until the bill is on disk
            expect(time.monotonic() - left < 2, "the engine stops when its client has left")
            time.sleep(0.01)
        freed = time.monotonic() - left
        agent = stage.client(seen.token)
        while (trade := agent.trades().trades[0]).id == seen.trade_id:
            expect(time.monotonic() - left < 10, "the interrupted answer is a trade of its own")
            time.sleep(0.01)
        billed = trade.tokens_processed
        expect(billed <= received + 64, "no more is billed than was on its way", received=received, billed=billed)
        expect(freed < 0.2, "the slot is free within 200 ms", seconds=freed)
        seen.balance = agent.balance().effective_balance
        step.detail = f"left after {received} pieces, {billed} tokens billed, slot free within {freed * 1000:.0f} ms"


def book_balances(stage: Stage) -> None:
    with stage.report.step("L1-01", "Double entry: all accounts add up to zero, nothing was minted") as step:
        network, state = stage.admin().network(), stage.admin().log_state()
        expect(state.sum_of_accounts == 0, "the book adds up to zero", sum=state.sum_of_accounts)
        expect(network.minted == 0, "trades mint nothing", minted=network.minted)
        step.detail = f"{network.total_trades} network and {network.local_trades} local trades, sum 0"
        moved = network.total_contributed_trm + network.local_volume_trm
        stage.report.measured("trades", network.total_trades + network.local_trades)
        stage.report.measured("TRM moved", moved)


def metrics_agree(stage: Stage) -> None:
    with stage.report.step("OBS-01", "Prometheus can read the node, and reads what the book says") as step:
        admin = stage.admin()
        families = list(text_string_to_metric_families(admin.metrics().decode()))
        network = admin.network()
        read = {(s.name, s.labels.get("scope")): s.value for family in families for s in family.samples}
        trades = read["tirami_trades_total", "network"] + read["tirami_trades_total", "local"]
        expect(trades == network.total_trades + network.local_trades, "the trades are counted", trades=trades)
        volume = read["tirami_trade_volume_trm_total", "network"]
        expect(volume == network.trade_volume, "the TRM are counted", volume=volume)
        expect(read["tirami_book_imbalance_trm", None] == 0, "the book is in balance")
        step.detail = f"{len(families)} families, {trades:.0f} trades, {volume:.0f} TRM between accounts"


def stranger_verifies(stage: Stage) -> None:
    with stage.report.step("L1-06", "A separate process without a node verifies the receipt, and refuses a forged one"):
        seen, path = stage.seen, stage.scratch / "receipt.json"
        data = stage.client(seen.token).trade_receipt(seen.trade_id)
        path.write_bytes(data)
        environment = {**stage.environment, "HOME": str(stage.scratch / "nowhere")}
        command = tirami_command("verify", str(path), "--json")
        good = subprocess.run(command, capture_output=True, env=environment, check=False)
        expect(good.returncode == 0, "the receipt verifies", stderr=good.stderr.decode()[-300:])
        facts = json.loads(good.stdout)
        expect(facts["amount_trm"] == seen.cost, "the stranger reads the same amount", facts=facts["amount_trm"])
        amount = f'"amount_trm":{seen.cost}'.encode()
        path.write_bytes(data.replace(amount, f'"amount_trm":{seen.cost + 1}'.encode()))
        forged = subprocess.run(command, capture_output=True, env=environment, check=False)
        expect(forged.returncode == 3, "one changed digit is refused", code=forged.returncode)


def log_only_grows(stage: Stage) -> None:
    with stage.report.step("L1-06", "The log only grows: a proof leads from an older head to the newest") as step:
        client, seen = stage.client(), stage.seen
        first = client.log_head()
        stage.openai().chat.completions.create(model=seen.model, messages=QUESTION, max_tokens=8)
        second = client.log_head()
        expect(second.size > first.size, "an answer adds to the log")
        _check_growth(stage, first.size, first.root)
        seen.head_size, seen.head_root = second.size, second.root
        step.detail = f"{first.size} → {second.size} leaves, root {second.root[:16]}…"
        stage.report.measured("log root", second.root)


def kill_switch(stage: Stage) -> None:
    with stage.report.step("DEMO-10", "The kill switch refuses the next request, and releases it again") as step:
        admin, seen = stage.admin(), stage.seen
        began = time.monotonic()
        status = admin.kill(KillRequest(activate=True, reason="demo", operator="demo")).status
        took = time.monotonic() - began
        for token in ("local", seen.token):
            try:
                stage.openai(token).chat.completions.create(model=seen.model, messages=QUESTION, max_tokens=8)
            except openai.APIStatusError as error:
                expect((error.status_code, error.code) == (423, "kill_switch_active"), "423", code=error.code)
            else:
                expect(False, "nobody spends while the switch is on")
        expect(stage.client(seen.token).balance().effective_balance == seen.balance, "nothing was charged")
        admin.kill(KillRequest(activate=False, operator="demo"))
        stage.openai().chat.completions.create(model=seen.model, messages=QUESTION, max_tokens=8)
        step.detail = f"{status}: All TRM transactions frozen. No agent can spend. ({took * 1000:.0f} ms)"


def restart(stage: Stage) -> None:
    with stage.report.step("L1-30", "After SIGTERM and a restart: same key, same balances, same log") as step:
        seen = stage.seen
        before = stage.admin().log_state()
        stage.restart()
        admin = stage.admin()
        after = admin.log_state()
        expect(admin.status().node_id == seen.node_id, "the node is the same")
        expect(after.own_state_hash == before.own_state_hash, "the book is the same to the bit")
        balance = admin.balance(BalanceQuery(node=seen.agent)).effective_balance
        expect(balance == seen.balance, "the agent has what it had", balance=balance)
        _check_growth(stage, seen.head_size, seen.head_root)
        step.detail = f"state {after.own_state_hash[:16]}…, {after.records} leaves"
        stage.report.measured("state hash", after.own_state_hash)


def _check_growth(stage: Stage, size: int, root: str) -> None:
    """The head seen before is a prefix of the newest one. Raises ``InvalidProof``."""
    client = stage.client()
    newest = client.log_head()
    proof = client.log_consistency(ConsistencyQuery(first=size, second=newest.size)).proof
    hashes = [bytes.fromhex(node) for node in proof]
    verify_consistency(size, newest.size, bytes.fromhex(root), bytes.fromhex(newest.root), hashes)


STEPS: tuple[Step, ...] = (
    model_is_ready,
    official_client,
    token_by_token,
    hardware,
    agent_pays,
    foreign_payer,
    two_signatures,
    only_what_arrived,
    book_balances,
    metrics_agree,
    stranger_verifies,
    log_only_grows,
    kill_switch,
    restart,
)
