"""The command line with the bundled model: answers, warnings, and one clear line for a mistake."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ASSETS, ROOT, Command, draw_photos
from PIL import Image
from stores import first_shard, flip

SCENE = ROOT / "src/lxmert/examples/scene.png"
QUESTION = "What color is the ball?"


def test_ask_prints_answers_regions_and_time(lxmert: Command, tmp_path: Path) -> None:
    figure = tmp_path / "answer.png"
    result = lxmert("ask", SCENE, QUESTION, "--figure", figure)
    assert (result.code, result.err) == (0, "")
    for text in (QUESTION, "probability", "relevance", "ball", "answered in", figure.name):
        assert text in result.out.replace("\n", "")
    with Image.open(figure) as drawn:
        assert drawn.width > drawn.height >= 360


@pytest.mark.long
def test_an_interruption_is_reported_with_what_goes_on(programs: Path, tmp_path: Path) -> None:
    """It ended without a word, and nobody knew whether hours were lost."""
    folder = tmp_path / "scenes"
    command = [programs / "lxmert", "lab", "make", "qa", "--count", "9999"]
    running = subprocess.Popen(
        [*command, "-o", folder],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    records = tmp_path / "scenes.partial" / "records.jsonl"
    while not (records.is_file() and records.read_text().count("\n") > 1):
        assert running.poll() is None
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)
    reported = running.communicate()[1]
    assert running.returncode == 130
    assert reported.endswith("lxmert: interrupted; run the same command to resume\n")


def test_an_image_may_be_a_web_address(lxmert: Command) -> None:
    from web_server import Images, serve

    with serve(Images(SCENE.read_bytes())) as server:
        result = lxmert("ask", f"{server.url}/good.png", QUESTION, "--json")
        missing = lxmert("ask", f"{server.url}/missing.png", QUESTION)
    answers = [json.loads(report)["answers"] for report in (result.out, _ask_scene(lxmert))]
    assert answers[0] == answers[1]
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    assert "answers 404 Not Found" in missing.err


def _ask_scene(lxmert: Command) -> str:
    return lxmert("ask", SCENE, QUESTION, "--json").out


def test_json_has_the_documented_form(lxmert: Command) -> None:
    result = lxmert("ask", SCENE, QUESTION, "--top-k", 3, "--json")
    report = json.loads(result.out)
    assert list(report) == [
        *("image", "question", "answers", "without_image", "same_without_image", "did_not_look"),
        *("regions", "seconds"),
    ]
    assert set(report["without_image"]) == {"answer", "score"}
    assert [set(answer) for answer in report["answers"]] == [{"answer", "score"}] * 3
    scores = [answer["score"] for answer in report["answers"]]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] <= scores[0] <= 1
    for region in report["regions"]:
        assert set(region) == {"box", "object", "score", "label", "relevance"}
        x1, y1, x2, y2 = region["box"]
        assert 0 <= x1 < x2 <= 160
        assert 0 <= y1 < y2 <= 160
        assert region["label"].endswith(region["object"])
    assert 0 < report["seconds"] < 60


def test_the_answer_rests_on_the_object_asked_for(lxmert: Command) -> None:
    report = json.loads(lxmert("ask", SCENE, QUESTION, "--json").out)
    most = max(report["regions"], key=lambda region: region["relevance"])
    assert most["object"] == "ball"
    assert most["relevance"] > 0.2


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, Path]:
    """Files that people really pass."""
    files = {name: tmp_path / name for name in ("notes.txt", "half.png", "bomb.png", "empty.jpg")}
    files["notes.txt"].write_text("no image")
    files["half.png"].write_bytes(SCENE.read_bytes()[:9000])
    Image.new("1", (20_000, 20_000)).save(files["bomb.png"])
    files["empty.jpg"].write_bytes(b"")
    return files


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.png", "missing.png' is not a file"),
        ("notes.txt", "no image that is read here"),
        ("empty.jpg", "no image that is read here"),
        ("half.png", "cut short or damaged"),
        ("bomb.png", "too many pixels"),
    ],
)
def test_a_bad_image_is_one_line_with_exit_code_2(
    lxmert: Command, broken: dict[str, Path], tmp_path: Path, name: str, message: str
) -> None:
    result = lxmert("ask", broken.get(name, tmp_path / name), QUESTION)
    assert result.code == 2
    assert result.out == ""
    assert message in result.err
    assert name in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["  "], "the text is empty"),
        ([QUESTION, "--top-k", 0], "--top-k is 0: ask for at least 1"),
        ([QUESTION, "--figure", "answer"], "does not end like an image file: try answer.png"),
        ([QUESTION, "--figure", "nowhere/a.png"], "no folder nowhere; create it first"),
        ([QUESTION, "--model", "no such model!"], "no model 'no such model!'"),
        ([QUESTION, "--model", "nobody/nothing"], "no model 'nobody/nothing'"),
        ([QUESTION, "--figure", "answer.psd"], "does not end like an image file"),
        ([QUESTION, "--figure", "."], "does not end like an image file"),
    ],
)
def test_a_bad_argument_is_one_line_with_exit_code_2(
    lxmert: Command, arguments: list[object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    result = lxmert("ask", SCENE, *arguments)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert message in result.err


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "src/lxmert/default", folder)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "preprocessor_config.json",
        "extractor/config.json",
        "extractor/model.safetensors",
    ],
)
def test_a_model_folder_that_lacks_a_file_is_refused(
    lxmert: Command, model: Path, name: str
) -> None:
    (model / name).unlink()
    result = lxmert("ask", SCENE, QUESTION, "--model", model)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert Path(name).name in result.err
    assert re.search(r" has (no|neither) ", result.err), result.err


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "preprocessor_config.json",
        "extractor/config.json",
        "extractor/model.safetensors",
    ],
)
def test_a_damaged_file_of_a_model_is_named(lxmert: Command, model: Path, name: str) -> None:
    """A file that a copy had cut short was a traceback, or a message that named no file."""
    (model / name).write_bytes((model / name).read_bytes()[:30])
    result = lxmert("ask", SCENE, QUESTION, "--model", model)
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    assert "damaged" in result.err
    assert Path(name).name in result.err


def test_a_tokenizer_of_another_model_is_refused(lxmert: Command, model: Path) -> None:
    from lxmert.data.tokenizer import build_tokenizer

    build_tokenizer(["what is this?"]).save_pretrained(model)
    result = lxmert("ask", SCENE, QUESTION, "--model", model)
    assert result.code == 2
    assert "use the tokenizer that it was trained with" in " ".join(result.err.split())


def test_brackets_in_a_question_are_text(lxmert: Command) -> None:
    """They were read as markup of the terminal library: a traceback, or a lost word."""
    result = lxmert("ask", SCENE, "Is there a [/] [red] ball?")
    assert result.code == 0
    assert "Is there a [/] [red] ball?" in result.out


@pytest.mark.parametrize("name", ["config.json", "extractor/config.json"])
def test_a_model_whose_files_do_not_belong_together_is_refused(
    lxmert: Command, model: Path, name: str
) -> None:
    config = json.loads((model / name).read_text())
    key = "intermediate_size" if name == "config.json" else "attribute_dim"
    (model / name).write_text(json.dumps(config | {key: config[key] * 2}))
    result = lxmert("ask", SCENE, QUESTION, "--model", model)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "do not fit" in result.err or "expected both from one" in result.err


def test_an_unknown_word_is_answered_with_a_warning_that_names_it(lxmert: Command) -> None:
    result = lxmert("ask", SCENE, "What color is the zebra?")
    assert result.code == 0
    assert "answered in" in result.out
    assert "Warning: the model does not know 'zebra'" in result.err
    assert re.search(r"it knows \d+ words, such as '\w+',", result.err.replace("\n", ""))


def test_a_long_question_is_answered_with_the_number_of_words_cut(lxmert: Command) -> None:
    longest = json.loads((ROOT / "src/lxmert/default/preprocessor_config.json").read_text())[
        "max_text_length"
    ]
    result = lxmert("ask", SCENE, " ".join(["ball"] * (longest - 2 + 8)))
    warning = " ".join(result.err.split())
    assert result.code == 0
    assert "8 words at its end cut" in warning, warning


def test_an_image_unlike_its_world_is_answered_with_a_warning(
    lxmert: Command, tmp_path: Path
) -> None:
    Image.new("RGB", (90, 120), (90, 120, 200)).save(tmp_path / "sky.png")
    result = lxmert("ask", tmp_path / "sky.png", QUESTION)
    assert result.code == 0
    assert "nothing in this image was recognized" in " ".join(result.err.split())


def test_sizes_that_no_model_has_are_one_line(lxmert: Command, tmp_path: Path) -> None:
    """The library's own error for a configuration came out as a traceback."""
    sizes = ("--set", "model.hidden_size=-1")
    data = (
        "--set",
        "data.train=src/lxmert/examples/questions.jsonl",
        "--set",
        "data.images=src/lxmert/examples",
    )
    result = lxmert(
        "train", "src/lxmert/recipes/custom.toml", "-o", tmp_path / "run", *data, *sizes
    )
    assert result.code == 2
    assert "model.hidden_size: got -1, expected above 0" in result.err.splitlines()[-1]


def test_paragraphs_of_help_fill_the_lines(
    lxmert: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of a docstring longer than the terminal were each wrapped on their own."""
    monkeypatch.setenv("COLUMNS", "80")
    assert "regions; peak memory; size on disk" in lxmert("benchmark", "--help").out


def test_help_loads_no_torch() -> None:
    code = "import sys; sys.argv = ['lxmert', '--help']; import lxmert.cli.main as c\n"
    code += "try: c.main()\nexcept SystemExit: print('torch' in sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert finished.stdout.strip().endswith("False")


def test_most_examples_are_answered_right() -> None:
    """The six example scenes with four questions each; 22 of 24 is what was promised."""
    from lxmert import LxmertPipeline

    pipeline = LxmertPipeline.from_pretrained()
    lines = (ROOT / "src/lxmert/examples/questions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 24
    assert len({row["image"] for row in rows}) == 6
    right = [
        pipeline.ask(ROOT / "src/lxmert/examples" / row["image"], row["question"])[0].answer
        == row["answer"]
        for row in rows
    ]
    assert sum(right) >= 22


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A fine-tuned file of the original code with two answers."""
    from model import published, tiny

    sizes = {"hidden_size": 128, "num_attention_heads": 2, "num_qa_labels": 2}
    model = tiny.build_reference("LxmertForQuestionAnswering", **sizes)
    return published.write(tmp_path / "BEST.pth", published.state_of_2019(model))


def test_a_file_of_the_original_code_is_converted_and_described(
    lxmert: Command, original: Path, tmp_path: Path
) -> None:
    (tmp_path / "answers.txt").write_text("no\nyes\n")
    result = lxmert("convert", original, tmp_path / "out", "--answers", tmp_path / "answers.txt")
    assert (result.code, result.err) == (0, "")
    assert "converted from" in result.out
    assert "2 attention heads, assumed" in result.out
    shown = lxmert("info", tmp_path / "out")
    assert (shown.code, shown.err) == (0, "")
    for text in ("model folder", "LxmertForQuestionAnswering", "2: no, yes", "language layers"):
        assert text in shown.out
    report = json.loads(lxmert("info", tmp_path / "out", "--json").out)
    assert report["facts"]["answers"] == ["no", "yes"]
    assert f"{report['num_parameters']:,}" in shown.out
    assert lxmert("convert", tmp_path / "out", tmp_path / "back.pth").code == 0
    again = json.loads(lxmert("info", tmp_path / "back.pth", "--json").out)
    assert again["parameters"] == report["parameters"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "BEST.pth", "BEST.pth"], "is also an input"),
        (["convert", "BEST.pth", "notes.txt"], "notes.txt exists already"),
        (["convert", "notes.txt", "out"], "notes.txt is of an unknown type"),
        (["convert", "BEST.pth", "out", "--answers", "notes.txt"], "got 1 answers for a model"),
        (["info", "nowhere"], "there is no nowhere"),
    ],
)
def test_a_mistake_in_converting_is_one_line(
    lxmert: Command,
    original: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(original.parent)
    Path("notes.txt").write_text("no weights")
    result = lxmert(*arguments)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result
    assert message in result.err
    assert {path.name for path in original.parent.iterdir()} == {"BEST.pth", "notes.txt"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a sub-folder and twelve files that are no images."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    shutil.copy(SCENE, folder / "a.png")
    shutil.copy(SCENE, folder / "more" / "b.png")
    for number in range(12):
        (folder / f"broken{number:02}.jpg").write_text("no image")
    return folder


def test_extract_reports_what_failed_with_exit_code_3(
    lxmert: Command, photos: Path, tmp_path: Path
) -> None:
    """A run with failures ended like one without; only the store reported them."""
    store = tmp_path / "store"
    result = lxmert("extract", photos, "-o", store, "--figures", tmp_path / "drawn")
    assert result.code == 3
    assert result.out == f"{store}: regions of 2 images\n"
    assert "12 images without regions:" in result.err
    assert result.err.count("which is no image that is read here") == 10
    assert "and 2 more" in result.err
    assert (tmp_path / "drawn" / "more" / "b.png").is_file()
    shown = lxmert("info", store)
    assert shown.code == 0
    for text in ("region store", "images", "float16", "failed", "no regions of 12 images"):
        assert text in " ".join(shown.out.split())
    for path in photos.glob("broken*"):
        path.unlink()
    shutil.copy(SCENE, photos / "c.png")
    result = lxmert("extract", photos, "-o", store)
    assert (result.code, result.err) == (0, "")
    result = lxmert("extract", photos, "-o", store)
    assert result.code == 2
    assert "is a finished region store" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-regions", "many"], "expected a number, or a range like 10-100"),
        (["--num-regions", "-3"], "expected a number, or a range like 10-100, from 1 on"),
        (["--num-regions", "0"], "expected a number from 1 to 64"),
        (["--workers", "0"], "--workers is 0: 1 to 256 threads"),
        (["--workers", "-1"], "--workers is -1: 1 to 256 threads"),
        (["--workers", "1000000"], "--workers is 1000000: 1 to 256 threads"),
        (["--num-regions", "9000"], "num_regions is 9000; expected a number from 1 to"),
        (["--preset", "hf"], "--preset, --objects and --attributes are only for files"),
        (["--extractor", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_in_extracting_is_one_line(
    lxmert: Command, photos: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = lxmert("extract", photos, "-o", tmp_path / "store", *arguments)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result
    assert message in result.err
    assert not (tmp_path / "store").exists()


def test_verify_names_the_damage_with_exit_code_1(
    lxmert: Command, photos: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    lxmert("extract", photos, "-o", store, "--num-regions", "2-3", "--dtype", "float32")
    result = lxmert("verify", store)
    assert (result.code, result.err) == (0, "")
    assert "nothing is wrong" in result.out
    flip(first_shard(store), "features")
    result = lxmert("verify", store)
    assert result.code == 1
    assert "wrong: shard-000000-0.safetensors, image 'more/b.png'" in result.out
    report = json.loads(lxmert("verify", store, "--json").out)
    assert set(report) == {"path", "kind", "facts", "problems"}
    assert len(report["problems"]) == 1


def test_verify_compares_with_rows_that_the_same_extractor_wrote(
    lxmert: Command, photos: Path, tmp_path: Path
) -> None:
    """A row belongs to the photo of its name without the ending, as in the published files."""
    lxmert("extract", photos, "-o", tmp_path / "store", "--dtype", "float32")
    assert lxmert("convert", tmp_path / "store", tmp_path / "rows.tsv").code == 0
    extractor = ROOT / "src/lxmert/default/extractor"
    half = ["verify", extractor, "--images", photos]
    assert "expected both --images and --rows, or neither" in lxmert(*half).err
    path = tmp_path / "one.tsv"
    path.write_bytes((ASSETS / "train2014_obj36.tsv").read_bytes().splitlines(keepends=True)[0])
    drawn = draw_photos(path, tmp_path / "drawn")
    arguments = ["verify", extractor, "--images", drawn, "--rows", path]
    result = lxmert(*arguments)
    assert result.code == 1
    for text in ("COCO_train2014", "mean", "expected", "wrong: regions: 0.0"):
        assert text in result.out
    report = json.loads(lxmert(*arguments, "--json").out)
    assert set(report) == {"path", "kind", "facts", "problems", "photos", "mean", "expected"}
    assert report["photos"][0]["feature_cosine"] is None


def test_convert_reports_damaged_rows_with_exit_code_3(
    lxmert: Command, photos: Path, tmp_path: Path
) -> None:
    lxmert("extract", photos, "-o", tmp_path / "store", "--dtype", "float32")
    lxmert("convert", tmp_path / "store", tmp_path / "rows.tsv")
    rows = tmp_path / "rows.tsv"
    good = rows.read_bytes()
    rows.write_bytes(good + good.splitlines(keepends=True)[0])
    result = lxmert("convert", rows, tmp_path / "again", "--fingerprint", "bundled")
    assert result.code == 3
    assert "line 3, column img_id: it is 'a.png', which is already in line 1" in result.err
    shown = json.loads(lxmert("info", tmp_path / "again", "--json").out)
    assert (shown["facts"]["images"], shown["facts"]["failed"]) == (2, 1)
    assert lxmert("convert", tmp_path / "again", tmp_path / "again.tsv").code == 0
    assert (tmp_path / "again.tsv").read_bytes() == good


def test_evaluate_prints_the_average_precision_of_extractor(
    lxmert: Command, tmp_path: Path
) -> None:
    from lxmert.lab.scenes.dataset import SceneSettings, make_dataset

    contents = SceneSettings(kinds=("captions",), split="test", count=3, seed=5, captions=1)
    make_dataset(tmp_path / "scenes", contents)
    result = lxmert(
        "evaluate",
        ROOT / "src/lxmert/default/extractor",
        "--data",
        tmp_path / "scenes" / "objects.json",
        "--images",
        tmp_path / "scenes" / "images",
    )
    assert result.code == 0
    scores = dict(line.rsplit(maxsplit=1) for line in result.out.splitlines())
    assert 0.5 < float(scores["map_50"]) <= 1
    assert float(scores["map_50_95"]) <= float(scores["map_50"])
    classes = [float(score) for name, score in scores.items() if name.startswith("ap_50 ")]
    assert float(scores["map_50"]) == pytest.approx(sum(classes) / len(classes), abs=2e-3)


@pytest.mark.parametrize("command", ["ask", "explain"])
def test_a_question_without_quotes_is_named(lxmert: Command, command: str) -> None:
    """It was "Got unexpected extra arguments", which does not say that quotes were forgotten."""
    result = lxmert(
        command, ROOT / "src/lxmert/examples/scene.png", "What", "color", "is", "the", "ball?"
    )
    assert result.code == 2
    assert (
        '4 more arguments follow: quote the question, as in "What color is the ball?"' in result.err
    )
    result = lxmert(command, "What color is the ball?", ROOT / "src/lxmert/examples/scene.png")
    assert result.code == 2
    assert "looks like a question: the image comes first" in result.err
    result = lxmert(command, ROOT / "src/lxmert/examples/scene.png", "What \udc80 is it?")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "is not valid Unicode" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("lab", "make", "qa", "--count", "ten", "-o", "x"),
            "lab make: invalid value for '--count'",
        ),
        (("aks",), ": no such command 'aks'"),
        (("extract",), " extract: missing argument 'IMAGES'; see lxmert extract --help"),
        (("info", "x", "--yaml"), " info: no such option: --yaml"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    lxmert: Command, arguments: tuple[str, ...], message: str
) -> None:
    result = lxmert(*arguments)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result
    assert message in result.err
    assert result.err.endswith("--help\n")


def test_several_images_and_questions_are_answered_in_order(lxmert: Command) -> None:
    other, texts = SCENE.with_name("scene-2.png"), [QUESTION, "Is there a mug?"]
    done = lxmert("ask", SCENE, other, *texts, "--json")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.out.splitlines()]
    asked = [(row["image"], row["question"]) for row in rows]
    assert asked == [(str(image), text) for text in texts for image in (SCENE, other)]
    alone = json.loads(lxmert("ask", other, texts[1], "--json").out)
    assert alone["answers"] == rows[3]["answers"]
    shown = lxmert("ask", SCENE, other, QUESTION).out
    assert shown.index("scene.png") < shown.index("scene-2.png")


def test_without_a_question_they_are_read_from_the_input(
    lxmert: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{QUESTION}\n\nIs there a mug?\n"))
    done = lxmert("ask", SCENE, "--json")
    assert [json.loads(line)["question"] for line in done.out.splitlines()] == [
        QUESTION,
        "Is there a mug?",
    ]


def test_the_prompt_is_not_among_redirected_answers(
    lxmert: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: a file of answers in JSON began with the prompt."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(f"{QUESTION}\n\n"))
    done = lxmert("ask", SCENE, "--json")
    assert json.loads(done.out)["question"] == QUESTION
    assert done.err.count("question (empty to stop)") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.png", QUESTION], "'gone.png' is not a file"),
        ([SCENE, QUESTION, "Why?", "--figure", "a.png"], "--figure a.png shows one answer"),
        ([SCENE, SCENE, QUESTION, "--figure", "a.png"], "--figure a.png shows one answer"),
    ],
)
def test_images_and_questions_that_do_not_fit_are_one_line(
    lxmert: Command, arguments: list[object], message: str
) -> None:
    done = lxmert("ask", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err


def test_the_cache_is_listed_and_cleared(
    lxmert: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "regions of 0 images" in lxmert("cache").out
    first = json.loads(lxmert("ask", SCENE, QUESTION, "--json").out)
    listed = json.loads(lxmert("cache", "--json").out)
    assert (listed["images"], listed["extractors"]) == (1, 1)
    assert 0 < listed["bytes"] < listed["max_bytes"]
    assert json.loads(lxmert("ask", SCENE, QUESTION, "--json").out)["answers"] == first["answers"]
    assert "1 image removed" in lxmert("cache", "--clear").out
    assert json.loads(lxmert("cache", "--json").out)["images"] == 0
