"""HTTPS: what is refused at start, what is served, and a certificate that is renewed while the node runs."""

import asyncio
import os
import ssl
from pathlib import Path

import httpx2
import pytest
from cryptography.hazmat.primitives import serialization

from tests.certificates import Authority
from tests.node.conftest import Door, opened_door
from tirami.core.config import load_config
from tirami.core.errors import ConfigError, KeyFileError
from tirami.node.http import HttpServer, build_app
from tirami.node.http.tls import Tls
from tirami.sdk import AsyncTirami


def configured(certificate: Path | str, key: Path | str) -> Tls | None:
    flags = {"api.tls_cert": str(certificate), "api.tls_key": str(key)}
    return Tls.of(load_config(None, {}, flags).api)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def test_without_files_there_is_no_tls() -> None:
    assert configured("", "") is None


def test_files_that_cannot_serve_are_refused_by_name(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue(tmp_path / "one", "node.example")
    other, other_key = authority.issue(tmp_path / "two", "node.example")
    for cert_file, key_file, param in ((certificate, "", "api.tls_key"), ("", key, "api.tls_cert")):
        with pytest.raises(ConfigError) as caught:
            configured(cert_file, key_file)
        assert caught.value.param == param
    for cert_file, key_file in ((certificate, other_key), (key, certificate), (tmp_path / "none.pem", key), (key, key)):
        os.chmod(cert_file, 0o600) if Path(cert_file).exists() else None
        with pytest.raises(ConfigError) as caught:
            Path(key_file).chmod(0o600)
            configured(cert_file, key_file)
        assert caught.value.param == "api.tls_cert"
        assert str(cert_file) in caught.value.message
    for mode in (0o640, 0o604, 0o644):
        key.chmod(mode)
        with pytest.raises(KeyFileError, match=r"key\.pem"):
            configured(certificate, key)
    with pytest.raises(KeyFileError, match=r"missing\.pem"):
        configured(other, tmp_path / "missing.pem")


def test_a_key_that_needs_a_passphrase_asks_nobody(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue(tmp_path / "one", "node.example")
    secret = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hunter2"),
        )
    )
    with pytest.raises(ConfigError, match="passphrase"):
        configured(certificate, key)


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (("node.example", "127.0.0.1"), "node.example"),
        (("*.example.org",), "node.example.org"),
        (("127.0.0.1",), "127.0.0.1"),
        (("*.example.org", "real.example"), "real.example"),
    ],
)
def test_the_name_a_certificate_is_for(authority: Authority, tmp_path: Path, names: tuple[str, ...], name: str) -> None:
    tls = configured(*authority.issue(tmp_path / "one", *names))
    assert tls is not None
    assert tls.server_name == name


async def served(door: Door, tls: Tls) -> HttpServer:
    return HttpServer(build_app(door.parts), "127.0.0.1", 0, tls)


async def test_clients_speak_to_it_over_https_and_to_nobody_else(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue(tmp_path / "one", "node.example")
    stranger = Authority(tmp_path / "stranger")
    tls = configured(certificate, key)
    assert tls is not None
    async with opened_door(tmp_path / "home") as door, await served(door, tls) as server:
        assert server.url.startswith("https://127.0.0.1:")
        for ca in (authority.file, certificate):
            async with AsyncTirami(server.url, ca=str(ca), server_name="node.example") as client:
                assert (await client.health()).model_loaded
        for ca, name in ((stranger.file, "node.example"), (authority.file, "other.example"), (authority.file, None)):
            async with AsyncTirami(server.url, ca=str(ca), server_name=name) as client:
                with pytest.raises(httpx2.ConnectError):
                    await client.health()
        async with AsyncTirami(server.url, server_name="node.example") as client:
            with pytest.raises(httpx2.ConnectError):
                await client.health()
        async with httpx2.AsyncClient() as plain:
            with pytest.raises(httpx2.TransportError):
                await plain.get(server.url.replace("https", "http") + "/health")
    with pytest.raises(ConfigError, match="trust"):
        AsyncTirami("https://127.0.0.1:1", ca=str(tmp_path / "nothing.pem"))


async def test_ssl_cert_file_is_enough(authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = configured(*authority.issue(tmp_path / "one", "127.0.0.1"))
    assert tls is not None
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with opened_door(tmp_path / "home") as door, await served(door, tls) as server:
        async with AsyncTirami(server.url) as client:
            assert (await client.health()).model_loaded


async def silent(server: HttpServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that does not begin its handshake."""
    host, port = server.url.removeprefix("https://").split(":")
    return await asyncio.open_connection(host, int(port))


async def test_connections_in_their_handshake_are_bounded_in_number_and_time(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tirami.node.http.connection.MAX_CONNECTIONS", 3)
    tls = configured(*authority.issue(tmp_path / "one", "127.0.0.1"))
    assert tls is not None
    async with opened_door(tmp_path / "home") as door, await served(door, tls) as server:
        async with AsyncTirami(server.url, ca=str(authority.file)) as client:
            assert (await client.health()).model_loaded  # and its connection stays
            waiting = [await silent(server) for _ in range(2)]
            reader, writer = await silent(server)
            assert await asyncio.wait_for(reader.read(), 5) == b"", "there are three already"
            writer.close()
            assert (await client.health()).model_loaded
        for reader, writer in waiting:
            writer.write(b"GET / HTTP/1.1\r\n\r\n")  # no handshake: given up at once, and makes room
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
        monkeypatch.setattr("tirami.node.http.handshakes.HANDSHAKE_S", 0.2)
        reader, writer = await silent(server)
        assert await asyncio.wait_for(reader.read(), 5) == b"", "it took too long"
        writer.close()
        async with AsyncTirami(server.url, ca=str(authority.file)) as client:
            assert (await client.health()).model_loaded


async def test_what_ends_the_handshakes_ends_the_server(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(self: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("tirami.node.http.handshakes.Handshakes.run", run)
    tls = configured(*authority.issue(tmp_path / "one", "127.0.0.1"))
    async with opened_door(tmp_path / "home") as door:
        async with HttpServer(build_app(door.parts), "127.0.0.1", 0, tls) as server:
            with pytest.raises(RuntimeError, match="a fault"):
                await server.ended()


async def test_old_protocols_are_refused(authority: Authority, tmp_path: Path) -> None:
    tls = configured(*authority.issue(tmp_path / "one", "127.0.0.1"))
    assert tls is not None
    assert tls.context.minimum_version >= ssl.TLSVersion.TLSv1_2


async def shown_certificate(server: HttpServer) -> bytes:
    """What a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, port = server.url.removeprefix("https://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    assert isinstance(shown, bytes)
    return shown


async def test_a_renewed_certificate_is_taken_up_and_a_broken_one_is_not(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tirami.node.http.tls.FOLLOW_EVERY_S", 0.02)
    certificate, key = authority.issue(tmp_path / "one", "127.0.0.1")
    tls = configured(certificate, key)
    assert tls is not None
    async with opened_door(tmp_path / "home") as door, await served(door, tls) as server:
        first = await shown_certificate(server)
        certificate.write_text("half of a fi")
        await asyncio.sleep(0.2)
        assert await shown_certificate(server) == first
        authority.issue(tmp_path / "one", "127.0.0.1")
        for _ in range(200):
            if await shown_certificate(server) != first:
                break
            await asyncio.sleep(0.02)
        assert await shown_certificate(server) != first
        key.chmod(0o644)
        assert not tls.renew()
        async with AsyncTirami(server.url, ca=str(authority.file)) as client:
            assert (await client.health()).model_loaded
