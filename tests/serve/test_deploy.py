"""The deployment examples: options that the command knows, safe settings, syntax."""

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, Command

DEPLOY = ROOT / "examples/deploy"
UNIT = (DEPLOY / "lxmert.service").read_text()


def options_of(words: list[str]) -> set[str]:
    return {word for word in words if word.startswith("--")}


def known_options(lxmert: Command) -> set[str]:
    found = set(re.findall(r"--[a-z-]+", lxmert("serve", "--help").out))
    assert len(found) >= 20
    return found


def test_every_file_is_tested() -> None:
    assert {path.name for path in DEPLOY.iterdir() if path.is_file()} == {
        "Dockerfile", "Dockerfile.runtime", "lxmert.service", "ray_serve.py",
    }  # fmt: skip


def test_the_unit_runs_a_command_that_exists(lxmert: Command) -> None:
    (line,) = re.findall(r"^ExecStart=(.+)$", UNIT, re.MULTILINE)
    words = shlex.split(line)
    assert words[1] == "serve"
    assert options_of(words) <= known_options(lxmert)
    assert "--api-key-file" in words  # it listens beyond this machine
    for setting in ("NoNewPrivileges=yes", "ProtectSystem=strict", "DynamicUser=yes"):
        assert setting in UNIT.splitlines()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT, flags=re.MULTILINE)
    path = tmp_path / "lxmert.service"
    path.write_text(text)
    checked = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    assert "lxmert.service" not in checked.stderr, checked.stderr


def test_the_unit_has_sections_and_assignments_only() -> None:
    lines = [line for line in UNIT.splitlines() if line and not line.startswith("#")]
    sections = [line for line in lines if re.fullmatch(r"\[\w+\]", line)]
    assert sections == ["[Unit]", "[Service]", "[Install]"]
    assert all(re.match(r"[A-Z]\w+=", line) for line in lines if line not in sections)


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.runtime"])
def test_a_dockerfile_runs_a_command_that_exists(lxmert: Command, name: str) -> None:
    text = (DEPLOY / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    known = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT",
             "CMD"}  # fmt: skip
    assert {line.split()[0] for line in lines} <= known
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", text, re.MULTILINE)
    (rest,) = re.findall(r"^CMD (.+)$", text, re.MULTILINE)
    words = [*ast.literal_eval(entry), *ast.literal_eval(rest)]
    assert words[:2] == ["lxmert", "serve"]
    assert options_of(words) <= known_options(lxmert)
    assert "--api-key-file" in words
    for line in lines:
        if line.startswith("COPY") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source


def test_the_ray_example_is_valid_python_over_names_that_exist() -> None:
    tree = ast.parse((DEPLOY / "ray_serve.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lxmert"):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.slow
def test_the_ray_example_answers_as_the_pipeline() -> None:
    """With Ray Serve installed, its deployment class is run as it is, without a cluster."""
    pytest.importorskip("ray.serve", reason="needs ray[serve]", exc_type=ImportError)
    spec = importlib.util.spec_from_file_location("ray_serve", DEPLOY / "ray_serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.app is not None
