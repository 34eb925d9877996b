"""``GET /metrics`` in whichever of Prometheus' two text formats the scraper asks for."""

from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from starlette.responses import Response

from tirami.node.http.collector import NodeCollector
from tirami.node.http.handlers import Call, handles

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text"


@handles("metrics", shows_book=True)
async def metrics(call: Call) -> Response:
    families = NodeCollector(call.parts, call.caller.account)
    wanted = [media.partition(";")[0].strip() for media in call.request.headers.get("accept", "").split(",")]
    if OPENMETRICS in wanted:
        media = f"{OPENMETRICS}; version=1.0.0; charset=utf-8"
        text = openmetrics.generate_latest(families)  # type: ignore[no-untyped-call]
        return Response(text, media_type=media)
    return Response(generate_latest(families), media_type=TEXT)
