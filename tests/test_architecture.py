"""Checked rules of the source: dependencies between packages, import cycles, sizes, traps."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "lxmert"

MAX_LINES = 500

LEAVES = {"schema", "boxes"}

MAY_IMPORT: dict[str, set[str]] = {
    "schema": set(),
    "boxes": set(),
    "model": {"schema"},
    "model_folders": {"model", "data", "regions"},
    "web": set(),
    "runtimes": set(),
    "regions": LEAVES | {"web", "runtimes"},
    "data": LEAVES,
    "metrics": {"schema"},
    "downloading": {"web"},
    "datasets": {"schema", "metrics", "data", "model", "downloading"},
    "weights": {"schema", "model", "regions", "data", "downloading"},
    "hub": {"weights"},
    "reading": {"schema", "data"},
    "exported": {"schema", "data", "reading", "regions", "runtimes"},
    "processing": LEAVES | {"regions", "data", "hub", "reading", "exported"},
    "loading": LEAVES | {"processing", "model", "data", "hub"},
    "tasks": LEAVES | {"model", "regions", "data", "metrics"},
    "train": {"schema", "data", "tasks"},
    "explain": LEAVES | {"model"},
    "predict": LEAVES | {"processing", "model", "regions", "data", "hub", "exported"},
    "pipeline": LEAVES
    | {"processing", "predict", "questions", "model", "regions", "data", "explain", "hub"}
    | {"exported", "explaining", "loading", "reading"},
    "explaining": LEAVES
    | {"processing", "predict", "questions", "regions", "explain", "reading"}
    | {"model", "hub"},
    "questions": {"web", "reading", "regions", "data"},
    "serve": {"schema", "web", "processing", "reading", "regions", "explain", "pipeline", "hub"},
    "study": LEAVES
    | {"predict", "pipeline", "processing", "data", "metrics", "model", "explain", "hub", "tasks"},
    "terminal": {"explain"},
    "auto": {"model", "data", "processing"},
}
"""Package -> the packages that it may import; a package is a module or sub-package of lxmert."""

BASE = {
    "devices",
    "files",
    "images",
    "locks",
    "names",
    "records",
    "templates",
    "tensor_files",
    "version",
    "vocabularies",
    "weight_files",
    "workers",
}
# Every package but the leaves may write files as a whole, open images, keep others from files, read
# typed records and tensors, fill templates, check devices, name what is near, and begin processes
# that end with it.
MAY_IMPORT = {
    package: allowed | BASE for package, allowed in MAY_IMPORT.items() if package not in LEAVES
}
MAY_IMPORT |= {leaf: set() for leaf in LEAVES | BASE}
MAY_IMPORT["records"] = {"files", "names"}
MAY_IMPORT["weight_files"] = {"files"}
MAY_IMPORT["tensor_files"] = {"weight_files"}
MAY_IMPORT["workflows"] = set(MAY_IMPORT) - {"terminal"}
MAY_IMPORT["lab"] = set(MAY_IMPORT) - {"terminal"}  # which nothing but the command line imports
MAY_IMPORT["cluster"] = BASE | {"schema", "data", "regions", "workflows", "predict", "hub"}
MAY_IMPORT["cli"] = set(MAY_IMPORT)
MAY_IMPORT["__main__"] = {"cli"}
MAY_IMPORT["__init__"] = set(MAY_IMPORT) - {"cli", "lab", "__main__"}  # public names, loaded lazily

LAZY = {"__init__", "cli", "names", "terminal", "version"}
"""Packages that import others inside functions only, so that `lxmert --help` loads no torch."""

Sources = dict[str, str]
"""Source text by path below src/lxmert, such as "model/heads.py"."""


def read_sources() -> Sources:
    return {str(path.relative_to(SOURCE)): path.read_text() for path in SOURCE.rglob("*.py")}


KINDS = (ast.Import, ast.ImportFrom, ast.Attribute, ast.Call, ast.ClassDef, ast.Constant)


@cache
def walk(source: str) -> list[ast.AST]:
    """Return the nodes that checks look at, once parsed for all of them."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, KINDS)]


@cache
def module_name(path: str) -> str:
    """Return the dotted name below lxmert; the package itself is `__init__`."""
    parts = Path(path).with_suffix("").parts
    if len(parts) > 1 and parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)


def imports(path: str, sources: Sources, *, eager: bool = False) -> Iterator[tuple[str, int]]:
    """Yield the modules of lxmert that a file imports, with the line.

    Args:
        path: the file.
        sources: all files, to tell a module from a name in one.
        eager: whether to leave out what is imported inside functions and for types only.
    """
    modules = {module_name(other) for other in sources}
    for node in early_nodes(ast.parse(sources[path])) if eager else walk(sources[path]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "lxmert":
                    yield (
                        alias.name.removeprefix("lxmert").removeprefix(".") or "__init__",
                        node.lineno,
                    )
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "(relative)", node.lineno
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lxmert":
            base = (node.module or "").removeprefix("lxmert").removeprefix(".")
            for alias in node.names:
                longer = f"{base}.{alias.name}".removeprefix(".")
                yield longer if longer in modules else base or "__init__", node.lineno


def early_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below a node without those in functions and for types only."""
    for child in ast.iter_child_nodes(node):
        yield child
        late = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not (late or typing):
            yield from early_nodes(child)


def check_arrows(sources: Sources) -> list[str]:
    offences = []
    for path in sources:
        package = module_name(path).split(".")[0]
        if package not in MAY_IMPORT:
            offences.append(f"{path}: {package} is no package of MAY_IMPORT")
            continue
        for module, line in imports(path, sources):
            target = module.split(".")[0]
            if target != package and target not in MAY_IMPORT[package]:
                offences.append(f"{path}:{line}: {package} may not import {target}")
    return offences


def check_lazy(sources: Sources) -> list[str]:
    return [
        f"{path}:{line}: import {module} inside the function that needs it"
        for path in sources
        if module_name(path).split(".")[0] in LAZY
        for module, line in imports(path, sources, eager=True)
        if module.split(".")[0] not in LAZY
    ]


def check_cycles(sources: Sources) -> list[str]:
    """Take away modules that import nothing but what was taken away; a cycle is what remains."""
    graph = {
        module_name(path): {module for module, _ in imports(path, sources)} & names(sources)
        for path in sources
    }
    while free := {module for module, targets in graph.items() if not targets}:
        graph = {module: targets - free for module, targets in graph.items() if module not in free}
    return [f"{module} -> {', '.join(sorted(targets))}" for module, targets in graph.items()]


def names(sources: Sources) -> set[str]:
    return {module_name(path) for path in sources}


def check_sizes(sources: Sources) -> list[str]:
    return [
        f"{path}: {count} lines; at most {MAX_LINES}"
        for path, source in sources.items()
        if (count := len(source.splitlines())) > MAX_LINES
    ]


def check_packages(sources: Sources) -> list[str]:
    return [
        f"{path}: the __init__ of a sub-package stays empty"
        for path, source in sources.items()
        if path.endswith("/__init__.py") and source.strip()
    ]


def check_annotations(sources: Sources) -> list[str]:
    """The base classes of the model read the annotations of `forward` at run time."""
    return [
        f"{path}:{node.lineno}: no `from __future__ import annotations` in model/"
        for path, source in sources.items()
        if path.startswith("model/")
        for node in walk(source)
        if isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and "annotations" in {alias.name for alias in node.names}
    ]


def check_independence(sources: Sources) -> list[str]:
    """No file may use transformers' own LXMERT, by whichever way it is reached."""
    offences = []
    for path, source in sources.items():
        for node in walk(source):
            found: list[str] = []
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Attribute):
                found = [ast.unparse(node)]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                # A module's name is one word; prose about it is more.
                found = [node.value] if " " not in node.value else []
            offences += [
                f"{path}:{node.lineno}: {name} is not ours"
                for name in found
                if name.startswith("transformers.") and "lxmert" in name.lower()
            ]
    return offences


def check_pickles(sources: Sources) -> list[str]:
    """`torch.load` reads pickles: in the reader of tensors and state only, and weights only."""
    offences = []
    for path, source in sources.items():
        allowed = path in ("tensor_files.py", "train/state.py")
        safe = {
            ast.unparse(node.func)
            for node in walk(source)
            if isinstance(node, ast.Call)
            and any(
                k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords
            )
        }
        for node in walk(source):
            if isinstance(node, ast.ImportFrom) and node.module == "torch":
                if "load" in {alias.name for alias in node.names}:
                    offences.append(f"{path}:{node.lineno}: write torch.load in full")
            elif isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
                if not allowed:
                    offences.append(f"{path}:{node.lineno}: torch.load outside of tensor_files.py")
                elif "torch.load" not in safe:
                    offences.append(f"{path}:{node.lineno}: torch.load needs weights_only=True")
    return offences


def check_images(sources: Sources) -> list[str]:
    """Pillow alone would run other programs on a file: `images.py` is the one that opens any."""
    offences = []
    for path, source in sources.items():
        for node in walk(source) if path != "images.py" else ():
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("PIL"):
                opening = bool({"open", "*"} & {alias.name for alias in node.names})
            else:
                name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
                opening = f".{name}".endswith(".Image.open")
            if opening:
                offences.append(f"{path}:{node.lineno}: only images.py may open with Pillow")
    return offences


PARSERS = {"json.load", "json.loads", "tomllib.load", "tomllib.loads"}
PARSERS_ALLOWED = {
    "files.py": PARSERS,
    "metrics/json_text.py": PARSERS,
    "datasets/making.py": {"json.loads"},  # of what it has just written
}


def check_parsers(sources: Sources) -> list[str]:
    """JSON and TOML of files are read by lxmert.files, which bounds size, depth and digits."""
    offences = []
    for path, source in sources.items():
        for node in walk(source):
            found: list[str] = []
            if isinstance(node, ast.Attribute):
                found = [ast.unparse(node)]
            elif isinstance(node, ast.ImportFrom):
                found = [f"{node.module}.{alias.name}" for alias in node.names]
            offences += [
                f"{path}:{node.lineno}: {name}: use lxmert.files"
                for name in PARSERS.intersection(found) - PARSERS_ALLOWED.get(path, set())
            ]
    return offences


def check_nearest(sources: Sources) -> list[str]:
    """The nearest of several names is found in one place, with one cutoff."""
    return [
        f"{path}: get_close_matches: use lxmert.names"
        for path, source in sources.items()
        if path != "names.py" and "get_close_matches" in source
    ]


def check_class_names(sources: Sources) -> list[str]:
    """No two modules define a class of the same name, so that a name says which is meant."""
    first: dict[str, str] = {}
    return [
        f"{path}:{node.lineno}: class {node.name} is in {first[node.name]} already"
        for path, source in sources.items()
        for node in walk(source)
        if isinstance(node, ast.ClassDef) and first.setdefault(node.name, path) != path
    ]


CHECKS = [
    check_class_names,
    check_nearest,
    check_parsers,
    check_arrows,
    check_lazy,
    check_cycles,
    check_sizes,
    check_packages,
    check_annotations,
    check_independence,
    check_pickles,
    check_images,
]


@pytest.mark.long
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_source_keeps_the_rule(check):
    assert check(read_sources()) == []


def test_all_of_the_source_is_checked():
    sources = read_sources()
    assert len(sources) >= 65
    tops = {name.split(".")[0] for name in names(sources)}
    packages = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert len(packages) >= 8
    assert packages < tops


@pytest.mark.parametrize(
    ("check", "path", "source"),
    [
        (check_arrows, "model/heads.py", "import lxmert.data.store"),
        (check_arrows, "model/heads.py", "from lxmert.boxes import area"),
        (check_arrows, "model/heads.py", "from lxmert import boxes"),
        (check_arrows, "model/heads.py", "from lxmert import LxmertModel"),
        (check_arrows, "model/heads.py", "def late():\n    from lxmert.data import store"),
        (check_arrows, "model/heads.py", "from .layers import Layer"),
        (check_arrows, "train/loop.py", "from lxmert.model.heads import Head"),
        (check_arrows, "workflows/ablate.py", "from lxmert.cli.main import main"),
        (check_arrows, "helpers.py", ""),
        (check_arrows, "workflows/training.py", "from lxmert.lab.scenes import layout"),
        (check_lazy, "cli/main.py", "from lxmert.data.store import RegionStore"),
        (check_lazy, "__init__.py", "if True:\n    import lxmert.boxes"),
        (check_cycles, "data/store.py", "from lxmert.data import readers"),
        (check_cycles, "data/store.py", "def late():\n    import lxmert.data.readers"),
        (check_sizes, "data/store.py", "\n" * (MAX_LINES + 1)),
        (check_packages, "data/__init__.py", "from lxmert.data.store import RegionStore"),
        (check_annotations, "model/heads.py", "from __future__ import annotations"),
        (check_independence, "model/heads.py", "import transformers.models.lxmert"),
        (check_independence, "model/heads.py", "from transformers.models import lxmert"),
        (check_independence, "model/heads.py", "from transformers import LxmertModel as M"),
        (check_independence, "model/heads.py", "import transformers\ntransformers.LxmertModel()"),
        (check_independence, "model/heads.py", "load('transformers.models.lxmert')"),
        (check_pickles, "model/heads.py", "import torch\ntorch.load(p, weights_only=True)"),
        (check_pickles, "model/heads.py", "from torch import load"),
        (check_parsers, "data/store.py", "import json\njson.loads(text)"),
        (check_parsers, "data/store.py", "import json\nrows = map(json.loads, lines)"),
        (check_parsers, "data/store.py", "from json import load"),
        (check_parsers, "data/store.py", "import tomllib\ntomllib.load(file)"),
        (check_pickles, "tensor_files.py", "import torch\ntorch.load(p)"),
        (check_pickles, "train/state.py", "import torch\ntorch.load(p, weights_only=False)"),
        (check_class_names, "data/store.py", "class Reader: ..."),
        (check_nearest, "data/store.py", "import difflib\ndifflib.get_close_matches(a, b)"),
        (check_nearest, "data/store.py", "def late():\n    from difflib import get_close_matches"),
        (check_images, "data/store.py", "from PIL import Image\nImage.open(p)"),
        (check_images, "data/store.py", "import PIL.Image\nPIL.Image.open(p)"),
        (check_images, "data/store.py", "from PIL.Image import open"),
    ],
)
def test_an_offence_is_found(check, path, source):
    """The checks themselves: a small clean package, in which one file breaks one rule."""
    clean = {
        "__init__.py": "def __getattr__(name):\n    from lxmert.model.heads import Head",
        "__main__.py": "from lxmert.cli.main import main",
        "boxes.py": "import numpy",
        "cli/main.py": "if TYPE_CHECKING:\n    from lxmert.boxes import area\n"
        "def ask():\n    from lxmert.data.store import RegionStore",
        "data/__init__.py": "",
        "data/readers.py": "from lxmert.data.store import RegionStore\nclass Reader: ...",
        "data/store.py": "from lxmert.boxes import area",
        "model/heads.py": "from transformers import PreTrainedModel",
        "tensor_files.py": "import torch\ntorch.load(p, weights_only=True)",
        "train/state.py": "import torch\ntorch.load(p, weights_only=True)",
    }
    assert [offence for each in CHECKS for offence in each(clean)] == []
    assert len(check({**clean, path: source})) >= 1
