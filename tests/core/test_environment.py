"""What Kubernetes puts into the environment of a pod beside a service called ``tirami`` or ``tirami-api``."""

import pytest

from tirami.core.config import load_config
from tirami.core.environment import is_service_link
from tirami.core.errors import ConfigError

LINKS = {
    "TIRAMI_API_SERVICE_HOST": "10.0.0.1",
    "TIRAMI_API_SERVICE_PORT": "3000",
    "TIRAMI_API_SERVICE_PORT_HTTP": "3000",
    "TIRAMI_API_PORT": "tcp://10.0.0.1:3000",
    "TIRAMI_API_PORT_3000_TCP": "tcp://10.0.0.1:3000",
    "TIRAMI_API_PORT_3000_TCP_ADDR": "10.0.0.1",
    "TIRAMI_PORT": "tcp://10.0.0.1:3000",
    "TIRAMI_PORT_4433_UDP_PROTO": "udp",
}


def test_a_service_link_is_no_setting() -> None:
    assert all(is_service_link(name, text) for name, text in LINKS.items())
    assert load_config(None, LINKS, {}).api.port == 3000


@pytest.mark.parametrize(("name", "text"), [("TIRAMI_API_PORT", "80"), ("TIRAMI_API_PROT", "80"), ("TIRAMI_PORT", "")])
def test_what_is_meant_as_a_setting_is_none(name: str, text: str) -> None:
    assert not is_service_link(name, text)


def test_a_misspelt_one_of_ours_is_refused_still() -> None:
    with pytest.raises(ConfigError, match="api.prot"):
        load_config(None, {"TIRAMI_API_PROT": "80"}, {})
