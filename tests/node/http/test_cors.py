"""Pages of listed origins may read; nobody becomes the owner by it, and everybody else sees what they saw before."""

from pathlib import Path

import aiohttp
import pytest

from tests.node.conftest import Door, opened_door

PAGE = "https://app.example"
CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "say hello now"}], "max_tokens": 5}
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os,x-evil, x-stainless-a:b",
}


def cors(reply: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in reply.headers.items() if name.lower().startswith("access-control")}


@pytest.mark.parametrize("path", [CHAT, "/v1/tirami/balance", "/v1/models", "/no/such/route"])
async def test_a_preflight_of_a_listed_origin_is_answered(tmp_path: Path, path: str) -> None:
    async with opened_door(tmp_path, **{"api.cors_origins": ["https://other.example", PAGE]}) as door:
        async with door.http.options(door.url + path, headers={"origin": PAGE, **PREFLIGHT}) as reply:
            assert reply.status == 204
            told = cors(reply)
            assert told["access-control-allow-origin"] == PAGE
            assert {"GET", "POST", "DELETE"} == set(told["access-control-allow-methods"].split(", "))
            allowed = set(told["access-control-allow-headers"].split(", "))
            assert {"authorization", "content-type", "x-tirami-node-id", "x-request-id", "x-stainless-os"} <= allowed
            assert not {"x-evil", "x-stainless-a:b"} & allowed
            assert "access-control-allow-credentials" not in told
            assert reply.headers["vary"].lower() == "origin"
            assert "x-tirami-request-id" in reply.headers


async def test_answers_errors_and_streams_can_be_read_by_a_listed_origin(tmp_path: Path) -> None:
    async with opened_door(tmp_path, **{"api.cors_origins": [PAGE]}) as door:
        _, token = await door.agent()
        bearer = {"authorization": f"Bearer {token}"}
        for body, sent, status in (
            (HELLO, bearer, 200),
            ({**HELLO, "stream": True}, bearer, 200),
            ({"messages": 1}, bearer, 400),
            (HELLO, {}, 401),
            (HELLO, {"authorization": "Bearer wrong"}, 401),
        ):
            async with door.http.post(door.url + CHAT, json=body, headers={"origin": PAGE, **sent}) as reply:
                await reply.read()
                assert reply.status == status
                told = cors(reply)
                assert told["access-control-allow-origin"] == PAGE
                assert {"x-tirami-request-id", "x-request-id"} <= set(told["access-control-expose-headers"].split(", "))
                assert "access-control-allow-credentials" not in told
        async with door.http.get(door.url + "/no/such/route", headers={"origin": PAGE}) as reply:
            assert (reply.status, cors(reply)["access-control-allow-origin"]) == (404, PAGE)


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.evil",
        "http://app.example",
        "https://app.example:444",
        "https://APP.example",
        "null",
        "*",
        "",
    ],
)
async def test_any_other_origin_gets_no_headers(tmp_path: Path, origin: str) -> None:
    async with opened_door(tmp_path, **{"api.cors_origins": [PAGE]}) as door:
        async with door.http.options(door.url + CHAT, headers={"origin": origin, **PREFLIGHT}) as reply:
            assert (reply.status, cors(reply)) == (405, {})
            assert reply.headers["vary"].lower() == "origin"
        async with door.http.get(door.url + "/health", headers={"origin": origin}) as reply:
            assert (reply.status, cors(reply)) == (200, {})


async def test_without_a_list_nothing_is_said_about_origins(door: Door) -> None:
    async with door.http.options(door.url + CHAT, headers={"origin": PAGE, **PREFLIGHT}) as reply:
        assert (reply.status, cors(reply)) == (405, {})
        assert "vary" not in reply.headers
    async with door.http.get(door.url + "/health", headers={"origin": PAGE}) as reply:
        assert cors(reply) == {}


async def test_a_listed_origin_is_no_owner(tmp_path: Path) -> None:
    """From loopback, without a token or with the bearer ``local``: that is the person at this machine, not a page."""
    async with opened_door(tmp_path, **{"api.cors_origins": [PAGE]}) as door:
        for sent in ({}, {"authorization": "Bearer local"}):
            async with door.http.post(door.url + CHAT, json=HELLO, headers={"origin": PAGE, **sent}) as reply:
                assert reply.status == 401
            async with door.http.post(door.url + CHAT, json=HELLO, headers=sent) as reply:
                assert reply.status == 200


async def test_a_page_on_the_open_web_may_reach_this_machine_when_it_is_listed(tmp_path: Path) -> None:
    private = {"access-control-request-private-network": "true"}
    async with opened_door(tmp_path, **{"api.cors_origins": [PAGE]}) as door:
        for origin, answer in ((PAGE, "true"), ("https://evil.example", None)):
            async with door.http.options(door.url + CHAT, headers={"origin": origin, **PREFLIGHT, **private}) as reply:
                assert cors(reply).get("access-control-allow-private-network") == answer
