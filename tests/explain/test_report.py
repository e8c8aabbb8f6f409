"""The report in a real browser: drawing, pointer and keyboard input, and legibility."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browsers import CONTRASTS, Browser, open_driver
from explanations import BOXES, make_explanation
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from lxmert.explain.explanation import Explanation
from lxmert.explain.relevance import Relevance
from lxmert.explain.report import ABOUT
from lxmert.explain.text import percent
from lxmert.regions.cells import cell_boxes, cell_labels
from lxmert.schema import Answer

AMBER = np.array([255, 157, 0])
QUADRANTS = np.array([[[60, 90, 130], [200, 120, 80]], [[90, 160, 90], [230, 230, 220]]])


class ReportBrowser(Browser):
    """A headless browser with one report open."""

    def __init__(self, driver: Any, folder: Path) -> None:
        super().__init__(driver)
        self.folder = folder

    def open(
        self, page: Explanation | str, *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> None:
        """Open a report, or a page, in a window of this size."""
        path = self.folder / "page.html"
        path.write_text(page if isinstance(page, str) else page.to_html(), encoding="utf-8")
        self.resize(width=width, height=height, dark=dark)
        self.driver.get(path.as_uri())

    def shades(self, side: str) -> list[float]:
        """Return the strength of each word's or region's shade, in the order of the explanation."""
        script = "return arguments[0].map((e) => Number(e.style.getPropertyValue('--r')))"
        return self.run(script, self.find(".word") if side == "words" else self.regions())

    def regions(self) -> list[Any]:
        """Return the regions in the order of the explanation, by their labels `... N`."""
        found = self.find(".region")
        return sorted(found, key=lambda e: int(e.get_attribute("aria-label").split()[-1]))

    def choose(self, name: str, value: str) -> None:
        self.run(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('change'))",
            name,
            value,
        )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReportBrowser]:
    with open_driver() as driver:
        yield ReportBrowser(driver, tmp_path_factory.mktemp("pages"))


@pytest.fixture(autouse=True)
def no_error_in_the_console(browser: ReportBrowser) -> Iterator[None]:
    yield
    assert browser.driver.get_log("browser") == []


EXPLANATION = make_explanation()


def scaled(values: Any) -> list[float]:
    array = np.abs(np.asarray(values, dtype=np.float64))
    return list(array / (array.max() or 1))


def relevance(method: str, side: str, answer: int = 0) -> list[float]:
    return scaled(getattr(EXPLANATION.by_method[method], side)[answer])


def test_regions_are_drawn_at_the_right_pixels_in_the_right_shades(browser: ReportBrowser) -> None:
    """The colors of the image stay exact; a region is amber over them by its relevance."""
    image = QUADRANTS.repeat(60, axis=0).repeat(80, axis=1).astype(np.uint8)
    browser.open(replace(EXPLANATION, image=image))
    frame = browser.run("return document.getElementById('image').getBoundingClientRect()")
    scale = frame["width"] / 160
    assert frame["height"] == pytest.approx(120 * scale, abs=0.5)
    for element, (x1, y1, x2, y2) in zip(browser.regions(), BOXES, strict=True):
        place = browser.run("return arguments[0].getBoundingClientRect()", element)
        found = [place[name] for name in ("left", "top", "right", "bottom")]
        corners = [frame["left"] + scale * x1, frame["top"] + scale * y1]
        corners += [frame["left"] + scale * x2, frame["top"] + scale * y2]
        assert found == pytest.approx(corners, abs=0.5)
    pixels = browser.shot().astype(float)

    def at(x: float, y: float) -> np.ndarray:  # type: ignore[type-arg]
        return pixels[round(frame["top"] + scale * y), round(frame["left"] + scale * x)]

    assert at(45, 15) == pytest.approx(QUADRANTS[0, 0], abs=1)
    assert at(60, 92) == pytest.approx(QUADRANTS[1, 0], abs=1)
    share = 0.22 * relevance("propagation", "regions")[0]
    assert at(40, 45) == pytest.approx((1 - share) * QUADRANTS[0, 0] + share * AMBER, abs=3)
    first, second = (0.22 * relevance("propagation", "regions")[index] for index in (1, 2))
    below = (1 - second) * QUADRANTS[0, 1] + second * AMBER  # the smaller lies on the larger
    assert at(120, 45) == pytest.approx((1 - first) * below + first * AMBER, abs=3)


def test_many_regions_on_each_other_let_the_image_be_seen(browser: ReportBrowser) -> None:
    """Bug: the shades of 36 equally relevant regions added up and hid the image."""
    boxes = [[20.0 + i, 20.0 + i, 120 + i, 84 + i] for i in range(36)]
    alike = Relevance(EXPLANATION.by_method["attention"].words, torch.ones(3, 36))
    browser.open(replace(make_explanation(boxes=boxes), by_method={"attention": alike}))
    browser.run("document.getElementById('tags').hidden = true")
    place = browser.run("""
    const box = document.getElementById('image').getBoundingClientRect();
    return [box.x + box.width * 0.5, box.y + box.height * 0.62].map(Math.round)""")
    seen = []
    for script in ("", "document.querySelectorAll('.region').forEach((e) => e.remove())"):
        browser.run(script)
        x, y = place
        seen.append(browser.shot()[y - 15 : y + 15, x - 15 : x + 15].astype(float).std(axis=(0, 1)))
    assert (seen[0] > 0.4 * seen[1]).all()


def test_values_of_the_least_relevance_stay_on_one_line(browser: ReportBrowser) -> None:
    """Bug: a line break separated `+<0.1%` from its percent sign."""
    words = EXPLANATION.by_method["attention"].words
    little = Relevance(words, torch.tensor([[0.9, 1e-4, -1e-4, 0.0, 0.5]]).expand(3, -1))
    browser.open(replace(EXPLANATION, by_method={"occlusion": little}))
    script = """return [...document.querySelectorAll('#ranking em')]
      .map((e) => [e.textContent, e.scrollWidth - e.clientWidth, e.offsetHeight])"""
    values = browser.run(script)
    assert values[2][0] == "+<0.1%"
    assert {excess for _, excess, _ in values} == {0}
    assert len({height for *_, height in values}) == 1


def test_cells_of_a_grid_are_shaded_more_strongly(browser: ReportBrowser) -> None:
    cells = [[80.0 * j, 60 * i, 80 * j + 80, 60 * i + 60] for i in (0, 1) for j in (0, 1)]
    browser.open(make_explanation(boxes=cells))
    for region, shade in zip(browser.regions(), browser.shades("regions"), strict=True):
        script = "return Number(getComputedStyle(arguments[0]).fillOpacity)"
        assert browser.run(script, region) == pytest.approx(0.5 * shade, abs=1e-3)


@pytest.mark.parametrize("grid", [(2, 3), (7, 7)])
def test_names_of_cells_stand_inside_of_them(browser: ReportBrowser, grid: tuple[int, int]) -> None:
    """Bug: `cell 2,1` was written above its cell, in row 1: rows seemed to be off by one."""
    boxes = cell_boxes(*grid) * np.array([160, 120, 160, 120], dtype=np.float32)
    scores = torch.zeros(3, len(boxes))
    scores[:, [0, grid[1] + 1, len(boxes) - 1]] = torch.tensor([0.9, 0.8, -0.7])
    one = Relevance(EXPLANATION.by_method["attention"].words, scores)
    labels = cell_labels(boxes)
    browser.open(
        replace(make_explanation(boxes=boxes.tolist()), labels=labels, by_method={"mine": one})
    )
    script = """
    const place = (e) => {
      const box = e.getBoundingClientRect();
      return [box.x, box.y, box.right, box.bottom];
    };
    return [...document.querySelectorAll('.tag')].map((tag) => [tag.textContent, place(tag), place(
      document.querySelector(`.region[aria-label="${tag.textContent}"]`))])"""
    tags = browser.run(script)
    assert {name for name, *_ in tags} == {labels[0], labels[grid[1] + 1], labels[-1]}
    for _, tag, cell in tags:
        assert cell[0] - 1 <= tag[0] < tag[2] <= cell[2] + 1
        assert cell[1] - 1 <= tag[1] < tag[3] <= cell[3] + 1


def test_percentages_are_written_as_on_the_terminal(browser: ReportBrowser) -> None:
    """Bug: the best answer had 99.9% here, 100.0% on the terminal and 100% in the figure."""
    shares = [1.0, 0.99999, 0.9994, 0.7306, 0.1225, 0.0625, 0.0075, 0.0005, 0.00001, 0.0]
    answers = [Answer(f"answer {i}", share) for i, share in enumerate(shares)]
    more = make_explanation(answers=tuple(answer.answer for answer in answers))
    browser.open(replace(more, answers=answers))
    script = "return [...document.querySelectorAll('#answers em')].map((e) => e.textContent)"
    assert browser.run(script) == [percent(share) for share in shares]


def test_only_positive_relevance_is_named(browser: ReportBrowser) -> None:
    """Bug: with only negative scores, the sentence named the least negative region."""
    words = torch.zeros(3, len(EXPLANATION.words))
    against = -torch.arange(1.0, 6).expand(3, -1)
    page = replace(EXPLANATION, by_method={"occlusion": Relevance(words, against)})
    browser.open(page)
    assert browser.text("status") == "Occlusion finds no evidence for “black”."
    words[:, 2] = 0.5
    browser.open(replace(page, by_method={"occlusion": Relevance(words, against)}))
    assert browser.text("status") == "Most relevant for “black” by occlusion: the word “color”."


def test_names_in_a_map_are_cut_at_their_end(browser: ReportBrowser) -> None:
    """Bug: the start of a name was cut off, and the full name was nowhere."""
    browser.open(make_explanation(label="large and rather yellow metal candle"))
    browser.find("#tab-attention")[0].click()
    script = """
    return [...document.querySelectorAll('#matrix text')].map((e) =>
      [e.firstChild.data, e.querySelector('title').textContent, e.getBoundingClientRect().left])"""
    names = [row for row in browser.run(script) if "candle" in row[1]]
    assert len(names) == len(BOXES)
    assert {shown for shown, *_ in names} == {"large and rather yellow…"}
    left = browser.run("return document.getElementById('matrix').getBoundingClientRect().left")
    assert min(place for *_, place in names) >= left


@pytest.mark.long
def test_every_answer_and_every_method_can_be_chosen(browser: ReportBrowser) -> None:
    browser.open(EXPLANATION)
    answers, methods = browser.find("#answers button"), browser.find("#methods button")
    assert len(answers) == 3
    assert [each.text for each in methods] == [ABOUT[name][0] for name in EXPLANATION.by_method]
    for row, answer in enumerate(answers):
        answer.click()
        assert browser.text("answer") == EXPLANATION.answers[row].answer
        for name, method in zip(EXPLANATION.by_method, methods, strict=True):
            method.click()
            assert browser.text("about") == ABOUT[name][1]
            for side in ("words", "regions"):
                assert browser.shades(side) == pytest.approx(relevance(name, side, row), abs=1e-3)
            checked = [each.get_attribute("aria-checked") for each in (answer, method)]
            assert checked == ["true", "true"]


def test_regions_are_listed_the_most_relevant_first(browser: ReportBrowser) -> None:
    browser.open(EXPLANATION)
    scores = EXPLANATION.by_method["propagation"].regions[0].numpy()
    listed = [int(row.get_attribute("data-index")) for row in browser.find("#ranking button")]
    assert listed == np.argsort(-scores).tolist()


@pytest.mark.long
def test_pointing_at_a_word_shades_the_regions_it_attends_to(browser: ReportBrowser) -> None:
    browser.open(EXPLANATION)
    reads = EXPLANATION.maps.text_over_regions[-1][0].mean(0)
    for index, word in enumerate(browser.find(".word")):
        browser.hover(word)
        assert browser.shades("regions") == pytest.approx(scaled(reads[index]), abs=1e-3)
        assert f"“{EXPLANATION.words[index].text}” attends most to" in browser.text("status")
    browser.hover(browser.find("footer")[0])
    expected = relevance("propagation", "regions")
    assert browser.shades("regions") == pytest.approx(expected, abs=1e-3)


def test_pointing_at_a_region_shades_the_words_it_attends_to(browser: ReportBrowser) -> None:
    browser.open(EXPLANATION)
    reads = EXPLANATION.maps.regions_over_text[-1][0].mean(0)
    pointed = [browser.regions()[index] for index in (0, 1, 3)]
    for index, region in zip((0, 1, 3), pointed, strict=True):
        browser.hover(region)
        assert browser.shades("words") == pytest.approx(scaled(reads[index]), abs=1e-3)
    pointed[0].click()
    browser.hover(browser.find("footer")[0])
    assert browser.shades("words") == pytest.approx(scaled(reads[0]), abs=1e-3), "it is held"
    browser.press(Keys.ESCAPE)
    assert browser.shades("words") == pytest.approx(relevance("propagation", "words"), abs=1e-3)


@pytest.mark.long
def test_the_explorer_shows_every_layer_and_head_of_every_kind(browser: ReportBrowser) -> None:
    browser.open(EXPLANATION)
    browser.find("#tab-attention")[0].click()
    kinds = EXPLANATION.maps.kinds()
    values = "return [...document.getElementById(arguments[0]).options].map((o) => o.value)"
    assert browser.run(values, "kind") == list(kinds)
    drawn = """
    return [...document.querySelectorAll('.cell')].map((c) => +c.getAttribute('fill-opacity'))"""
    for kind, layers in kinds.items():
        browser.choose("kind", kind)
        assert browser.run(values, "layer") == [str(i) for i in range(len(layers))]
        for layer, maps in enumerate(layers):
            browser.choose("layer", str(layer))
            for head in (-1, *range(maps.shape[1])):
                browser.choose("head", str(head))
                shown = maps[0].mean(0) if head < 0 else maps[0, head]
                expected = shown.sqrt().flatten().tolist()
                assert browser.run(drawn) == pytest.approx(expected, abs=3e-3)


def test_pointing_at_a_matrix_cell_shows_its_attention(browser: ReportBrowser) -> None:
    browser.open(EXPLANATION, height=1300)
    browser.find("#tab-attention")[0].click()
    browser.choose("kind", "text_over_regions")
    browser.hover(browser.find('.cell[data-row="2"][data-column="3"]')[0])
    share = EXPLANATION.maps.text_over_regions[-1][0].mean(0)[2, 3].item()
    reported = "of its attention on “small black metal ball 4”."
    expected = f"“color” puts {percent(share)} {reported}"
    assert browser.text("status") == expected
    assert len(browser.find("#matrix .mark")) == 1
    canvas = browser.find("#heads")[0]
    ActionChains(browser.driver).move_to_element_with_offset(canvas, 0, 0).click().perform()
    chosen = [browser.run("return document.getElementById(arguments[0]).value", name)
              for name in ("layer", "head")]  # fmt: skip
    assert chosen == ["1", "2"], "the middle of 3 layers of 4 heads"


def test_the_keyboard_reaches_everything(browser: ReportBrowser) -> None:
    browser.open(EXPLANATION)
    focused = """
    const at = document.activeElement;
    return [at.textContent || at.getAttribute('aria-label'), getComputedStyle(at).outlineStyle]"""
    browser.press(Keys.TAB)
    assert browser.run(focused) == ["[CLS]", "solid"], "focus can be seen"
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert browser.run(focused)[0] == "color"
    reads = EXPLANATION.maps.text_over_regions[-1][0].mean(0)[2]
    assert browser.shades("regions") == pytest.approx(scaled(reads), abs=1e-3)
    browser.press(Keys.TAB)
    label, outline = browser.run(focused)
    assert label.startswith("small black metal ball")
    assert outline == "solid"
    index = int(label.split()[-1]) - 1
    reads = EXPLANATION.maps.regions_over_text[-1][0].mean(0)[index]
    assert browser.shades("words") == pytest.approx(scaled(reads), abs=1e-3)
    browser.press(Keys.TAB)
    assert browser.run(focused)[0] == "Why this answer"
    browser.press(Keys.TAB, Keys.ARROW_DOWN)
    assert browser.text("answer") == "red"
    browser.press(Keys.TAB, Keys.ARROW_RIGHT)
    assert browser.text("about") == ABOUT["attention"][1]
    browser.press(Keys.TAB)
    assert browser.run("return document.activeElement.dataset.index") is not None
    back = ActionChains(browser.driver).key_down(Keys.SHIFT)
    back.send_keys(Keys.TAB, Keys.TAB, Keys.TAB).key_up(Keys.SHIFT).perform()
    browser.press(Keys.ARROW_RIGHT)
    assert browser.find("#attention")[0].is_displayed()


def test_every_control_has_a_name(browser: ReportBrowser) -> None:
    browser.open(make_explanation(answers=tuple(f"answer {i}" for i in range(13))))
    script = """
    const all = document.querySelectorAll("button, select, input, [role=img], .region");
    return [...all].filter((e) => !e.textContent.trim() && !e.closest("label") &&
      !e.getAttribute("aria-label") &&
      !document.getElementById(e.getAttribute("aria-labelledby"))).map((e) => e.outerHTML)"""
    assert browser.run(script) == []


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_has_contrast_and_a_readable_size(browser: ReportBrowser, dark: bool) -> None:
    browser.open(make_explanation(unread=" and so on"), dark=dark)
    for prepare in ("", "document.querySelector('.word').focus()",
                    "document.getElementById('tab-attention').click()",
                    "document.getElementById('tab-states').click()"):  # fmt: skip
        browser.run(prepare)
        found = browser.run(CONTRASTS)
        assert len(found) > 20
        for contrast, text, size in found:
            assert contrast >= 4.5, f"{text!r} has a contrast of {contrast:.2f}"
            assert size >= 11, f"{text!r} has {size} pixels"


@pytest.mark.long
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    ("shape", "boxes"),
    [
        ((480, 640), None),
        ((1, 1), [[0, 0, 1, 1]]),
        ((30, 5000), [[0, 0, 5000, 30], [4000, 5, 4999, 25]]),
        ((5000, 30), [[0, 0, 30, 5000], [5, 4000, 25, 4999]]),
    ],
)
def test_any_image_and_a_long_question_fit_any_window(
    browser: ReportBrowser, width: int, shape: tuple[int, int], boxes: list[list[float]] | None
) -> None:
    if boxes is None:  # 36 that overlap
        corners = np.random.default_rng(5).uniform(0, 280, (36, 2))
        boxes = np.concatenate([corners, corners + 190], axis=1).tolist()
    words = " ".join(["What color is the rather long thing behind the mug"] * 4)
    extreme = make_explanation(
        shape=shape, boxes=boxes, words=words, unread=" and" * 400 + " " + "x" * 300
    )
    browser.open(extreme, width=width)
    for tab in ("why", "attention", "states"):
        browser.find(f"#tab-{tab}")[0].click()
        assert browser.run("return document.documentElement.scrollWidth") <= width
        sizes = """
        const place = document.getElementById('image').getBoundingClientRect();
        return [place.width, place.height]"""
        assert min(browser.run(sizes)) >= 95, "regions could not be distinguished"
        outside = """
        const place = document.getElementById('stage').getBoundingClientRect();
        return [...document.querySelectorAll('.tag')].map((t) => t.getBoundingClientRect())
          .filter((t) => t.left < place.left - 1 || t.top < place.top - 1 ||
            t.right > place.right + 1 || t.bottom > place.bottom + 1).length"""
        assert browser.run(outside) == 0, "a name leaves the image"
        assert browser.run("return document.getElementById('unread').clientHeight") < 130
    assert "38 word pieces" not in browser.text("unread")
    assert f"reads at most {len(extreme.words)} word pieces" in browser.text("unread")


def test_long_names_of_regions_are_listed_in_full_on_a_phone(browser: ReportBrowser) -> None:
    """Bug: the noun of `large yellow metal candle` was cut off."""
    browser.open(make_explanation(label="large yellow metal refrigerator"), width=390)
    script = """return [...document.querySelectorAll('#ranking span')]
      .map((s) => [s.scrollWidth - s.clientWidth, s.scrollHeight - s.clientHeight])"""
    sizes = browser.run(script)
    assert sizes == [[0, 0]] * len(BOXES)


def test_what_people_write_is_text_and_nothing_else(browser: ReportBrowser) -> None:
    """Bug: a question with `</script>` ended the data, and the rest was executed."""
    evil = "<b>Is</b> </script><script>document.title='broken'</script> \u2028 <!-- \x1b[31m"
    browser.open(make_explanation(words=evil, answers=(evil, "no"), label="<i>ball</i> &amp;"))
    assert "broken" not in browser.driver.title.split("=")[0]
    assert browser.driver.title.startswith("<b>Is</b> </script>")
    assert browser.find("main b, main i:not([class]):not(.row i)") == []
    assert browser.text("answer") == evil
    assert "<i>ball</i> &amp; 1" in browser.text("ranking")


def test_nothing_is_loaded_from_elsewhere(browser: ReportBrowser) -> None:
    browser.open(EXPLANATION)
    script = "return performance.getEntriesByType('resource').map((e) => e.name)"
    assert [name for name in browser.run(script) if not name.startswith("data:")] == []
    refused = browser.driver.execute_async_script("""
    const done = arguments[0];
    document.addEventListener("securitypolicyviolation", (e) => done(e.effectiveDirective));
    document.body.append(Object.assign(new Image(), {src: "https://example.invalid/x.png"}))""")
    assert refused == "img-src", "the page's own policy holds"
    assert len(browser.driver.get_log("browser")) == 1
    assert "http" not in EXPLANATION.to_html().replace("http://www.w3.org/2000/svg", "").replace(
        "http-equiv", ""
    )


@pytest.mark.long
def test_thousands_of_answers_can_be_searched(browser: ReportBrowser) -> None:
    number = 3129
    answers = [Answer(f"answer {i}", 1 / number) for i in range(number)]
    alike = Relevance(*(side[:1].expand(number, -1) for side in EXPLANATION.by_method["attention"]))
    browser.open(replace(EXPLANATION, answers=answers, by_method={"attention": alike}))
    assert len(browser.find("#answers button")) == number
    browser.find("#filter")[0].send_keys("answer 3111")
    (shown,) = browser.find("#answers button:not([hidden])")
    assert shown.text.split("\n")[0] == "answer 3111"
    shown.click()
    assert browser.text("answer") == "answer 3111"


NOTEBOOK = f"<!DOCTYPE html><body>{EXPLANATION._repr_html_()}</body>"


@pytest.mark.parametrize(
    "later",
    [
        "document.getElementById('cell').style = ''",
        "frames[0].document.querySelector('main').style.width = '900px'",
    ],
)
def test_names_stand_at_their_regions_where_the_frame_is_laid_out_later(
    browser: ReportBrowser, later: str
) -> None:
    """A notebook lays a frame out after its page has run: the main name was at the wrong place.

    Its width was measured once, as a share of an image that had another width then, or none.
    """
    hidden = "display:none" if "cell" in later else ""
    at_the_edge = make_explanation(boxes=[[130.0, 30, 158, 80]])._repr_html_()
    page = f"<!DOCTYPE html><body><div id='cell' style='{hidden}'>{at_the_edge}</div>"
    browser.open(page.replace('sandbox="allow-scripts"', ""))
    browser.run(later)
    browser.driver.switch_to.frame(0)
    frames = "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(arguments[0])))"
    browser.driver.execute_async_script(frames)
    script = """
    const tag = document.querySelector('.tag'), place = tag.getBoundingClientRect();
    const of = document.querySelector(`.region[aria-label="${tag.textContent}"]`);
    const stage = document.getElementById('stage').getBoundingClientRect();
    const left = Math.min(of.getBoundingClientRect().left, stage.right - place.width);
    return [place.left - left, stage.width]"""
    difference, width = browser.run(script)
    browser.driver.switch_to.default_content()
    assert width > 300
    assert abs(difference) < 1.5


def test_a_notebook_that_is_not_trusted_shows_an_image_and_a_table(browser: ReportBrowser) -> None:
    """Bug: it showed an empty cell. Its sanitizer removes frames, styles and scripts."""
    browser.open(NOTEBOOK)
    assert not browser.find("table")[0].is_displayed()
    browser.run("document.querySelectorAll('iframe, style, script').forEach((e) => e.remove())")
    assert browser.find("table")[0].is_displayed()
    assert browser.find("img")[0].size["width"] > 300
    assert "black 60.0%" in browser.find("table")[0].text


def test_a_notebook_shows_the_report_in_a_frame(browser: ReportBrowser) -> None:
    browser.open(NOTEBOOK)
    browser.driver.switch_to.frame(0)
    browser.find("#answers button")[1].click()
    assert browser.text("answer") == "red"
    assert len(browser.find(".region")) == len(BOXES)
    browser.driver.switch_to.default_content()
    assert math.isclose(browser.find("iframe")[0].size["height"], 820)


def test_states_are_shown_layer_by_layer(browser: ReportBrowser) -> None:
    browser.open(EXPLANATION)
    browser.find("#tab-states")[0].click()
    last = EXPLANATION.states[-1]
    assert browser.text("states-title") == f"After {last.title}"
    points = browser.find("#plane .point")
    names = [point.get_attribute("aria-label") for point in points]
    assert names == EXPLANATION.labels + [word.text for word in EXPLANATION.words]
    centers = browser.run(
        "return arguments[0].map((e) => e.getCTM()).map((m) => [m.e, m.f])", points
    )
    expected = np.concatenate([last.regions, last.words]) * [1, -1]
    for axis in (0, 1):
        assert np.corrcoef(np.array(centers)[:, axis], expected[:, axis])[0, 1] > 0.999
    slider = "const e = document.getElementById('depth'); e.value = 0;"
    browser.run(slider + "e.dispatchEvent(new Event('input'))")
    assert browser.text("states-title") == f"After {EXPLANATION.states[0].title}"
    browser.find("#words .word")[2].click()
    active = [e.get_attribute("aria-label") for e in browser.find("#plane .active")]
    assert active == [EXPLANATION.words[2].text]


def test_without_states_there_is_no_tab_for_them(browser: ReportBrowser) -> None:
    browser.open(replace(EXPLANATION, states=()))
    assert not browser.find("#tab-states")[0].is_displayed()
