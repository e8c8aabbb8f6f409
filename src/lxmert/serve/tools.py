"""Tools for language models, by the Model Context Protocol over streamable HTTP at `/mcp`."""

from typing import Annotated, Any, TypeVar

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import Field
from starlette.routing import BaseRoute

from lxmert.serve.errors import RequestError
from lxmert.serve.messages import (
    AskRequest,
    AskResponse,
    ExplainRequest,
    ExplainResponse,
    ImageRequest,
    ImageResponse,
    MatchRequest,
    MatchResponse,
    RegionsRequest,
    RegionsResponse,
)
from lxmert.serve.service import Service

_INSTRUCTIONS = (
    "Answers questions about images. Give an image in one way: in base64, by a web address if the "
    "server allows it, or by the image_id of an earlier result."
)

Base64 = Annotated[str | None, Field(description="The image file in base64.")]
ImageId = Annotated[str | None, Field(description="image_id of an earlier result.")]
Url = Annotated[str | None, Field(description="Web address of the image, if allowed.")]

Q = TypeVar("Q", bound=ImageRequest)
R = TypeVar("R", bound=ImageResponse)


def make_tools(service: Service) -> MCPServer:
    """Return the MCP server of a service."""
    server = MCPServer("lxmert", instructions=_INSTRUCTIONS, log_level="WARNING")

    async def ask_image(
        question: str,
        image: Base64 = None,
        image_id: ImageId = None,
        image_url: Url = None,
        top_k: int = 5,
    ) -> AskResponse:
        """Answer a question about an image, with the probability of each answer."""
        fields = _given(image, image_id, image_url)
        request = _check(AskRequest, question=question, top_k=top_k, **fields)
        return await _answer(service, request, AskResponse)

    async def find_regions(
        image: Base64 = None, image_id: ImageId = None, image_url: Url = None
    ) -> RegionsResponse:
        """Find the objects in an image, with boxes in pixels."""
        request = _check(RegionsRequest, **_given(image, image_id, image_url))
        return await _answer(service, request, RegionsResponse)

    async def explain_answer(
        question: str,
        image: Base64 = None,
        image_id: ImageId = None,
        image_url: Url = None,
    ) -> ExplainResponse:
        """Answer a question, and score how much each object and word matters for the answer."""
        fields = _given(image, image_id, image_url)
        request = _check(ExplainRequest, question=question, methods=["occlusion"], **fields)
        return await _answer(service, request, ExplainResponse)

    async def match_captions(
        captions: list[str],
        image: Base64 = None,
        image_id: ImageId = None,
        image_url: Url = None,
    ) -> MatchResponse:
        """Return the probability of each caption that it describes an image."""
        fields = _given(image, image_id, image_url)
        request = _check(MatchRequest, captions=captions, **fields)
        return await _answer(service, request, MatchResponse)

    for tool in (ask_image, find_regions, explain_answer, match_captions):
        server.add_tool(tool)
    return server


def make_routes(server: MCPServer, service: Service) -> list[BaseRoute]:
    """Return the routes of an MCP server; any worker can answer any request."""
    # Host and origin are checked by `Guard`, for all routes alike.
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(
        json_response=True,
        stateless_http=True,
        max_request_body_size=service.settings.max_body_bytes,
        transport_security=security,
    )
    return list(app.routes)


def _given(image: str | None, image_id: str | None, image_url: str | None) -> dict[str, str]:
    fields = {"image": image, "image_id": image_id, "image_url": image_url}
    return {name: value for name, value in fields.items() if value is not None}


def _check(kind: type[Q], **fields: Any) -> Q:
    try:
        return kind(**fields)
    except ValueError as error:
        raise ToolError(str(error)) from error


async def _answer(service: Service, request: ImageRequest, kind: type[R]) -> R:
    try:
        response = await service.answer(request)
    except RequestError as error:
        raise ToolError(str(error)) from error
    assert isinstance(response, kind)
    return response
