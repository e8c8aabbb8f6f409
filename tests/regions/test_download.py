"""Image downloads, from a local server that behaves well and badly."""

from collections.abc import Iterator

import numpy as np
import pytest
from conftest import ROOT
from web_server import Images, Server, serve

from lxmert.regions.download import download_image
from lxmert.regions.preprocess import load_image

SCENE = ROOT / "src/lxmert/examples/scene.png"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(Images(SCENE.read_bytes())) as running:
        yield running


@pytest.mark.parametrize("name", ["good.png", "typeless", "moved.png"])
def test_an_image_by_address_is_the_image(server: Server, name: str) -> None:
    assert np.array_equal(load_image(f"{server.url}/{name}"), load_image(SCENE))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.png", "answers 404 Not Found"),
        ("page.html", "is text/html; charset=utf-8; expected an image"),
        ("text.png", "no image that is read here"),
        ("cut.png", "ended after 900 of"),
        ("circle", "answers 302"),
        ("to-file", "answers 302"),
    ],
)
def test_what_is_no_image_is_one_sentence(server: Server, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_image(f"{server.url}/{name}")
    assert name in str(error.value)


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"fetching it failed .*refused"):
        load_image("http://127.0.0.1:9/image.png")


def test_a_file_that_never_ends_is_not_read_to_its_end(server: Server) -> None:
    with pytest.raises(ValueError, match="more than 250000 bytes; expected at most 250000"):
        download_image(f"{server.url}/endless", max_bytes=250_000)


def test_a_declared_size_is_refused_before_anything_is_read(server: Server) -> None:
    size = SCENE.stat().st_size
    with pytest.raises(ValueError, match=f"has {size} bytes; expected at most 800"):
        download_image(f"{server.url}/good.png", max_bytes=800)


def test_bytes_that_drip_do_not_outlast_the_time(server: Server) -> None:
    """A time limit per read would let a server hold a caller forever."""
    with pytest.raises(ValueError, match=r"took more than 0.3 seconds"):
        download_image(f"{server.url}/slow", timeout=0.3)


def test_headers_that_drip_do_not_outlast_the_time(server: Server) -> None:
    """Bug: the time limit was checked only after the headers, and each byte restarted it."""
    with pytest.raises(ValueError, match=r"took more than 0.3 seconds"):
        download_image(f"{server.url}/slow-headers", timeout=0.3)


def test_nothing_but_the_web_is_fetched() -> None:
    for address in ("file:///etc/hostname", "ftp://127.0.0.1/image.png"):
        with pytest.raises(FileNotFoundError, match="is not a file"):
            load_image(address)
