"""The object for users, with the bundled model."""

import copy
import os
from collections.abc import Callable
from pathlib import Path

import accelerate
import numpy as np
import peft
import pytest
import torch
from conftest import ROOT
from PIL import Image

from lxmert import (
    LxmertForImageAndTextRetrieval,
    LxmertForQuestionAnswering,
    LxmertModel,
    LxmertPipeline,
    LxmertProcessor,
)
from lxmert.hub import find_model
from lxmert.model.runtime import TorchRuntime
from lxmert.reading import InputWarning
from lxmert.regions.preprocess import ImageInput

SCENE = ROOT / "src/lxmert/examples/scene.png"
QUESTIONS = ("What color is the ball?", "How many books are there?", "Is there a purple hat?")


@pytest.fixture(scope="module")
def pipeline() -> LxmertPipeline:
    return LxmertPipeline.from_pretrained()


def test_answers_are_ranked_probabilities_over_the_whole_vocabulary(
    pipeline: LxmertPipeline,
) -> None:
    answers = pipeline.ask(SCENE, QUESTIONS[0], top_k=10_000)
    assert sorted(answer.answer for answer in answers) == sorted(pipeline.answers)
    scores = [answer.score for answer in answers]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert pipeline.ask(SCENE, QUESTIONS[0]) == answers[:5]


def test_many_questions_about_one_image_get_the_same_answers(pipeline: LxmertPipeline) -> None:
    regions = pipeline.regions(SCENE)
    together = pipeline.ask_regions(regions, QUESTIONS)
    for question, answers in zip(QUESTIONS, together, strict=True):
        alone = pipeline.ask(SCENE, question)
        assert [a.answer for a in alone][:1] == [a.answer for a in answers][:1]
        assert alone[0].score == pytest.approx(answers[0].score, abs=1e-4)


def test_relevance_is_what_leaving_a_region_out_does(pipeline: LxmertPipeline) -> None:
    """Against the long way: the same question with one region really taken away."""
    from dataclasses import replace

    explanation = pipeline.explain(SCENE, QUESTIONS[0])
    regions, best = explanation.regions, explanation.answers[0]
    for index in range(len(regions)):
        kept = [other for other in range(len(regions)) if other != index]
        names = ("boxes", "features", "object_ids", "object_scores", "attribute_ids")
        fewer = replace(regions, **{name: getattr(regions, name)[kept] for name in names})
        answers = pipeline.ask_regions(fewer, [QUESTIONS[0]], top_k=len(pipeline.answers))[0]
        without = next(a.score for a in answers if a.answer == best.answer)
        assert explanation.relevance[index] == pytest.approx(best.score - without, abs=1e-4)


def test_any_answers_are_explained_by_any_methods(pipeline: LxmertPipeline) -> None:
    every = {a.answer: a.score for a in pipeline.ask(SCENE, QUESTIONS[0], top_k=99)}
    best = next(iter(every))
    explanation = pipeline.explain(
        SCENE, QUESTIONS[0], top_k=2, answers=["mug", best], methods=["gradcam", "attention"]
    )
    named = [answer.answer for answer in explanation.answers]
    assert named[0] == best
    assert named[2:] == ["mug"], "an answer that is among the best is not there twice"
    for answer in explanation.answers:
        assert answer.score == pytest.approx(every[answer.answer], abs=1e-5)
    assert list(explanation.by_method) == ["gradcam", "attention", "occlusion"]
    for words, regions in explanation.by_method.values():
        assert words.shape == (3, len(explanation.words))
        assert regions.shape == (3, len(explanation.regions))
    assert {len(layers) for layers in explanation.maps.kinds().values()} == {2, 3}
    assert "<iframe" in explanation._repr_html_()


def test_words_are_shown_as_they_were_typed(pipeline: LxmertPipeline) -> None:
    with pytest.warns(UserWarning, match="does not know 'Zebra'"):
        explanation = pipeline.explain(SCENE, "IS there a  Zebra,ball?", methods=["attention"])
    shown = [(word.text, word.kind, word.joined) for word in explanation.words]
    assert shown == [
        ("[CLS]", "special", False),
        ("IS", "word", False),
        ("there", "word", False),
        ("a", "word", False),
        ("Zebra", "unknown", False),
        (",", "word", True),
        ("ball", "word", True),
        ("?", "word", True),
        ("[SEP]", "special", False),
    ]
    assert explanation.unread == ""


def test_what_was_not_read_of_a_long_question_is_reported(pipeline: LxmertPipeline) -> None:
    question = "What color is the ball " + "and the mug " * 10 + "?"
    with pytest.warns(UserWarning, match="cut, leaving"):
        explanation = pipeline.explain(SCENE, question, methods=["attention"])
    assert len(explanation.words) == pipeline.processor.config.max_text_length
    assert explanation.words[-1].text == "[SEP]"
    read = question.removesuffix(explanation.unread)
    assert read.split() == [word.text for word in explanation.words[1:-1]]
    assert explanation.unread.endswith("and the mug ?")


def test_an_answer_outside_of_the_vocabulary_names_the_nearest(pipeline: LxmertPipeline) -> None:
    all_answers = f"the {len(pipeline.answers)} answers"
    with pytest.raises(ValueError, match=rf"'Purpel' is not among {all_answers} .* purple"):
        pipeline.explain(SCENE, QUESTIONS[0], answers=["Purpel"])
    with pytest.raises(
        ValueError, match=rf"'\?' is not among {all_answers} .*: choose one of them$"
    ):
        pipeline.explain(SCENE, QUESTIONS[0], answers=["?"])


@pytest.mark.parametrize("name", ["answers", "methods"])
def test_one_text_is_no_list_of_texts_to_explain(pipeline: LxmertPipeline, name: str) -> None:
    """`methods="all"` was refused with: no method 'a'."""
    with pytest.raises(ValueError, match=rf"{name} is the one text 'all': write \['all'\]"):
        pipeline.explain(SCENE, QUESTIONS[0], **{name: "all"})  # type: ignore[arg-type]


def test_labels_name_attributes_before_the_object(pipeline: LxmertPipeline) -> None:
    explanation = pipeline.explain(SCENE, QUESTIONS[0])
    assert len(explanation.labels) > 1
    for label, name in zip(explanation.labels, explanation.objects, strict=True):
        size, color, material, noun = label.split()
        assert (size in ("small", "large"), material in ("metal", "plastic")) == (True, True)
        assert noun == name
        assert color in pipeline.processor.extractor.attribute_names


def test_an_empty_image_is_answered_from_the_whole_image(pipeline: LxmertPipeline) -> None:
    blank = np.full((50, 80, 3), 120, dtype=np.uint8)
    with pytest.warns(UserWarning, match="nothing in this image"):
        explanation = pipeline.explain(blank, "How many books are there?")
    assert explanation.labels == ["whole image"]
    assert explanation.regions.boxes.tolist() == [[0, 0, 80, 50]]
    assert np.isfinite(explanation.relevance).all()


def test_the_model_is_left_as_it_was(pipeline: LxmertPipeline) -> None:
    before = {name: value.clone() for name, value in pipeline.model.state_dict().items()}
    pipeline.explain(SCENE, QUESTIONS[0])
    assert not pipeline.model.training
    assert all(p.grad is None for p in pipeline.model.parameters())
    for name, value in pipeline.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_bundled_model_lies_inside_the_package_and_is_small() -> None:
    folder = find_model(None)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size <= 25e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    for text in (
        "question-only baseline",
        "make default-model",
        "masked words",
        "IoU 0.5",
        "after loading",
    ):
        assert text in card


def test_an_image_is_encoded_once_for_many_questions(
    pipeline: LxmertPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = LxmertModel.encode_image

    def count(self: LxmertModel, features: torch.Tensor, *rest: torch.Tensor) -> object:
        encoded.append(len(features))
        return encode(self, features, *rest)

    regions = pipeline.regions(SCENE)
    monkeypatch.setattr(LxmertModel, "encode_image", count)
    questions = [QUESTIONS[index % 3] for index in range(150)]
    answers = pipeline.ask_regions(regions, questions, top_k=2)
    assert encoded == [1]
    assert len(answers) == 150
    for index, found in enumerate(answers):
        assert [a.answer for a in found] == [a.answer for a in answers[index % 3]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda pipe: pipe.match(SCENE, "a mug"), r"captions is the one text 'a mug': write \["),
        (lambda pipe: pipe.match(SCENE, []), "captions is an empty list"),
        (lambda pipe: pipe.ask(SCENE, "What?", top_k=0), "top_k is 0"),
        (lambda pipe: pipe.ask_regions(None, []), "questions is an empty list"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_computed(
    pipeline: LxmertPipeline, call: Callable[[LxmertPipeline], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(pipeline)


@pytest.mark.parametrize("name", ["ask", "explain"])
@pytest.mark.parametrize(
    ("question", "options", "message"),
    [
        (None, {}, "the text is None: write a question"),
        (5, {}, "the text is 5"),
        (["What?"], {}, r"question is \['What\?'\]"),
        (" ", {}, "the text is empty"),
        ("What \udc80?", {}, "is not valid Unicode"),
        ("What?", {"top_k": None}, "top_k is None, expected an integer"),
        ("What?", {"top_k": "3"}, "top_k is '3', expected an integer"),
        ("What?", {"top_k": 1.5}, "top_k is 1.5, expected an integer"),
        ("What?", {"top_k": True}, "top_k is True, expected an integer"),
    ],
)
def test_questions_and_numbers_of_other_types_are_refused_in_one_sentence(
    pipeline: LxmertPipeline,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    question: str,
    options: dict[str, int],
    message: str,
) -> None:
    """They ended in an AttributeError, or in torch or the tokenizer, after the image was read."""
    monkeypatch.setattr(pipeline, "regions", None)
    with pytest.raises((TypeError, ValueError), match=message):
        getattr(pipeline, name)(SCENE, question, **options)


@pytest.mark.parametrize("option", ["answers", "methods"])
@pytest.mark.parametrize("value", [None, 5, [5], [None, "red"]])
def test_explaining_takes_only_lists_of_texts(
    pipeline: LxmertPipeline, option: str, value: list[str]
) -> None:
    """A number among the answers ended in an AttributeError."""
    with pytest.raises(TypeError, match=f"{option} is .* expected a list of texts"):
        pipeline.explain(SCENE, "What?", **{option: value})


def test_a_model_that_only_matches_says_that_it_cannot_answer(pipeline: LxmertPipeline) -> None:
    matcher = LxmertForImageAndTextRetrieval(pipeline.model.config)
    only = LxmertPipeline(matcher, pipeline.processor)
    assert 0 < only.match(SCENE, ["a red mug"])[0] < 1
    with pytest.raises(ValueError, match="no answer head, it can only match captions"):
        only.ask(SCENE, QUESTIONS[0])


def test_a_model_whose_answers_have_no_names_says_so(pipeline: LxmertPipeline) -> None:
    """The advice was `--model 'this LxmertForQuestionAnswering'`, which nobody can follow."""
    config = copy.deepcopy(pipeline.model.config)
    config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
    nameless = LxmertPipeline(LxmertForQuestionAnswering(config), pipeline.processor)
    count = config.num_qa_labels
    with pytest.raises(ValueError, match=f"does not name its {count} answers: set model.config"):
        nameless.ask(SCENE, QUESTIONS[0])


def make_model() -> LxmertForQuestionAnswering:
    return LxmertForQuestionAnswering.from_pretrained(ROOT / "src/lxmert/default")


def with_adapter() -> torch.nn.Module:
    torch.manual_seed(8)
    config = peft.LoraConfig(target_modules=["query"], init_lora_weights=False)
    return peft.get_peft_model(make_model(), config)


WRAPPERS: dict[str, Callable[[], torch.nn.Module]] = {
    "compiled": lambda: torch.compile(make_model(), backend="eager"),
    "adapter": with_adapter,
    "compiled adapter": lambda: torch.compile(with_adapter(), backend="eager"),
    "offloaded": lambda: accelerate.cpu_offload(make_model(), execution_device="cpu"),
    "parallel": lambda: torch.nn.DataParallel(make_model()),
}


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param("compiled", marks=pytest.mark.slow), *list(WRAPPERS)[1:]]
)
def test_wrapped_models_answer(pipeline: LxmertPipeline, name: str) -> None:
    """They could "only match captions", or their weights were on the device `meta`."""
    wrapped = WRAPPERS[name]()
    answers = LxmertPipeline(wrapped, pipeline.processor).ask(SCENE, QUESTIONS[0])  # type: ignore[arg-type]
    with torch.inference_mode():
        inputs = pipeline.processor(SCENE, QUESTIONS[0])
        scores = wrapped.eval()(**inputs).question_answering_score.softmax(-1)
    best = scores[0].max()
    assert answers[0].score == pytest.approx(float(best), abs=1e-5)
    same = answers[0].score == pytest.approx(pipeline.ask(SCENE, QUESTIONS[0])[0].score, abs=1e-5)
    assert same == ("adapter" not in name)


def test_other_models_are_named(pipeline: LxmertPipeline) -> None:
    prompts = peft.PromptTuningConfig(num_virtual_tokens=3, token_dim=8, num_layers=1)
    prompts.num_attention_heads, prompts.num_transformer_submodules = 2, 1
    with pytest.raises(TypeError, match="the model is a Linear; expected LxmertForQuestionAnsweri"):
        LxmertPipeline(torch.nn.Linear(3, 3), pipeline.processor)  # type: ignore[arg-type]
    model = torch.compile(LxmertModel(pipeline.model.config), backend="eager")
    with pytest.raises(TypeError, match="expected LxmertForQuestionAnswering or Lxmert"):
        LxmertPipeline(model, pipeline.processor)
    tuned = torch.nn.Module()
    tuned.peft_config, tuned.get_base_model = {"default": prompts}, make_model
    with pytest.raises(ValueError, match="adds learned prompts to its input"):
        LxmertPipeline(tuned, pipeline.processor)  # type: ignore[arg-type]


def test_a_folder_with_an_adapter_is_named_as_that(tmp_path: Path) -> None:
    """It was "has no config.json"."""
    with_adapter().save_pretrained(tmp_path)  # type: ignore[operator]
    for load in (LxmertPipeline.from_pretrained, LxmertProcessor.from_pretrained):
        with pytest.raises(
            ValueError, match=r"holds a PEFT adapter .* without its model: load the"
        ):
            load(tmp_path)


@pytest.mark.parametrize("name", ["ask", "explain"])
@pytest.mark.parametrize(
    ("image", "question", "message"),
    [
        (QUESTIONS[0], str(SCENE), "looks like a question: the image comes first"),
        ("a red ball", str(SCENE), "looks like a question: the image comes first"),
        ("What is this? ", "What?", "looks like a question: the image comes first"),
        (QUESTIONS[0], SCENE, "the question is a PosixPath: the image comes first"),
        (QUESTIONS[0], np.zeros((4, 4, 3), np.uint8), "the question is a ndarray: the image"),
        (SCENE, ["What?", "Where?"], r"question is \['What\?', 'Where\?'\]: ask one, or several"),
    ],
)
def test_arguments_in_each_other_s_place_are_named(
    pipeline: LxmertPipeline, name: str, image: ImageInput, question: str, message: str
) -> None:
    """A question given as the image was "no file", without what to do."""
    with pytest.raises((TypeError, ValueError), match=message):
        getattr(pipeline, name)(image, question)


def test_regions_and_captions_of_other_types_are_named(pipeline: LxmertPipeline) -> None:
    with pytest.raises(TypeError, match=r"regions is a str; expected what pipeline\.regions"):
        pipeline.ask_regions("x.png", QUESTIONS)  # type: ignore[arg-type]
    only = LxmertPipeline(LxmertForImageAndTextRetrieval(pipeline.model.config), pipeline.processor)
    with pytest.raises(ValueError, match="not valid Unicode"):
        only.match("gone.png", ["a mug", "a \ud800"])


def test_a_forked_process_is_refused_and_not_left_waiting(
    pipeline: LxmertPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's threads are not copied by a fork: the child waited for them for ever."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    regions = pipeline.regions(SCENE)
    calls = (
        lambda: pipeline.ask(SCENE, QUESTIONS[0]),
        lambda: pipeline.ask_regions(regions, QUESTIONS),
        lambda: pipeline.explain(SCENE, QUESTIONS[0]),
        lambda: LxmertPipeline(pipeline.model, pipeline.processor),
    )
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        for call in calls:
            try:
                call()
            except RuntimeError as error:
                os.write(writer, f"{error}\n".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as lines:
        errors = lines.read().splitlines()
    os.waitpid(child, 0)
    assert len(errors) == len(calls)
    assert all(f"forked from process {os.getpid()}" in error for error in errors)
    assert all("get_context('spawn'), or call torch.set_num_threads(1)" in e for e in errors)


def test_one_thread_survives_a_fork(
    pipeline: LxmertPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorchRuntime, "_threaded", os.getppid())
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert pipeline.ask(SCENE, QUESTIONS[0])


def test_a_warning_of_the_input_is_short_and_at_the_user_s_line(pipeline: LxmertPipeline) -> None:
    """It pointed into torch, and listed all 130 words of the vocabulary."""
    calls = (
        lambda: pipeline.ask(SCENE, "What zebra is a yak or gnu or emu or auk or ibex?"),
        lambda: pipeline.explain(SCENE, "What zebra?"),
        lambda: pipeline.processor(SCENE, ["What zebra?"]),
        lambda: pipeline.ask(Image.new("RGB", (90, 90)), "What zebra?"),
    )
    for call in calls:
        with pytest.warns(InputWarning) as caught:
            call()
        assert {warning.filename for warning in caught} == {__file__}
        assert all(len(str(warning.message)) < 250 for warning in caught)
    with pytest.warns(
        InputWarning, match=r"'zebra', .* and \d+ more, so .* knows \d+ words, such as"
    ):
        calls[0]()


def test_what_holds_arrays_is_shown_in_one_line(pipeline: LxmertPipeline) -> None:
    """An explanation had 48,616 characters, regions 35 lines."""
    explanation = pipeline.explain(SCENE, QUESTIONS[0], methods=["occlusion"])
    assert repr(explanation.regions).startswith(f"Regions({len(explanation.regions)} of 160 x 160")
    assert repr(explanation).startswith(f"Explanation('{QUESTIONS[0]}': 'yellow' (0.999)")
    for value in (explanation, explanation.regions):
        assert len(repr(value)) < 200
        assert "\n" not in repr(value)


def test_the_answer_without_the_image_is_that_of_the_question_alone(
    pipeline: LxmertPipeline,
) -> None:
    """Against the model without any region: an empty region stream of one masked row."""
    for question in QUESTIONS:
        found = pipeline.explain(SCENE, question, methods=["occlusion"])
        inputs = pipeline.processor.inputs([found.regions], [question])
        for name in ("visual_feats", "visual_pos", "visual_attention_mask"):
            inputs[name] = torch.zeros_like(inputs[name][:, :1])
        with torch.inference_mode():
            best = pipeline.model(**inputs)[0].softmax(-1).max(-1)
        assert found.without_image is not None
        assert found.without_image.answer == pipeline.answers[int(best.indices)]
        assert found.without_image.score == pytest.approx(float(best.values), abs=1e-5)
        same = found.without_image.answer == found.answers[0].answer
        assert found.same_without_image == same
        assert found.to_dict()["did_not_look"] == (same and max(map(abs, found.relevance)) < 0.05)


def test_a_model_that_ignores_the_image_did_not_look(pipeline: LxmertPipeline) -> None:
    ignoring = copy.deepcopy(pipeline.model)
    for layer in ignoring.lxmert.encoder.x_layers:
        layer.visual_attention.output.dense.weight.data.zero_()
        layer.visual_attention.output.dense.bias.data.zero_()
    found = LxmertPipeline(ignoring, pipeline.processor).explain(SCENE, QUESTIONS[0])
    assert (found.same_without_image, found.did_not_look) == (True, True)
