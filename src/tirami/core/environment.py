"""Variables of the environment that look like ours and were put there by somebody else."""

import re
from typing import Final

_LINK: Final = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_|$)")
_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")


def is_service_link(variable: str, text: str) -> bool:
    """Whether Kubernetes set it: it names a service, here perhaps one called ``tirami`` or ``tirami-api``."""
    return bool(_LINK.search(variable)) or (variable.endswith("_PORT") and bool(_ADDRESS.match(text)))
