"""The FastAPI application: routes of the API, of the page and of saved reports."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse

from lxmert.serve.bodies import body_schema, read_batch, read_request, schemas
from lxmert.serve.errors import RequestError
from lxmert.serve.guard import Guard
from lxmert.serve.messages import (
    KINDS,
    ErrorResponse,
    ExamplesResponse,
    HealthResponse,
    ImageRequest,
    ModelResponse,
)
from lxmert.serve.pages import Examples, open_asset, open_docs, open_page
from lxmert.serve.security import REPORT_POLICY
from lxmert.serve.service import Service

_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorResponse, "description": "The request is refused."},
    "5XX": {"model": ErrorResponse, "description": "The server is not ready, or too slow."},
}


def build_app(service: Service) -> FastAPI:
    """Return the application of a service."""
    tools = _make_tools(service) if service.settings.mcp else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        if service.settings.workers > 1:  # until then, others accept the connections
            await asyncio.to_thread(service.queue.ready.wait)
        async with tools.session_manager.run() if tools is not None else nullcontext():
            yield
        await service.stop()

    app = FastAPI(
        title="lxmert",
        description="Questions about images, answered by LXMERT from detected regions.",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_exception_handler(HTTPException, _to_request_error)
    _add_state(app, service)
    _add_pages(app, service)
    for kind in KINDS:
        _add_kind(app, service, *kind)
    if tools is not None:
        from lxmert.serve.tools import make_routes

        app.router.routes.extend(make_routes(tools, service))
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    app.add_middleware(Guard, settings=service.settings, metrics=service.metrics)
    return app


def _make_tools(service: Service) -> Any:
    try:
        from lxmert.serve.tools import make_tools
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "--mcp needs the package mcp: pip install 'lxmert[serve,mcp]'"
        ) from error
    return make_tools(service)


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/reports/{name}", response_class=HTMLResponse, responses=_ERRORS)
    async def report(name: str) -> Response:
        """Return a saved report."""
        path = service.reports.find(name)
        if path is None:
            raise RequestError(404, "there is no such report: it may have been removed")
        return FileResponse(path, headers={"Content-Security-Policy": REPORT_POLICY})

    hidden = APIRouter(include_in_schema=False)
    hidden.get("/docs")(_later(open_docs))
    hidden.get("/assets/{name}")(_asset)
    if service.settings.page:
        hidden.get("/")(_later(open_page))
        found = Examples(service.settings.examples)
        hidden.get("/examples")(_later(lambda: _json(ExamplesResponse(examples=found.items))))

        @hidden.get("/examples/{name}")
        async def example(name: str) -> Response:
            return found.open(name)

    app.include_router(hidden)


def _later(make: Callable[[], Response]) -> Callable[[], Awaitable[Response]]:
    async def handle() -> Response:
        return make()

    return handle


async def _asset(name: str) -> Response:
    return open_asset(name)


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/health", response_model=HealthResponse, responses={503: {"model": HealthResponse}})
    async def health() -> Response:
        """Return 200 once the model answers, otherwise 503."""
        status = service.status
        return _json(HealthResponse(status=status), 200 if status == "ready" else 503)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Return the metrics in Prometheus' format."""
        content, kind = service.metrics.render()
        return Response(content, media_type=kind)

    @app.get("/v1/model", response_model=ModelResponse, responses=_ERRORS)
    async def model() -> Response:
        """Return what the model can do and what the server accepts."""
        return _json(service.describe())


def _add_kind(
    app: FastAPI,
    service: Service,
    name: str,
    kind: type[ImageRequest],
    *others: type[BaseModel],
) -> None:
    """Add the path of one request, and that of a batch of them; see `KINDS`."""
    response, batch, results = others

    async def one(request: Request) -> Response:
        return _json(await service.answer(await read_request(request, kind)))

    async def several(request: Request) -> Response:
        rows = await read_batch(request, kind)
        return _json(results(results=await service.answer_all(tuple(rows))))

    for path, body, model, handle in (
        (name, kind, response, one),
        (f"{name}/batch", batch, results, several),
    ):
        app.post(
            f"/v1/{path}",
            name=path.replace("/", "_"),
            description=body.__doc__,
            response_model=model,
            responses=_ERRORS,
            openapi_extra=body_schema(body),
        )(handle)


def _json(value: BaseModel, status: int = 200) -> Response:
    return Response(value.model_dump_json(), status, media_type="application/json")


async def _to_request_error(_: Request, error: Exception) -> Response:
    """Pass errors of routing on to `Guard`."""
    assert isinstance(error, HTTPException)
    raise RequestError(error.status_code, f"{error.detail.lower()}: see /docs for what there is")


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        bodies = schemas(*(kind for row in KINDS for kind in (row[1], row[3])))
        schema["components"]["schemas"] |= bodies
        app.openapi_schema = schema
    return app.openapi_schema
