"""The card of a model, and what is uploaded with it to a hub: here a small server of our own."""

import base64
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from huggingface_hub import ModelCard

from lxmert.model.card import GENERATED, CardDetails, describe_model, write_model_card
from lxmert.model.heads import LxmertForQuestionAnswering

from . import tiny

NAMES = list(tiny.OURS)
QA, PRETRAINING = "LxmertForQuestionAnswering", "LxmertForPreTraining"
DETAILS = CardDetails(
    license="apache-2.0",
    base_model="unc-nlp/lxmert-base-uncased",
    datasets=["vqa"],
    training="Three hours on one sofa.",
    metrics={"accuracy on sofas": 0.375},
    tags=["sofa", "lxmert"],
)


def code_of(card):
    _, _, rest = card.text.partition("```python\n")
    return rest.partition("\n```")[0]


@pytest.mark.parametrize("name", NAMES)
def test_saved_models_have_a_card_whose_example_runs(name, tmp_path, monkeypatch, capsys):
    torch.manual_seed(8)
    model = tiny.build(name)
    model.save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    expected = {"library_name": "lxmert", "tags": ["lxmert", "vision-and-language"]}
    if name == QA:
        expected["pipeline_tag"] = "visual-question-answering"
    assert card.data.to_dict() == expected
    assert f"- **Parameters**: {model.num_parameters():,}\n" in card.text
    assert "2 language, 1 object-relationship, 3 cross-modality" in card.text
    code = code_of(card)
    assert len(code.splitlines()) == 6
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert "tensor(" in capsys.readouterr().out


def test_the_card_contains_its_details():
    text = describe_model(tiny.build(QA), name="someone/sofas", details=DETAILS)
    card = ModelCard(text)
    assert card.data.to_dict() == {
        "license": "apache-2.0",
        "library_name": "lxmert",
        "pipeline_tag": "visual-question-answering",
        "base_model": "unc-nlp/lxmert-base-uncased",
        "datasets": ["vqa"],
        "tags": ["lxmert", "vision-and-language", "sofa"],
    }
    assert "# sofas\n" in card.text
    assert "from_pretrained('someone/sofas')" in code_of(card)
    assert "Three hours on one sofa.\n\nData: vqa." in card.text
    assert "| accuracy on sofas | 0.375 |" in card.text


def test_the_card_lists_objectives_and_answers():
    answers = ["", "yes", "a `sofa`", *(f"answer {index}" for index in range(10))]
    names = dict(enumerate(answers))
    model = tiny.build(PRETRAINING, task_matched=False, id2label=names)
    text = describe_model(model)
    assert "- **Objectives**: masked words, masked regions, answers\n" in text
    assert "- **Answers**: 13: `yes`, `a sofa`, `answer 0`, " in text
    assert text.count("`answer ") == 10
    assert "13, without names in the configuration" in describe_model(tiny.build(QA))
    assert "Answers" not in describe_model(tiny.build("LxmertModel"))


def test_a_card_that_a_user_wrote_is_kept(tmp_path):
    path = tmp_path / "README.md"
    tiny.build(QA).save_pretrained(tmp_path)
    assert GENERATED in path.read_text()
    tiny.build(PRETRAINING).save_pretrained(tmp_path)
    assert "- **Objectives**" in path.read_text()  # one that nobody touched is kept up to date
    written = write_model_card(tiny.build(QA), tmp_path, details=DETAILS)
    assert written == path
    tiny.build(PRETRAINING).save_pretrained(tmp_path)
    assert "Three hours on one sofa." in path.read_text()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]


def test_a_model_of_another_class_has_the_card_of_ours():
    class Special(LxmertForQuestionAnswering):
        pass

    text = describe_model(Special(tiny.config()))
    assert "LxmertForQuestionAnswering.from_pretrained" in text


class Hub(BaseHTTPRequestHandler):
    """What a hub answers when a model is uploaded; it keeps what it is sent."""

    files: dict[str, bytes]
    requests: list[str]

    def do_HEAD(self):
        name = self.path.rpartition("/")[2]
        self.requests.append(f"{self.command} {self.path}")
        if name not in self.files:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": '"8"', "X-Repo-Commit": "3" * 40}
        return self.answer(200, self.files[name], headers)

    do_GET = do_HEAD  # noqa: N815 - named by the base class

    def do_POST(self):
        self.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        host = f"http://{self.headers['Host']}"
        if "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular"} for name in names]
            return self.answer_json({"files": [mode | {"shouldIgnore": False} for mode in modes]})
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            commit = {"commitUrl": f"{host}/someone/sofas/commit/{'3' * 40}", "commitOid": "3" * 40}
            return self.answer_json(commit)
        if self.path == "/api/validate-yaml":
            return self.answer_json({"errors": [], "warnings": []})
        return self.answer_json({"url": f"{host}/someone/sofas"})

    def answer_json(self, value):
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def answer(self, status, content, headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Serve an empty repository on the loopback, and send the hub's client there."""
    handler = type("OneHub", (Hub,), {"files": {}, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_sofa")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield handler
    server.shutdown()
    server.server_close()


# The client reads its endpoint when it is imported, so a process of its own uploads.
PUSH = """
import sys
from lxmert import LxmertForQuestionAnswering
model = LxmertForQuestionAnswering.from_pretrained(sys.argv[1])
model.push_to_hub("someone/sofas", tags=["sofa"])
model.resize_num_qa_labels(17)
model.save_pretrained(sys.argv[2], push_to_hub=True, repo_id="someone/sofas")
"""


@pytest.mark.long
def test_pushed_models_bring_their_card(hub, tmp_path):
    """Both ways to upload; a card that the repository has by then is kept."""
    model = tiny.build(QA)
    model.save_pretrained(tmp_path / "model")
    command = [sys.executable, "-c", PUSH, str(tmp_path / "model"), str(tmp_path / "second")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert sorted(hub.files) == ["README.md", "config.json", "model.safetensors"]
    assert json.loads(hub.files["config.json"])["num_qa_labels"] == 17
    card = ModelCard(hub.files["README.md"].decode())
    assert card.data.tags == ["lxmert", "vision-and-language", "sofa"]
    assert card.data.library_name == "lxmert"
    assert "from_pretrained('someone/sofas')" in code_of(card)
    assert "**Answers**: 13," in card.text
    assert sum("/commit/" in request for request in hub.requests) == 2
