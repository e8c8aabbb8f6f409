"""The HTTP interface over a real port: answers are the pipeline's, and errors are one sentence."""

import base64
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import ROOT
from servers import QUESTION, SCENE, RunningServer, bundled, in_base64, running, server

from lxmert.model.heads import LxmertForImageAndTextRetrieval
from lxmert.pipeline import LxmertPipeline
from lxmert.serve.messages import MAX_REQUESTS, MAX_TEXT
from lxmert.workflows.exporting import export_folder

__all__ = ["server"]
SCENES = [ROOT / f"src/lxmert/examples/scene-{number}.png" for number in range(1, 6)]
COUNT = "What is the number of metallic things?"


def test_answers_are_those_of_the_pipeline(server: RunningServer) -> None:
    expected = bundled().ask(SCENE, QUESTION, top_k=3)
    for response in (
        server.ask(top_k=3),
        server.post("/v1/ask", json={"image": in_base64(), "question": QUESTION, "top_k": 3}),
    ):
        assert response.status_code == 200, response.text
        answers = response.json()["answers"]
        assert [a["answer"] for a in answers] == [a.answer for a in expected]
        assert [a["score"] for a in answers] == pytest.approx([a.score for a in expected], abs=1e-5)


@pytest.mark.slow
def test_an_exported_model_is_served_with_the_same_answers(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    export_folder(None, tmp_path / "fast", runtime="onnxruntime")
    expected = bundled().ask(SCENE, QUESTION, top_k=3)
    with running(lambda: LxmertPipeline.from_pretrained(tmp_path / "fast")) as served:
        response = served.ask(top_k=3)
        assert response.status_code == 200, response.text
        answers = response.json()["answers"]
        assert [a["answer"] for a in answers] == [a.answer for a in expected]
        assert [a["score"] for a in answers] == pytest.approx([a.score for a in expected], abs=1e-4)
        about = served.get("/v1/model").json()
        assert (about["can_ask"], about["can_explain"], about["can_match"]) == (True, False, True)
        captions = ["a yellow ball", "a red mug"]
        matched = served.post("/v1/match", json={"image": in_base64(), "captions": captions})
        whole = LxmertPipeline.from_pretrained()
        assert matched.json()["scores"] == pytest.approx(whole.match(SCENE, captions), abs=1e-4)
        refused = served.post("/v1/explain", json={"image": in_base64(), "question": QUESTION})
        assert 400 <= refused.status_code < 500
        assert "no gradients" in refused.json()["error"]
        assert "/" not in refused.json()["error"]  # no path of the host


def test_a_data_url_is_base64_too(server: RunningServer) -> None:
    body = {"image": f"data:image/png;base64,{in_base64()}", "question": QUESTION}
    assert server.post("/v1/ask", json=body).json()["answers"][0]["answer"] == "yellow"


def test_a_known_image_is_named_by_its_id(server: RunningServer) -> None:
    first = server.ask().json()
    body = {"image_id": first["image_id"], "question": "How many plates are there?"}
    again = server.post("/v1/ask", json=body).json()
    assert again["answers"][0]["answer"] == bundled().ask(SCENE, body["question"])[0].answer
    unknown = server.post("/v1/ask", json={**body, "image_id": "8" * 64})
    assert unknown.status_code == 404
    assert "send the image itself" in unknown.json()["error"]


def test_regions_are_those_of_the_pipeline(server: RunningServer) -> None:
    expected = bundled().regions(SCENE)
    body = server.post("/v1/regions", json={"image": in_base64(), "arrays": True}).json()
    assert (body["width"], body["height"]) == expected.image_size[::-1]
    assert [region["label"] for region in body["regions"]] == bundled().labels(expected)
    np.testing.assert_allclose(
        [region["box"] for region in body["regions"]], expected.boxes, atol=0.01
    )
    packed = body["arrays"]["features"]
    features = np.frombuffer(base64.b64decode(packed["data"]), "<f4").reshape(packed["shape"])
    np.testing.assert_allclose(features, expected.features, rtol=1e-4, atol=1e-5)
    form = server.post("/v1/regions", files={"image": SCENE.read_bytes()}).json()
    assert form["arrays"] is None


def test_an_explanation_has_scores_for_every_word_region_and_answer(server: RunningServer) -> None:
    fields = {"question": QUESTION, "answers": "mug", "methods": ["occlusion"], "top_k": 2}
    body = server.post(
        "/v1/explain", files={"image": SCENE.read_bytes()}, data={**fields, "attention": "true"}
    ).json()
    expected = bundled().explain(SCENE, QUESTION, top_k=2, answers=["mug"], methods=["occlusion"])
    assert [a["answer"] for a in body["answers"]] == [a.answer for a in expected.answers]
    (method,) = body["methods"]
    assert method["regions"] == pytest.approx(
        expected.by_method["occlusion"].regions.numpy(), abs=1e-4
    )
    assert [word["text"] for word in body["words"]] == [word.text for word in expected.words]
    assert len(body["maps"]) == len([m for m in expected.maps.kinds().values() if m])
    wrong = server.post(
        "/v1/explain", json={**fields, "image": in_base64(), "answers": ["zeppelin"]}
    )
    assert wrong.status_code == 422
    assert '"zeppelin"' in wrong.json()["error"]
    wrong = server.post(
        "/v1/explain", json={"question": "a?", "image": in_base64(), "methods": ["guess"]}
    )
    assert wrong.status_code == 422
    assert "occlusion" in wrong.json()["error"]


def test_a_saved_report_is_found_by_its_link_only(server: RunningServer) -> None:
    body = {"image": in_base64(), "question": QUESTION, "save": True}
    link = server.post("/v1/explain", json=body).json()["report"]
    page = server.get(link)
    assert page.status_code == 200
    assert QUESTION in page.text
    assert "sandbox" in page.headers["content-security-policy"]
    for name in ("8" * 22, "../" * 3 + "etc/passwd", "%2e%2e%2fpasswd", "a", link[:-1]):
        assert server.get(f"/reports/{name}").status_code == 404


def test_what_the_model_does_not_know_is_told(server: RunningServer) -> None:
    warnings = server.ask(question="Where is the zeppelin?").json()["warnings"]
    assert any("zeppelin" in warning for warning in warnings)


def test_every_request_of_a_batch_is_answered_or_refused_by_itself(server: RunningServer) -> None:
    good = [{"image": in_base64(path), "question": COUNT} for path in SCENES]
    bad = [{"question": "What?"}, {"image": "AAAA", "question": "What?"}, {"image": 8}, 8]
    body = server.post("/v1/ask/batch", json={"requests": [*good, *bad]})
    assert body.status_code == 200, body.text
    results = body.json()["results"]
    expected = [bundled().ask(path, COUNT)[0].answer for path in SCENES]
    assert [result["answers"][0]["answer"] for result in results[:5]] == expected
    assert [result["status"] for result in results[5:]] == [422, 400, 422, 422]
    for wrong in ({"requests": []}, {"requests": [8] * (MAX_REQUESTS + 1)}, {}, {"requests": {}}):
        assert server.post("/v1/ask/batch", json=wrong).status_code == 422


def test_a_form_repeats_the_fields_of_a_batch(server: RunningServer) -> None:
    files = [("image", path.read_bytes()) for path in SCENES[:2]]
    body = server.post("/v1/ask/batch", files=files, data={"question": COUNT}).json()
    assert len(body["results"]) == 2
    one = [("image", SCENE.read_bytes())]
    fields = {"question": [QUESTION, COUNT]}
    body = server.post("/v1/ask/batch", files=one, data=fields).json()
    assert [result["question"] for result in body["results"]] == fields["question"]
    uneven = {"question": ["a", "b", "c"]}
    assert server.post("/v1/ask/batch", files=files, data=uneven).status_code == 422


def test_many_clients_at_once_get_their_own_answers(server: RunningServer) -> None:
    expected = {path: bundled().ask(path, COUNT)[0].answer for path in SCENES}
    wrong: list[object] = []

    def client() -> None:
        for path in SCENES:
            response = httpx.post(
                f"{server.base_url}/v1/ask",
                files={"image": path.read_bytes()},
                data={"question": COUNT},
                timeout=60,
            )
            if response.json()["answers"][0]["answer"] != expected[path]:
                wrong.append(response.text)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    metrics = server.get("/metrics").text
    assert 'lxmert_region_cache_lookups_total{result="hit"}' in metrics
    assert 'lxmert_requests_total{path="/v1/ask",status="200"}' in metrics


def test_the_model_is_described(server: RunningServer) -> None:
    about = server.get("/v1/model").json()
    assert (about["model"], about["can_ask"], about["can_explain"], about["can_match"]) == (
        "the bundled model", True, True, False,
    )  # fmt: skip
    refused = server.post("/v1/match", json={"image": in_base64(), "captions": ["a ball"]})
    assert refused.status_code == 422
    assert refused.json()["error"] == about["missing"]
    assert "no matching head" in about["missing"]


def make_matcher() -> LxmertPipeline:
    """Return a model that matches captions, with random weights."""
    pipeline = bundled()
    return LxmertPipeline(LxmertForImageAndTextRetrieval(pipeline.model.config), pipeline.processor)


def test_a_model_that_matches_compares_captions() -> None:
    matcher = make_matcher()
    captions = ["a yellow ball", "a red mug"]
    with running(lambda: matcher) as client:
        body = client.post("/v1/match", json={"image": in_base64(), "captions": captions}).json()
        assert body["scores"] == pytest.approx(matcher.match(SCENE, captions), abs=1e-5)
        assert body["captions"] == captions
        refused = client.ask()
        assert refused.status_code == 422
        assert "no answer head" in refused.json()["error"]


def test_the_schema_describes_every_route(server: RunningServer) -> None:
    schema = server.get("/openapi.json").json()
    kinds = {"ask", "regions", "explain", "match"}
    assert {p for p in schema["paths"] if p.startswith("/v1")} == {
        "/v1/model",
        *(f"/v1/{kind}" for kind in kinds),
        *(f"/v1/{kind}/batch" for kind in kinds),
    }
    known = schema["components"]["schemas"]
    for kind in kinds:
        body = schema["paths"][f"/v1/{kind}"]["post"]["requestBody"]["content"]
        assert set(body) == {"application/json", "multipart/form-data"}
        name = body["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert name in known
    assert known["AskRequest"]["properties"]["question"]["maxLength"] == MAX_TEXT


def test_a_server_that_loads_says_so() -> None:
    go = threading.Event()

    def slow() -> LxmertPipeline:
        go.wait(60)
        return bundled()

    with running(slow, wait=False) as client:
        health = client.get("/health")
        assert (health.status_code, health.json()) == (503, {"status": "loading"})
        early = client.ask()
        assert early.status_code == 503
        assert early.headers["retry-after"]
        go.set()
        assert client.service.queue.ready.wait(60)
        assert client.get("/health").json() == {"status": "ready"}
        assert client.ask().status_code == 200
