"""Models: what can be asked for and at what price, and what lies on this machine."""

from typing import Annotated, Literal

from pydantic import Field

from tirami.api.schemas.base import Body, Query, Reply

ModelName = Annotated[str, Field(min_length=1, max_length=256)]
ModelState = Literal["available", "fetching", "installed", "loading", "loaded"]


class ModelEntry(Reply):
    """A model that a request may name. One that is only installed is loaded by the first request for it; one that is
    ``remote`` is bought of a peer, whose price is told where there are several the best's."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "tirami"
    state: ModelState | Literal["remote"]
    providers: int = 0
    """Peers that serve it now and that this node would buy from."""
    digest: str
    size_bytes: int
    """Of the file; 0 where it is not ours."""
    context_length: int
    parameters: int
    active_parameters: int
    quantization: str
    price_in_utrm: int
    price_out_utrm: int
    """µTRM a token now."""


class ModelList(Reply):
    object: Literal["list"] = "list"
    data: list[ModelEntry]


class ModelRequest(Body):
    """``pull`` fetches a model of the catalogue, ``load`` brings an installed one into memory, ``unload`` ends that."""

    model: ModelName
    action: Literal["pull", "load", "unload"]


class ModelQuery(Query):
    model: ModelName


class FetchReport(Reply):
    """A download; ``bytes_total`` is an estimate until the last byte, 0 before the first."""

    bytes_done: int
    bytes_total: int


class ModelReport(Reply):
    """A model of the catalogue, of the cache or of the configuration.

    ``state``: ``available`` to be fetched, being fetched, ``installed`` on this machine, on its way into memory, or
    ``loaded``.
    """

    model: str
    state: ModelState
    digest: str | None
    """SHA-256 of the file here; of one that is to be fetched, if that is known before."""
    size_bytes: int
    """Of the file; of one that is not here, the catalogue's."""
    memory_bytes: int
    """In use for it; 0 unless it is loaded or loading."""
    users: int
    """Requests that have it or wait for it."""
    fetch: FetchReport | None
    problem: str | None
    """Why the last attempt to fetch, read or load it failed."""


class ModelsReply(Reply):
    memory_budget_bytes: int
    memory_used_bytes: int
    models: list[ModelReport]


class RemovedModel(Reply):
    model: str
    freed_bytes: int
