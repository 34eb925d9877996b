"""What the mesh means for whoever switches it on: said at the start, in the status and by ``tirami mesh status``."""

from tirami.core.config import MeshConfig

DAILY_LIMIT = 1_000
"""U, TRM, where a network file says nothing else."""
WHOSE = {"trusted": "the providers you trust", "any": "any provider of the network"}


def statements(mesh: MeshConfig, daily_limit: int | None = None) -> list[str]:
    """What leaves this machine, who sees it, and what may be lost.

    Args:
        daily_limit: U of the network file, TRM (PROTOCOL B6); ``None`` where it is not known yet.
    """
    if not mesh.enabled:
        return ["The mesh is off: nothing is sold or bought, and no other node is spoken to."]
    said = [
        "Peers see this node's key and addresses, its models and prices, and every network trade: who paid whom, how "
        "much, for which model. Records hold no word of a prompt or an answer.",
    ]
    if mesh.consume == "off":
        said.append("No prompt leaves this machine (mesh.consume = off).")
    else:
        full = ", or whose places here are all taken (mesh.overflow)," if mesh.overflow else ""
        said.append(
            f"Prompts for models that are not here{full} leave this machine to {WHOSE[mesh.consume]} (mesh.consume = "
            f"{mesh.consume}): whoever serves reads prompt and answer. The node's own account pays, also for its owner."
        )
    if mesh.relay == "off":
        said.append("No relay is used: peers that cannot be reached directly are not reached.")
    else:
        n0 = "The public relays run by n0 (mesh.relay = n0) see"
        whose = n0 if mesh.relay == "n0" else f"The relay {mesh.relay} sees"
        said.append(f"{whose} who talks to whom, from which address, when and how much; never what.")
    if mesh.sell:
        said.append(
            "A payer that lies about its totals can take back everything it ever paid out of the disputed balance; "
            f"what you accept from one payer is limited to {_daily(daily_limit)}."
        )
    return said


def _daily(limit: int | None) -> str:
    if limit is None:
        return f"{DAILY_LIMIT} TRM a day unless the network file says otherwise (unwitnessed_daily_limit)"
    return f"{limit} TRM a day"
