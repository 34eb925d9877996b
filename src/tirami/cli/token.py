"""``tirami token``: who may do what here."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tirami.api.schemas import IssuedToken, RevokeRequest, RotateRequest, TokenEntry, TokenRequest
from tirami.cli.agent import full_id
from tirami.cli.ids import whole
from tirami.cli.options import DataDir, Json, Token, Url
from tirami.cli.target import connect
from tirami.cli.terminal import Terminal, fields
from tirami.cli.times import when
from tirami.core.errors import TokenNotFound
from tirami.sdk import Tirami

commands = typer.Typer(no_args_is_help=True, help="Who may do what at this node.")
Hash = Annotated[str, typer.Argument(metavar="HASH", help="Hash of the token from `token list`, or its start.")]
Ttl = Annotated[int, typer.Option("--ttl-days", min=0, help="Lifetime; 0 is for ever.")]
DAY_S = 86_400


@commands.command()
def issue(
    scope: Annotated[str, typer.Option(help="read_only, inference, economy or admin.")] = "inference",
    account: Annotated[
        str | None, typer.Option(help="Hosted account it speaks for, or the start of its id; else the node.")
    ] = None,
    label: Annotated[str, typer.Option(help="A note for people.")] = "",
    ttl_days: Ttl = 7,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Make a token; it is shown once.

    Without --account the token acts as the node's owner: unlimited local use, the whole book to read, and purchases on
    the mesh at the node's cost. For an agent use `tirami agent create`.
    """
    with connect(url, token, data_dir, admin=True) as client:
        payer = full_id(account, client) if account is not None else None
        issued = client.issue_token(
            TokenRequest(scope=scope, node_id=payer, ttl_secs=ttl_days * DAY_S or None, label=label)
        )
    Terminal(json_output).show(issued.model_dump(), lambda console: fields(console, "", _shown(issued)))


@commands.command("list")
def list_tokens(url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False) -> None:
    """Tokens that are good now, by hash."""
    with connect(url, token, data_dir, admin=True) as client:
        tokens = client.tokens().tokens
    Terminal(json_output).show([t.model_dump() for t in tokens], lambda console: _table(console, tokens))


@commands.command()
def revoke(
    token_hash: Hash, url: Url = None, token: Token = None, data_dir: DataDir = None, json_output: Json = False
) -> None:
    """End a token at once."""
    with connect(url, token, data_dir, admin=True) as client:
        result = client.revoke_token(RevokeRequest(token_hash_hex=_full_hash(token_hash, client)))
    if not result.revoked:
        raise TokenNotFound(f"there is no token {token_hash}", param="token_hash_hex")
    Terminal(json_output).show(result.model_dump(), lambda console: console.print("revoked"))


@commands.command()
def rotate(
    token_hash: Hash,
    grace_secs: Annotated[int, typer.Option(min=0, help="How long the old one goes on.")] = 60,
    ttl_days: Annotated[
        int | None, typer.Option("--ttl-days", min=0, help="Another lifetime; 0 is for ever.  [as the old one's]")
    ] = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = None,
    json_output: Json = False,
) -> None:
    """Replace a token by a new one with the same rights, label and lifetime."""
    lifetime = {} if ttl_days is None else {"ttl_secs": ttl_days * DAY_S or None}
    with connect(url, token, data_dir, admin=True) as client:
        old = _full_hash(token_hash, client)
        issued = client.rotate_token(
            RotateRequest.model_validate({"token_hash_hex": old, "grace_secs": grace_secs, **lifetime})
        )
    Terminal(json_output).show(issued.model_dump(), lambda console: fields(console, "", _shown(issued)))


def expiry(at_ms: int) -> str:
    """When a token ends, in words."""
    return when(at_ms) if at_ms else "never"


def _shown(issued: IssuedToken) -> dict[str, object]:
    return {
        "Token": f"{issued.token}  (shown once)",
        "Scope": issued.scope,
        "Expires": expiry(issued.expires_at_ms),
        "Hash": issued.token_hash_hex,
    }


def _full_hash(start: str, client: Tirami) -> str:
    return whole(start, (entry.token_hash_hex for entry in client.tokens().tokens), TokenNotFound)


def _table(console: Console, tokens: list[TokenEntry]) -> None:
    table = Table("Hash", "Scope", "Account", "Expires", "Label")
    for entry in tokens:
        account, ends = (entry.node_id or "the node")[:16], expiry(entry.expires_at_ms)
        table.add_row(entry.token_hash_hex[:16], entry.scope, account, ends, escape(entry.label))
    console.print(table if tokens else "No tokens.")
