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
from tirami.node.http.handlers import Call, handles
from tirami.node.http.replies import json_reply
from tirami.node.models import change_model, list_models, remove_model, state_of


@handles("models")
async def models(call: Call) -> ModelList:
    cards = await call.parts.engines.described()
    return ModelList(data=[_entry(call, name, card) for name, card in cards.items() if isinstance(card, ModelCard)])


@handles("model")
async def model(call: Call) -> ModelEntry:
    name = call.request.path_params["model"]
    card = await call.parts.engines.description(name)
    if not isinstance(card, ModelCard):
        raise ModelNotFound(f"this node has no model {name!r}", param="model")
    return _entry(call, name, card)


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


def _entry(call: Call, name: str, card: ModelCard) -> ModelEntry:
    price = call.parts.load.price(card.active_parameters)
    return ModelEntry(
        id=name,
        created=call.parts.started_ms // 1000,
        state=state_of(call.parts.engines, name),
        digest=card.digest.hex(),
        size_bytes=card.size_bytes,
        context_length=card.context_length,
        parameters=card.parameters,
        active_parameters=card.active_parameters,
        quantization=card.quantization,
        price_in_utrm=price.prompt,
        price_out_utrm=price.completion,
    )
