"""``/v1/models``: what a request may name; ``/v1/tirami/models``: what this machine has, and changing that."""

from starlette.responses import Response

from tirami.api.schemas import (
    ModelEntry,
    ModelList,
    ModelQuery,
    ModelRequest,
    ModelsReply,
    RemovedModel,
)
from tirami.core.errors import ModelNotFound
from tirami.infer import ModelCard
from tirami.market import Provider
from tirami.node.http.handlers import Call, handles
from tirami.node.http.replies import json_reply
from tirami.node.models import change_model, list_models, remove_model, state_of


@handles("models")
async def models(call: Call) -> ModelList:
    cards = await call.parts.engines.described()
    own = {name: card for name, card in cards.items() if isinstance(card, ModelCard)}
    elsewhere = _elsewhere(call, None)
    here = [_entry(call, name, card, len(elsewhere.get(name, ()))) for name, card in own.items()]
    return ModelList(data=here + [_remote(call, found) for name, found in elsewhere.items() if name not in own])


@handles("model")
async def model(call: Call) -> ModelEntry:
    name = call.request.path_params["model"]
    card, found = await call.parts.engines.description(name), _elsewhere(call, name).get(name, [])
    if isinstance(card, ModelCard):
        return _entry(call, name, card, len(found))
    if found:
        return _remote(call, found)
    raise ModelNotFound(f"this node has no model {name!r}", param="model")


@handles("installed_models")
async def installed_models(call: Call) -> ModelsReply:
    return await list_models(call.parts.engines)


@handles("change_model")
async def change(call: Call) -> Response:
    body: ModelRequest = call.body
    return json_reply(await change_model(call.parts.engines, body), 202)


@handles("remove_model")
async def remove(call: Call) -> RemovedModel:
    query: ModelQuery = call.query
    return await remove_model(call.parts.engines, query.model)


def _elsewhere(call: Call, name: str | None) -> dict[str, list[Provider]]:
    """What peers serve that this node would buy of them, by name, the best offer first."""
    view = call.parts.membership.view
    return {} if view is None else view.by_name(name)


def _remote(call: Call, found: list[Provider]) -> ModelEntry:
    offering = found[0].offering
    return ModelEntry(
        id=offering.name,
        created=call.parts.started_ms // 1000,
        state="remote",
        providers=len(found),
        digest=offering.model_digest.hex(),
        size_bytes=0,
        context_length=offering.context_length,
        parameters=offering.parameters,
        active_parameters=offering.active_parameters,
        quantization=offering.quantization,
        price_in_utrm=offering.price_in,
        price_out_utrm=offering.price_out,
    )


def _entry(call: Call, name: str, card: ModelCard, providers: int) -> ModelEntry:
    price = call.parts.load.price(card.active_parameters)
    return ModelEntry(
        id=name,
        created=call.parts.started_ms // 1000,
        state=state_of(call.parts.engines, name),
        providers=providers,
        digest=card.digest.hex(),
        size_bytes=card.size_bytes,
        context_length=card.context_length,
        parameters=card.parameters,
        active_parameters=card.active_parameters,
        quantization=card.quantization,
        price_in_utrm=price.prompt,
        price_out_utrm=price.completion,
    )
