"""The grammar of a peer's address."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tirami.core.errors import InvalidField
from tirami.core.keys import SigningKey
from tirami.net import HostPort, PeerAddress

KEY = SigningKey.from_seed(bytes(range(32))).public_key
HEX = KEY.hex()


@pytest.mark.parametrize(
    ("text", "direct", "relay", "canonical"),
    [
        (HEX, (), None, HEX),
        (f" tirami_{HEX.upper()}\n", (), None, HEX),
        (f"{HEX}@203.0.113.7:4433", ("203.0.113.7:4433",), None, f"{HEX}@203.0.113.7:4433"),
        (f"{HEX}@[2001:DB8:0::7]:1", ("[2001:db8::7]:1",), None, f"{HEX}@[2001:db8::7]:1"),
        (f"{HEX}@Node-1.Example:65535", ("node-1.example:65535",), None, f"{HEX}@node-1.example:65535"),
        (f"{HEX}@https://relay.example/", (), "https://relay.example/", f"{HEX}@https://relay.example/"),
        (f"{HEX}@http://[::1]:3340", (), "http://[::1]:3340", f"{HEX}@http://[::1]:3340"),
        (
            f"{HEX}@https://r.example./x,127.0.0.1:1,localhost:02",
            ("127.0.0.1:1", "localhost:2"),
            "https://r.example./x",
            f"{HEX}@127.0.0.1:1,localhost:2,https://r.example./x",
        ),
    ],
)
def test_what_is_read(text: str, direct: tuple[str, ...], relay: str | None, canonical: str) -> None:
    address = PeerAddress.parse(text)
    assert address == PeerAddress(KEY, direct, relay)
    assert str(address) == canonical
    assert PeerAddress.parse(canonical) == address


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "64 hexadecimal"),
        (HEX[:-1], "64 hexadecimal"),
        (HEX[:-1] + "g", "64 hexadecimal"),
        ("00" * 32, "prove"),
        (f"{HEX}@", "nothing follows"),
        (f"{HEX}@,", "HOST:PORT"),
        (f"{HEX}@127.0.0.1", "HOST:PORT"),
        (f"{HEX}@:80", "HOST:PORT"),
        (f"{HEX}@127.0.0.1:0", "no port"),
        (f"{HEX}@127.0.0.1:65536", "no port"),
        (f"{HEX}@127.0.0.1:+1", "no port"),
        (f"{HEX}@127.0.0.1:١", "no port"),
        (f"{HEX}@127.0.0.256:1", "no IP address"),
        (f"{HEX}@1.2.3:1", "no IP address"),
        (f"{HEX}@2001:db8::7:1", "brackets"),
        (f"{HEX}@[fe80::1%eth0]:1", "interface"),
        (f"{HEX}@[::g]:1", "no IP address"),
        (f"{HEX}@-a.example:1", "no name"),
        (f"{HEX}@a..example:1", "no name"),
        (f"{HEX}@a b:1", "no name"),
        (f"{HEX}@a@b:1", "no name"),
        (f"{HEX}@ftp://relay.example/", "no relay"),
        (f"{HEX}@https://", "no relay"),
        (f"{HEX}@https://user@relay.example/", "no relay"),
        (f"{HEX}@https://relay.example/?q=1", "no relay"),
        (f"{HEX}@https://relay.example/#f", "no relay"),
        (f"{HEX}@https://relay.example:99999/", "no relay"),
        (f"{HEX}@https://[::1/", "no relay"),
        (f"{HEX}@https://a/\nb", "no relay"),
        (f"{HEX}@https://a/,https://b/", "at most one relay"),
        (f"{HEX}@" + ",".join(["a:1"] * 17), "at most 16"),
    ],
)
def test_what_is_refused(text: str, named: str) -> None:
    with pytest.raises(InvalidField, match=named) as refused:
        PeerAddress.parse(text)
    assert refused.value.param == "address"


def test_a_bind_address_may_leave_the_port_open() -> None:
    assert str(HostPort.parse("[::]:0", lowest_port=0)) == "[::]:0"


@settings(deadline=None)
@given(st.text(max_size=40) | st.text("0123456789.:[]@,/abhtps-_% ", max_size=40))
def test_any_text_is_an_address_or_an_invalid_field(text: str) -> None:
    for whole in (text, f"{HEX}@{text}", f"{HEX}@https://{text}"):
        try:
            address = PeerAddress.parse(whole)
        except InvalidField:
            continue
        assert PeerAddress.parse(str(address)) == address


@given(
    st.lists(
        st.builds("{}:{}".format, st.ip_addresses(v=4), st.integers(1, 65535))
        | st.builds("[{}]:{}".format, st.ip_addresses(v=6), st.integers(1, 65535)),
        max_size=5,
    ),
    st.none() | st.sampled_from(["https://relay.example/", "http://10.0.0.1:3340/derp"]),
)
def test_text_is_the_inverse_of_reading(direct: list[str], relay: str | None) -> None:
    address = PeerAddress(KEY, tuple(direct), relay)
    assert PeerAddress.parse(str(address)) == address
