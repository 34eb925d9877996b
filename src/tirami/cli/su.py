"""``tirami su``: the supply."""

from decimal import Decimal

import typer
from rich.console import Console

from tirami.api.schemas import SupplyReply
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal

commands = typer.Typer(no_args_is_help=True, help="Supply of TRM.")


@commands.callback()
def su() -> None:
    """Supply of TRM."""


@commands.command()
def supply(url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False) -> None:
    """Cap, minted, epoch and yield rate."""
    with connect(url, token, data_dir, admin=True) as client:
        reply = client.su_supply()
    Terminal(json_output).show(reply.model_dump(), lambda console: _show(console, reply))


def _show(console: Console, reply: SupplyReply) -> None:
    genesis = " (genesis)" if reply.total_minted == 0 else ""
    lines = {
        "Total Supply Cap": f"{reply.total_supply:,} TRM",
        "Total Minted": f"{reply.total_minted:,}",
        "Supply Factor": f"{_plain(reply.supply_factor)}{genesis}",
        "Current Epoch": f"{reply.current_epoch}",
        "Yield Rate": f"{_plain(reply.yield_rate)}/hr",
    }
    for name, value in lines.items():
        console.print(f"  {name + ':':<20} {value}", markup=False)


def _plain(number: float) -> str:
    """Shortest decimal digits, never an exponent."""
    return f"{Decimal(repr(number)):f}"
