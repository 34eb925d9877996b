"""``tirami su supply``: the page's block at genesis, plain digits later."""

from rich.console import Console

from tests.cli.running import Shell
from tirami.api.schemas import SupplyReply
from tirami.cli.su import _show

GENESIS = """\
  Total Supply Cap:    21,000,000,000 TRM
  Total Minted:        0
  Supply Factor:       1.0 (genesis)
  Current Epoch:       0
  Yield Rate:          0.001/hr
"""


def test_the_block_of_the_page(shell: Shell) -> None:
    ended = shell.run("su", "supply")
    assert (ended.code, ended.out, ended.err) == (0, GENESIS, "")
    assert shell.run("su", "supply", "--json").json["total_supply"] == 21_000_000_000


def test_later_numbers_have_no_exponent_and_no_genesis() -> None:
    reply = SupplyReply(
        total_supply=21_000_000_000,
        total_minted=20_790_000_000,
        total_burned=0,
        circulating=20_790_000_000,
        supply_factor=0.01,
        current_epoch=6,
        yield_rate=1.5625e-05,
        epoch_yield_rate=1.5625e-05,
        effective_mint_rate=0.01,
        mint_rates={},
        work_subsidy=False,
        transaction_fee_active=True,
    )
    console = Console(record=True, width=80, highlight=False)
    with console.capture() as captured:
        _show(console, reply)
    assert "20,790,000,000\n" in captured.get()
    assert "0.01\n" in captured.get() and "genesis" not in captured.get()
    assert "0.000015625/hr" in captured.get()
