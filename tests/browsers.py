"""Headless Chromium for tests of pages.

Debian's chromium and chromium-driver are driven by selenium; without them these tests are skipped.
"""

import io
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("needs chromium: apt-get install chromium chromium-driver", allow_module_level=True)

from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402

_LIMIT = 60

CONTRASTS = """
const brush = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const parse = (color) => {
  brush.clearRect(0, 0, 1, 1); brush.fillStyle = color; brush.fillRect(0, 0, 1, 1);
  return [...brush.getImageData(0, 0, 1, 1).data];
};
const over = (top, below) => below.map((c, i) => top[3] / 255 * top[i] + (1 - top[3] / 255) * c);
const ground = (node) => {
  const layers = [];
  for (let at = node; at; at = at.parentElement) {
    layers.push(parse(getComputedStyle(at).backgroundColor));
  }
  return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
};
const luminance = (color) => color.slice(0, 3).map((c) => c / 255)
  .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
const found = [];
for (let text = walker.nextNode(); text; text = walker.nextNode()) {
  const node = text.parentElement, style = getComputedStyle(node);
  if (!text.data.trim() || !node.getClientRects().length || node.tagName === "OPTION") continue;
  const color = parse(node instanceof SVGElement ? style.fill : style.color);
  const below = ground(node);
  const pair = [luminance(over(color, below)), luminance(below)].sort((a, b) => b - a);
  found.push([(pair[0] + 0.05) / (pair[1] + 0.05), text.data, parseFloat(style.fontSize)]);
}
return found;
"""
"""Returns the contrast, the text and the font size of every text."""


class Browser:
    """A headless browser with one page open."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def resize(
        self, *, width: int = 1280, height: int = 900, dark: bool = False, mobile: bool = False
    ) -> None:
        """Show pages in a window of this size, in the light or the dark scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        motion = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, motion]})

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + _LIMIT
        while not self.run(f"return {expression}"):
            assert time.monotonic() < end, expression

    def find(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def hover(self, element: Any) -> None:
        ActionChains(self.driver).move_to_element(element).perform()

    def press(self, *keys: str) -> None:
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def text(self, name: str) -> str:
        return str(self.run("return document.getElementById(arguments[0]).textContent", name))

    def shot(self) -> np.ndarray:  # type: ignore[type-arg]
        """Return the pixels of the window, `[height, width, 3]`."""
        return np.asarray(
            Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB")
        )


@contextmanager
def open_driver(*more: str) -> Iterator[Any]:
    """Start a headless browser, with further arguments."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    usual = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
    for argument in (*usual, *more):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()
