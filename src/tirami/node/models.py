"""Operations on the models of a running node: list, pull, load, unload, remove."""

import asyncio
from contextlib import suppress

from tirami.api.schemas import FetchReport, ModelReport, ModelRequest, ModelsReply, RemovedModel
from tirami.api.schemas.models import ModelState
from tirami.core.errors import Conflict, ModelLoadError, ModelNotFound, TiramiError
from tirami.core.uninterrupted import uninterrupted
from tirami.infer import CATALOGUE, ModelCard, Progress, installed, pinned, remove
from tirami.node.engines import EngineRoom, Pull, PullState


def state_of(engines: EngineRoom, name: str) -> ModelState:
    """How near a model is."""
    place = engines.pool.places.get(name)
    if place is not None:
        return "loading" if place.engine is None else "loaded"
    if engines.pulls.running(name):
        return "fetching"
    return "installed" if name in engines.loader.installed() else "available"


async def list_models(engines: EngineRoom) -> ModelsReply:
    """Everything that can be served here, is on its way, or could be fetched."""
    cards = await engines.described()
    loader = engines.loader
    names = dict.fromkeys((*cards, *engines.pool.places, *loader.installed(), *loader.further, *CATALOGUE))
    return ModelsReply(
        memory_budget_bytes=engines.pool.budget,
        memory_used_bytes=engines.pool.used,
        models=[_report(engines, name, cards.get(name)) for name in names],
    )


async def change_model(engines: EngineRoom, request: ModelRequest) -> ModelReport:
    """Begin what is asked; :func:`list_models` tells how it goes on.

    Raises:
        ModelNotFound: not in the catalogue, or, to load it, not installed.
        ModelLoadError: offline; or the last load failed and it is too early for another.
        Conflict: to unload a model that is in use.
    """
    name = request.model
    if request.action == "pull":
        _begin_pull(engines, name, None)
    elif not engines.knows(name):
        raise ModelNotFound(f"the model {name!r} is not installed", param="model")
    elif request.action == "load":
        engines.pool.load(name)
    else:
        await engines.pool.unload(name)
    return _report(engines, name, await engines.description(name))


async def pull_model(engines: EngineRoom, name: str, progress: Progress | None) -> ModelReport:
    """Fetch a model and wait until it is here. Raises as :func:`change_model`, and why it cannot be had."""
    await engines.pulls.wait(_begin_pull(engines, name, progress))
    return _report(engines, name, await engines.description(name))


async def remove_model(engines: EngineRoom, name: str) -> RemovedModel:
    """Delete a model's files from the cache; a download of it ends, an idle engine too.

    Raises:
        ModelNotFound: there is nothing of it in the cache.
        Conflict: it is in use.
    """
    await engines.pulls.stop(name)
    place = engines.pool.places.get(name)
    if place is not None and name not in installed(engines.loader.models_dir):
        raise ModelNotFound(f"there is no file of {name!r} in the cache", param="model")
    if place is not None and place.in_use:
        raise Conflict(f"the model {name!r} is in use", param="model")
    async with engines.pool.withdrawn(name):  # or a request could load it again before its file is gone
        freed = await uninterrupted(asyncio.to_thread(remove, name, engines.loader.models_dir))
    return RemovedModel(model=name, freed_bytes=freed)


def _begin_pull(engines: EngineRoom, name: str, progress: Progress | None) -> Pull:
    if name not in CATALOGUE and name not in engines.loader.further:
        raise ModelNotFound(f"the catalogue has no {name!r}; it has {', '.join(CATALOGUE)}", param="model")
    if engines.loader.offline and name not in engines.loader.installed():
        raise ModelLoadError(f"{name} is not installed, and this node is offline and fetches nothing")
    return engines.pulls.start(name, progress)


def _report(engines: EngineRoom, name: str, card: ModelCard | TiramiError | None) -> ModelReport:
    place, pull, state = engines.pool.places.get(name), engines.pulls.known.get(name), state_of(engines, name)
    digest = card.digest if isinstance(card, ModelCard) else None
    if card is None:
        digest = pinned(name, engines.loader.models_dir, engines.loader.pins)
    return ModelReport(
        model=name,
        state=state,
        digest=digest.hex() if digest else None,
        size_bytes=card.size_bytes if isinstance(card, ModelCard) else _size(engines, name),
        memory_bytes=place.cost if place else 0,
        users=place.users if place else 0,
        fetch=FetchReport(bytes_done=pull.done, bytes_total=pull.total) if pull and state == "fetching" else None,
        problem=_problem(engines, name, pull, card),
    )


def _problem(engines: EngineRoom, name: str, pull: Pull | None, card: ModelCard | TiramiError | None) -> str | None:
    if isinstance(card, TiramiError):
        return card.message
    if (failure := engines.pool.failure(name)) is not None:
        return failure.message
    if card is None and pull is not None and pull.state is PullState.FAILED and pull.error is not None:
        return pull.error.message
    return None


def _size(engines: EngineRoom, name: str) -> int:
    """Of a file that no card describes, else the catalogue's."""
    path = engines.loader.installed().get(name)
    with suppress(OSError):
        if path is not None:
            return path.stat().st_size
    return next((source.size for source in CATALOGUE.get(name, ())), 0)
