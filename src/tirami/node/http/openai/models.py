"""``/v1/models``."""

from tirami.api.schemas import ModelEntry, ModelList
from tirami.infer import Engine
from tirami.node.http.handlers import Call, handles


@handles("models")
async def models(call: Call) -> ModelList:
    engine = call.parts.engines.engine
    return ModelList(data=[] if engine is None else [_model_entry(call, engine)])


@handles("model")
async def model(call: Call) -> ModelEntry:
    return _model_entry(call, call.parts.engines.find(call.request.path_params["model"]))


def _model_entry(call: Call, engine: Engine) -> ModelEntry:
    card, price = engine.card, call.parts.load.price(engine.card.active_parameters)
    return ModelEntry(
        id=card.name,
        created=call.parts.started_ms // 1000,
        digest=card.digest.hex(),
        context_length=card.context_length,
        parameters=card.parameters,
        active_parameters=card.active_parameters,
        quantization=card.quantization,
        price_in_utrm=price.prompt,
        price_out_utrm=price.completion,
    )
