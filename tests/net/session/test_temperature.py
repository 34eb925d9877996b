"""An answer drawn wildly is spelled in tokens nobody would choose: its provider is paid, and the buyer gets it all."""

import os
from pathlib import Path

import pytest

from tests.net.session.conftest import opened_mesh
from tirami.infer import (
    ChildEngine,
    FinishReason,
    MetadataBlock,
    Prompter,
    Sampling,
    default_models_dir,
    resolve,
)
from tirami.infer.rendering import RenderingProcesses
from tirami.net.session import Sale, purchase
from tirami.node.mesh.tokenizers import TokenizerCheck

WINDOW = 10
"""A stranger's, at a TRM a token."""


@pytest.mark.model
@pytest.mark.timeout(600)
async def test_a_bought_answer_at_a_high_temperature_is_not_hurt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = resolve("smollm2:135m").path
    prompter = Prompter.from_block(MetadataBlock.of_file(path), RenderingProcesses(0))
    engine = ChildEngine(path, name="m", slots=1, context=2048, threads=1, models_dir=default_models_dir())
    await engine.start()
    sales: list[Sale] = []
    try:
        async with opened_mesh(tmp_path, voucher_tokens=WINDOW) as mesh:
            monkeypatch.setattr(mesh.service, "_sold", sales.append)
            mesh.desk.engine = engine  # type: ignore[assignment]
            mesh.desk.canon = lambda: TokenizerCheck(prompter.tokenizer)
            for seed, question in enumerate(["Write a story about a fox.", "猫について教えて。"]):
                wanted = mesh.wanted(
                    model_digest=engine.card.digest,
                    tokenizer_digest=engine.card.tokenizer_digest,
                    prompt=await prompter.prepare([{"role": "user", "content": question}]),
                    sampling=Sampling(max_tokens=80, seed=seed, temperature=1.2),
                )
                stream, now = await mesh.connection.open(), mesh.payer.ledger.now()
                bought = await purchase(stream, wanted, TokenizerCheck(prompter.tokenizer), os.urandom, now)
                async with await mesh.begun(bought) as session:
                    count = [chunk.count async for chunk in session][-1]
                await bought.close()
                await mesh.quiet()
                sale = sales[-1]
                print(f"{sale.sent} tokens, {sale.vouched} counted, {session.settlement.reason.value}")
                assert session.settlement.reason in (FinishReason.STOP, FinishReason.LENGTH)
                assert sale.sent >= 10 and sale.unpaid == 0 and bought.kept
                assert sale.due == sale.vouched == count
            assert mesh.provider.net == -mesh.payer.net > 20
    finally:
        await engine.close()
