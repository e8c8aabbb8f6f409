"""The Python client: the pipeline's methods and results over HTTP, without torch."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image
from servers import QUESTION, SCENE, RunningServer, bundled, running, server
from test_api import make_matcher
from web_server import Handler, serve

from lxmert import Client
from lxmert.serve.client import ServerError
from lxmert.serve.messages import ModelResponse

__all__ = ["server"]


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Client]:
    with Client(str(server.base_url)) as client:
        yield client


@pytest.mark.parametrize("kind", ["path", "name", "bytes", "PIL", "array"])
def test_every_kind_of_image_is_asked_about(client: Client, kind: str) -> None:
    image = {
        "path": SCENE,
        "name": str(SCENE),
        "bytes": SCENE.read_bytes(),
        "PIL": Image.open(SCENE),
        "array": np.asarray(Image.open(SCENE).convert("RGB")),
    }[kind]
    found, expected = client.ask(image, QUESTION, top_k=2), bundled().ask(SCENE, QUESTION, top_k=2)
    assert [each.answer for each in found] == [each.answer for each in expected]
    assert found[0].score == pytest.approx(expected[0].score, abs=1e-5)


def images_in_memory() -> dict[str, Image.Image]:
    """Return images of which a PNG file does not keep how they are read."""
    scene = Image.open(SCENE).convert("RGB")
    turned = scene.copy()
    turned.getexif()[0x0112] = 6
    levels = np.asarray(scene.convert("L"))
    few = scene.convert("P")
    few.info["transparency"] = 0
    return {
        "turned": turned,
        "CMYK": scene.convert("CMYK"),
        "float": Image.fromarray(levels.astype(np.float32) / 255),
        "12 bits of 16": Image.fromarray(levels.astype(np.uint16)),
        "32 bits": Image.fromarray(levels.astype(np.int32)),
        "palette": few,
        "YCbCr": scene.convert("YCbCr"),
        "gray and alpha": scene.convert("LA"),
    }


@pytest.mark.parametrize("kind", images_in_memory())
def test_an_image_in_memory_is_read_as_by_the_pipeline(client: Client, kind: str) -> None:
    """Bugs: turned photos stayed on their side, 16 bits became black, CMYK was an error."""
    image = images_in_memory()[kind]
    found, expected = client.regions(image), bundled().regions(image)
    assert found.image_size == expected.image_size
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.features, expected.features, rtol=1e-3, atol=1e-3)


def test_an_array_that_is_no_image_is_refused_as_by_the_pipeline(client: Client) -> None:
    for array in (np.zeros((4, 5, 3), np.float32), np.zeros((4, 5, 4), np.uint8)):
        with pytest.raises(ValueError, match=r"expected uint8 \[height, width, 3\] in RGB"):
            client.ask(array, QUESTION)  # type: ignore[arg-type]


def test_regions_are_those_of_the_pipeline(client: Client) -> None:
    found, expected = client.regions(SCENE), bundled().regions(SCENE)
    assert (found.image_size, found.found) == (expected.image_size, expected.found)
    for name in ("boxes", "features", "object_ids", "object_scores", "attribute_ids"):
        left, right = getattr(found, name), getattr(expected, name)
        assert left.dtype == right.dtype
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-4)


def test_an_explanation_is_typed(client: Client, server: RunningServer) -> None:
    found = client.explain(SCENE, QUESTION, answers=["mug"], methods=["occlusion"], save=True)
    expected = bundled().explain(SCENE, QUESTION, answers=["mug"], methods=["occlusion"])
    assert [each.answer for each in found.answers] == [each.answer for each in expected.answers]
    assert found.methods[0].regions[0] == pytest.approx(expected.relevance, abs=1e-4)
    assert server.get(found.report or "").status_code == 200


def test_an_image_is_sent_once(server: RunningServer) -> None:
    sizes: list[int] = []
    with Client(str(server.base_url)) as client:
        client._http.event_hooks = {"request": [lambda request: sizes.append(len(request.content))]}
        for _ in range(3):
            client.ask(SCENE, QUESTION)
    assert sizes[0] > SCENE.stat().st_size
    assert max(sizes[1:]) < 500


def test_pairs_are_answered_or_refused_one_by_one(client: Client) -> None:
    good, bad = client.ask_many([(SCENE, QUESTION), (b"no image", QUESTION)])
    assert isinstance(good, list)
    assert good[0].answer == "yellow"
    assert isinstance(bad, ServerError)
    assert bad.status == 400


def test_a_matcher_matches() -> None:
    matcher, captions = make_matcher(), ["a yellow ball", "a red mug"]
    with running(lambda: matcher) as server, Client(str(server.base_url)) as client:
        assert client.match(SCENE, captions) == pytest.approx(
            matcher.match(SCENE, captions), abs=1e-5
        )


def test_errors_and_warnings_are_the_server_s(client: Client) -> None:
    with pytest.raises(ServerError, match="no image that is read here") as refused:
        client.ask(b"no image", QUESTION)
    assert refused.value.status == 400
    with pytest.raises(ServerError, match="no matching head"):
        client.match(SCENE, ["a ball"])
    with pytest.raises(ServerError, match="--allow-urls"):
        client.ask("http://127.0.0.1/x.png", QUESTION)
    with pytest.raises(FileNotFoundError):
        client.ask("missing.png", QUESTION)
    with pytest.warns(UserWarning, match="zeppelin"):
        client.ask(SCENE, "Where is the zeppelin?")
    assert client.model().can_ask


def test_a_key_or_a_login_is_sent() -> None:
    key = "key-of-sixteen-or-more"
    with running(api_keys=(key,), user="ada", password="secret") as server:
        url = str(server.base_url)
        for options in ({"api_key": key}, {"auth": ("ada", "secret")}):
            with Client(url, **options) as client:  # type: ignore[arg-type]
                assert client.ask(SCENE, QUESTION)[0].answer == "yellow"
        with Client(url) as client, pytest.raises(ServerError, match="API key"):
            client.ask(SCENE, QUESTION)


@pytest.mark.long
def test_the_client_waits_while_the_server_loads() -> None:
    go = threading.Event()

    def load() -> object:
        go.wait(60)
        return bundled()

    with running(load, wait=False) as server:
        client = Client(str(server.base_url), patience=0)
        with client, pytest.raises(ServerError, match="loading"):
            client.model()
        with Client(str(server.base_url)) as client:
            seen: list[httpx.Response] = []
            client._http.event_hooks = {"response": [lambda each: (seen.append(each), go.set())]}
            assert client.ask(SCENE, QUESTION)[0].answer == "yellow"
            assert [each.status_code for each in seen][:: len(seen) - 1] == [503, 200]


@pytest.mark.long
@pytest.mark.parametrize("given", ["Wed, 21 Oct 2065 07:28:00 GMT", "", "soon", "-3", "1"])
def test_a_busy_proxy_may_name_any_time(given: str) -> None:
    """Bug: a date, which HTTP allows and proxies send, was an unexpected error."""
    ready = ModelResponse(
        model="m", version="1", answers=2, can_ask=True, can_explain=True, can_match=True,
        missing="", max_image_bytes=5, max_pixels=5, allows_urls=False,
    )  # fmt: skip

    def answer(request: Handler, path: str) -> None:
        busy = len(request.server.requests) == 1
        request.reply(503 if busy else 200, ready.model_dump_json().encode(), Retry_After=given)

    with serve(answer) as server, Client(server.url) as client:
        assert client.model() == ready
        assert server.paths("GET") == ["/v1/model"] * 2


def test_the_client_imports_no_torch() -> None:
    code = "import sys; from lxmert import Client; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
