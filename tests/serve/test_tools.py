"""The MCP tools, by the client of the package mcp over streamable HTTP."""

import asyncio
from typing import Any

import pytest
from servers import QUESTION, SCENE, bundled, in_base64, running

mcp = pytest.importorskip("mcp", reason="needs mcp")
from mcp.client.client import Client  # noqa: E402


def call(url: str, *calls: tuple[str, dict[str, Any]]) -> tuple[list[str], list[Any]]:
    """Return the names of the tools, and the result of each call."""

    async def run() -> tuple[list[str], list[Any]]:
        async with Client(f"{url}/mcp") as client:
            tools = await client.list_tools()
            results = [await client.call_tool(name, arguments) for name, arguments in calls]
            return [tool.name for tool in tools.tools], results

    return asyncio.run(run())


def test_tools_answer_as_the_pipeline() -> None:
    with running(mcp=True) as server:
        url = str(server.base_url).rstrip("/")
        image = {"image": in_base64()}
        names, (asked, found, explained, matched, wrong) = call(
            url,
            ("ask_image", {**image, "question": QUESTION, "top_k": 2}),
            ("find_regions", image),
            ("explain_answer", {**image, "question": QUESTION}),
            ("match_captions", {**image, "captions": ["a ball"]}),
            ("ask_image", {"question": QUESTION}),
        )
        assert names == ["ask_image", "find_regions", "explain_answer", "match_captions"]
        answers = [each["answer"] for each in asked.structured_content["answers"]]
        assert answers == [each.answer for each in bundled().ask(SCENE, QUESTION, top_k=2)]
        labels = [each["label"] for each in found.structured_content["regions"]]
        assert labels == bundled().labels(bundled().regions(SCENE))
        assert explained.structured_content["methods"][0]["name"] == "occlusion"
        assert matched.is_error
        assert "no matching head" in matched.content[0].text
        assert wrong.is_error
        assert "exactly one of image" in wrong.content[0].text


def test_tools_are_off_by_default() -> None:
    with running() as server:
        assert server.post("/mcp", json={}).status_code == 404


def test_tools_need_the_login() -> None:
    with running(mcp=True, api_keys=("key-of-sixteen-or-more",)) as server:
        assert server.post("/mcp", json={}).status_code == 401
        foreign = {"Origin": "https://evil.example", "X-API-Key": "key-of-sixteen-or-more"}
        assert server.post("/mcp", json={}, headers=foreign).status_code == 403
