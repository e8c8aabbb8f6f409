"""The page in a real browser: every way to give an image, questions, captions, links, faults."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browsers import CONTRASTS, Browser, open_driver
from selenium.webdriver.common.keys import Keys
from servers import QUESTION, SCENE, RunningServer, bundled, in_base64, running
from test_api import make_matcher

from lxmert.pipeline import LxmertPipeline
from lxmert.serve.pages import Examples
from lxmert.workflows.exporting import export_folder

EXAMPLES = SCENE.parent

GIVE = """
const [name, type, data, kind] = arguments;
const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], name, { type }));
const options = { bubbles: true, cancelable: true };
dispatchEvent(kind === "paste"
  ? new ClipboardEvent("paste", { ...options, clipboardData: transfer })
  : new DragEvent(kind, { ...options, dataTransfer: transfer }));
"""

SENT = """
window.sent = [];
const plain = window.fetch;
window.fetch = (path, options) => {
  window.sent.push([path, options?.body instanceof FormData]);
  return plain(path, options);
};
"""


class PageBrowser(Browser):
    """A headless browser with the page of a server."""

    def open(self, server: RunningServer, **window: Any) -> None:
        self.resize(**window)
        self.driver.get(str(server.base_url))
        self.wait("document.getElementById('progress').hidden")
        self.run(SENT)

    def upload(self) -> None:
        self.find("#file")[0].send_keys(str(SCENE))
        self.wait("document.getElementById('list') !== null")
        self.finish()

    def give(self, kind: str) -> None:
        self.run(GIVE, "scene.png", "image/png", in_base64(), kind)
        self.wait("document.getElementById('list') !== null")
        self.finish()

    def ask(self, question: str) -> str:
        """Ask by typing, and return the answer of the report."""
        field = self.find("#ask-text")[0]
        field.clear()
        field.send_keys(question, Keys.ENTER)
        self.wait_for_report(question)
        return self.text("answer")

    def wait_for_report(self, question: str) -> None:
        self.wait(f"document.getElementById('question')?.textContent === {json.dumps(question)}")
        self.finish()

    def finish(self) -> None:
        self.wait("document.getElementById('progress').hidden")

    def problem(self) -> str:
        self.wait("!document.getElementById('problem').hidden")
        return self.text("problem-text")


@pytest.fixture(scope="module")
def browser() -> Iterator[PageBrowser]:
    with open_driver() as driver:
        yield PageBrowser(driver)


@pytest.fixture(scope="module")
def site() -> Iterator[RunningServer]:
    with running(examples=EXAMPLES) as client:
        yield client


def labels() -> list[str]:
    return bundled().labels(bundled().regions(SCENE))


def best(question: str) -> str:
    return bundled().ask(SCENE, question)[0].answer


@pytest.mark.long
def test_an_uploaded_image_is_asked_about_again_without_a_new_upload(
    browser: PageBrowser, site: RunningServer
) -> None:
    browser.open(site)
    browser.wait("document.getElementById('intro').textContent.includes('knows only drawn scenes')")
    browser.upload()
    assert browser.text("notes").startswith("This model knows only drawn scenes")
    rows = browser.run("return [...document.querySelectorAll('#list span')].map((e) => e.title)")
    assert rows == labels()
    assert len(browser.find("#image .region")) == len(labels())
    second = "How many plates are there?"
    assert browser.ask(QUESTION) == best(QUESTION) == "yellow"
    assert browser.ask(second) == best(second)
    answers = browser.run(
        "return [...document.querySelectorAll('#answers span')].map((e) => e.title)"
    )
    assert answers == [answer.answer for answer in bundled().ask(SCENE, second)]
    shades = browser.run(
        "return [...document.querySelectorAll('.word')].map((e) => e.style.cssText)"
    )
    assert len(set(shades)) > 2
    sent = browser.run("return window.sent")
    assert sent[0] == ["/v1/regions", True]
    assert sent[1:] == [["/v1/ask", False], ["/v1/explain", False]] * 2
    assert browser.driver.get_log("browser") == []


@pytest.mark.parametrize("kind", ["paste", pytest.param("drop", marks=pytest.mark.slow)])
def test_an_image_may_be_pasted_or_dropped(
    browser: PageBrowser, site: RunningServer, kind: str
) -> None:
    browser.open(site)
    browser.give(kind)
    assert len(browser.find("#image .region")) == len(labels())


@pytest.mark.slow
def test_an_example_comes_with_questions(browser: PageBrowser, site: RunningServer) -> None:
    browser.open(site)
    examples = browser.find("#examples button")
    assert len(examples) == len(list(EXAMPLES.glob("*.png"))) == 6
    browser.wait("[...document.querySelectorAll('#examples img')].every((e) => e.naturalWidth)")
    examples[-1].click()
    browser.wait("document.querySelectorAll('#suggestions button').length === 4")
    browser.finish()
    browser.find("#suggestions button")[0].click()
    browser.wait_for_report(QUESTION)
    assert browser.text("answer") == "yellow"
    assert browser.text("notes") == ""


@pytest.mark.long
def test_the_keyboard_is_enough(browser: PageBrowser, site: RunningServer) -> None:
    browser.open(site)
    focus = "document.activeElement"
    for _ in range(12):
        browser.press(Keys.TAB)
        if browser.run(f"return {focus}.closest('#examples') !== null"):
            break
    browser.press(Keys.ENTER)
    browser.wait("document.getElementById('list') !== null")
    browser.finish()
    if not browser.run(f"return {focus}.id === 'ask-text'"):
        browser.find("#mode-ask")[0].send_keys("")
        browser.press(Keys.TAB)
    browser.press("What size is the apple?", Keys.ENTER)
    browser.wait_for_report("What size is the apple?")
    browser.find("#mode-ask")[0].send_keys(Keys.ARROW_RIGHT)
    assert browser.run(f"return {focus}.id") == "mode-match"


@pytest.mark.long
@pytest.mark.parametrize("dark", [pytest.param(False, marks=pytest.mark.slow), True])
def test_texts_are_legible_and_fit_a_phone(
    browser: PageBrowser, site: RunningServer, dark: bool
) -> None:
    browser.open(site, width=390, height=844, dark=dark, mobile=True)
    for step in ("start", "regions", "answer"):
        if step == "regions":
            browser.upload()
        if step == "answer":
            browser.ask(QUESTION)
        width = "document.documentElement.scrollWidth <= innerWidth"
        assert browser.run(f"return {width}"), step
        weak = [found for found in browser.run(CONTRASTS) if found[0] < 4.5]
        assert weak == [], step


@pytest.mark.long
def test_no_request_leaves_the_machine(browser: PageBrowser, site: RunningServer) -> None:
    browser.driver.get_log("performance")
    browser.open(site)
    browser.upload()
    browser.ask(QUESTION)
    browser.driver.get(f"{site.base_url}/docs")
    browser.wait("document.querySelectorAll('#routes h2').length > 8")
    events = [
        json.loads(each["message"])["message"] for each in browser.driver.get_log("performance")
    ]
    urls = [
        each["params"]["request"]["url"]
        for each in events
        if each["method"] == "Network.requestWillBeSent"
    ]
    assert len(urls) >= 12
    own = (str(site.base_url), "blob:", "data:")
    assert [url for url in urls if not url.startswith(own)] == []
    assert browser.driver.get_log("browser") == []


@pytest.mark.slow
def test_a_report_is_shared_by_its_link(browser: PageBrowser, site: RunningServer) -> None:
    browser.open(site)
    browser.upload()
    browser.ask(QUESTION)
    browser.find("#save")[0].click()
    browser.wait("!document.getElementById('link').hidden")
    link = browser.run("return document.getElementById('link').value")
    browser.driver.get(link)
    browser.wait("document.getElementById('answer')?.textContent === 'yellow'")
    assert len(browser.find(".region")) == len(labels())
    assert browser.driver.get_log("browser") == []


@pytest.mark.long
def test_captions_are_compared_where_the_model_can(
    browser: PageBrowser, site: RunningServer
) -> None:
    browser.open(site)
    browser.upload()
    browser.find("#mode-match")[0].click()
    assert "no matching head" in browser.text("cannot")
    assert not browser.find("#match-form")[0].is_displayed()
    matcher = make_matcher()
    captions = ["a yellow ball", "a red mug"]
    with running(lambda: matcher) as other:
        browser.open(other)
        browser.upload()
        for field, caption in zip(browser.find(".caption"), captions, strict=True):
            field.send_keys(caption)
        browser.press(Keys.ENTER)
        browser.wait("document.querySelectorAll('#list .row').length === 2")
        shown = browser.run(
            "return [...document.querySelectorAll('#list em')].map((e) => e.textContent)"
        )
        assert shown == [f"{100 * score:.1f}%" for score in matcher.match(SCENE, captions)]


@contextmanager
def changed_extractor(call: Any) -> Iterator[None]:
    """Let the extractor of the bundled model do something else."""
    processor = bundled().processor
    extractor = processor.extractor

    class Changed:
        def __getattr__(self, name: str) -> object:
            return getattr(extractor, name)

        def __call__(self, images: list[object]) -> object:
            return call(lambda: extractor(images))

    processor.extractor = Changed()  # type: ignore[assignment]
    try:
        yield
    finally:
        processor.extractor = extractor


@pytest.mark.slow
def test_a_slow_server_shows_progress(browser: PageBrowser) -> None:
    go = threading.Event()

    def slow(work: Any) -> object:
        go.wait(60)
        return work()

    with running() as client:
        browser.open(client)
        with changed_extractor(slow):
            browser.find("#file")[0].send_keys(str(SCENE))
            browser.wait(
                "/Finding regions… \\d+ s/.test(document.getElementById('progress').textContent)"
            )
            go.set()
            browser.wait("document.getElementById('list') !== null")
            browser.finish()


@pytest.mark.long
def test_a_failing_server_is_told_and_tried_again(browser: PageBrowser) -> None:
    def fail(_: Any) -> object:
        raise RuntimeError("broken")

    with running(cache_mib=0) as client:
        browser.open(client)
        with changed_extractor(fail):
            browser.find("#file")[0].send_keys(str(SCENE))
            assert "server failed" in browser.problem()
        browser.find("#again")[0].click()
        browser.wait("document.getElementById('list') !== null")
        browser.finish()
        # Without a cache, the image is sent again for each question.
        assert browser.ask(QUESTION) == "yellow"
    browser.find("#ask-form .primary")[0].click()
    assert "cannot be reached" in browser.problem()
    browser.driver.get_log("browser")  # of the faults that were wanted


def test_a_bad_image_is_told(browser: PageBrowser, site: RunningServer) -> None:
    browser.open(site)
    browser.run(GIVE, "x.png", "image/png", "AAAA", "drop")
    assert browser.problem().startswith("The image is ")
    assert not browser.find("#again")[0].is_displayed()
    browser.upload()
    assert browser.find("#ask-form")[0].is_displayed()
    browser.run(GIVE, "x.png", "image/png", "AAAA", "drop")
    browser.problem()
    assert not browser.find("#ask-form")[0].is_displayed()
    browser.driver.get_log("browser")


@pytest.mark.slow
def test_a_question_of_spaces_is_not_sent(browser: PageBrowser, site: RunningServer) -> None:
    browser.open(site)
    browser.upload()
    browser.run("document.getElementById('ask-text').oninvalid = () => { window.told = true; }")
    browser.find("#ask-text")[0].send_keys("  ", Keys.ENTER)
    browser.wait("window.told")
    assert [path for path, _ in browser.run("return window.sent")] == ["/v1/regions"]


@pytest.mark.slow
def test_warnings_are_shown(browser: PageBrowser, site: RunningServer) -> None:
    browser.open(site)
    browser.upload()
    browser.ask("Where is the zeppelin?")
    assert "zeppelin" in browser.text("notes")


def test_without_the_page_the_api_remains() -> None:
    with running(page=False) as client:
        assert client.get("/").status_code == 404
        assert client.get("/docs").status_code == 200
        assert client.get("/examples").status_code == 404


def test_only_listed_files_are_served(site: RunningServer) -> None:
    assert site.get("/examples/scene.png").headers["content-type"] == "image/png"
    for path in ("/examples/questions.jsonl", "/examples/..%2f__init__.py", "/assets/page.html",
                 "/assets/..%2fpage.js", "/examples/", "/assets/%2fetc%2fpasswd"):  # fmt: skip
        assert site.get(path).status_code == 404, path
    policy = site.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\x1c"])
def test_the_question_of_an_example_may_have_a_line_separator(tmp_path: Path, sign: str) -> None:
    """Bug: the lines of the file were also split there, and the server did not start."""
    (tmp_path / "a.png").write_bytes(SCENE.read_bytes())
    row = json.dumps({"image": "a.png", "question": f"one{sign}two"}, ensure_ascii=False)
    (tmp_path / "questions.jsonl").write_text(f"{row}\n{row}\n", encoding="utf-8")
    (item,) = Examples(tmp_path).items
    assert item.questions == (f"one{sign}two",) * 2


@pytest.mark.slow
def test_an_exported_model_answers_without_explanations(
    browser: PageBrowser, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    export_folder(None, tmp_path / "fast", runtime="onnxruntime")
    with running(lambda: LxmertPipeline.from_pretrained(tmp_path / "fast")) as client:
        browser.open(client)
        browser.upload()
        field = browser.find("#ask-text")[0]
        field.send_keys(QUESTION, Keys.ENTER)
        browser.wait("document.getElementById('status').textContent.includes('exported model')")
        browser.finish()
        assert browser.text("answer") == "yellow"
        assert browser.run("return document.getElementById('problem').hidden")
