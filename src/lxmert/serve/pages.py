"""The files of the web page, and the example images that it offers."""

from importlib.resources import files
from pathlib import Path

from starlette.responses import FileResponse, Response

from lxmert.files import child_path, parse_json
from lxmert.serve.errors import RequestError
from lxmert.serve.messages import ExampleItem
from lxmert.serve.security import PAGE_POLICY

_TYPES = {".css": "text/css", ".js": "text/javascript", ".html": "text/html"}
_ASSETS = {
    "report.css": "explain",
    "report_states.js": "explain",
    "report.js": "explain",
    "page.css": "serve/web",
    "page.js": "serve/web",
    "docs.css": "serve/web",
    "docs.js": "serve/web",
}
"""Files by name, with their folder in the package."""

_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_MAX_EXAMPLES = 24
_MAX_QUESTIONS = 4
_QUESTIONS = "questions.jsonl"


def open_page() -> Response:
    """Return the page, which has the body of the explanation report as a template."""
    report = _read("explain", "report.html").partition("<main>")[2].partition("</main>")[0]
    return _page(_read("serve/web", "page.html").replace("<!-- report -->", report))


def open_docs() -> Response:
    """Return the description of the interface."""
    return _page(_read("serve/web", "docs.html"))


def open_asset(name: str) -> Response:
    """Return a script or a style.

    Raises:
        RequestError: 404 for any other name.
    """
    if name not in _ASSETS:
        raise RequestError(404, "there is no such file")
    headers = {"Cache-Control": "no-cache"}
    content = _read(_ASSETS[name], name)
    return Response(content, media_type=_TYPES[Path(name).suffix], headers=headers)


class Examples:
    """The images of a folder, with the questions of its `questions.jsonl`."""

    def __init__(self, folder: Path | None) -> None:
        """List a folder.

        Raises:
            FileNotFoundError: if there is no such folder.
        """
        self._folder = folder
        self.items = () if folder is None else tuple(_list(folder))

    def open(self, name: str) -> Response:
        """Return an image.

        Raises:
            RequestError: 404 for a name that is not listed.
        """
        if self._folder is None or f"/examples/{name}" not in (item.image for item in self.items):
            raise RequestError(404, "there is no such example")
        return FileResponse(child_path(self._folder, name))


def _list(folder: Path) -> list[ExampleItem]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: name a folder of example images")
    questions: dict[str, list[str]] = {}
    path = folder / _QUESTIONS
    if path.is_file():
        with path.open(encoding="utf-8") as lines:  # splitlines would also split at U+2028
            for number, line in enumerate(lines, start=1):
                row = parse_json(line, f"{path} line {number}")
                questions.setdefault(row["image"], []).append(row["question"])
    names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in _IMAGE_ENDINGS)
    return [
        ExampleItem(
            image=f"/examples/{name}", questions=tuple(questions.get(name, ())[:_MAX_QUESTIONS])
        )
        for name in names[:_MAX_EXAMPLES]
    ]


def _page(content: str) -> Response:
    headers = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"}
    return Response(content, media_type="text/html", headers=headers)


def _read(folder: str, name: str) -> str:
    return files("lxmert").joinpath(folder, name).read_text(encoding="utf-8")
