import warnings

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from . import tiny

QA = "LxmertForQuestionAnswering"
PRETRAINING = "LxmertForPreTraining"


def scores(seed=8):
    return torch.rand(tiny.BATCH, 13, generator=torch.Generator().manual_seed(seed))


# Labels and losses


def test_unlabeled_batches_have_a_loss_of_zero():
    """A2: a batch without a masked word or without an answered question gave NaN."""
    model = tiny.build(PRETRAINING)
    given = tiny.labels() | {
        "labels": torch.full((tiny.BATCH, tiny.TEXT_LEN), -100),
        "ans": torch.full((tiny.BATCH,), -100),
    }
    output = model(**tiny.inputs(), **given)
    assert (output.losses["mask_lm"].item(), output.losses["qa"].item()) == (0, 0)
    assert output.loss > 1
    output.loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_batch_of_unanswered_questions_can_be_trained_on():
    """A2, alone."""
    model = tiny.build(QA)
    loss = model(**tiny.inputs(), labels=torch.full((tiny.BATCH,), -100)).loss
    loss.backward()
    assert loss.item() == 0
    assert (model.answer_head.logit_fc[3].weight.grad == 0).all()


def test_the_original_ignore_index_is_supported():
    """B5: -1, which the original writes for "no answer", raised an IndexError."""
    model, given = tiny.build(PRETRAINING), tiny.inputs()
    labels = tiny.labels()
    expected = model(**given, labels=labels["labels"], ans=labels["ans"])
    for name in ("labels", "ans"):
        labels[name] = labels[name].masked_fill(labels[name] == -100, -1)
    output = model(**given, labels=labels["labels"], ans=labels["ans"])
    assert_close(output.losses, expected.losses, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["soft", "one-hot"])
def test_answer_scores_are_trained_as_in_the_paper(kind):
    """B6: the documented one-hot answers raised a ValueError, and so did VQA's soft scores."""
    targets = scores()
    if kind == "one-hot":
        targets = functional.one_hot(torch.tensor([4, 0, 12]), 13)
    model = tiny.build(QA)
    output = model(**tiny.inputs(), labels=targets)
    logits = output.question_answering_score
    expected = functional.binary_cross_entropy_with_logits(logits, targets.float()) * 13
    assert_close(output.loss, expected)
    pretraining = tiny.build(PRETRAINING)
    predicted = pretraining(**tiny.inputs(), ans=targets)
    expected = functional.binary_cross_entropy_with_logits(
        predicted.question_answering_score, targets.float()
    )
    assert_close(predicted.losses["qa"], expected * 13)


def test_region_labels_may_be_a_subset():
    """B7: every enabled region objective had to have labels."""
    model, given = tiny.build(PRETRAINING), tiny.inputs()
    region_labels = tiny.labels()["obj_labels"]
    expected = model(**given, obj_labels=region_labels).losses
    assert len(expected) == 3
    for name in region_labels:
        output = model(**given, obj_labels={name: region_labels[name]})
        assert output.losses.keys() == {name}
        assert_close(output.losses[name], expected[name])
    with pytest.raises(ValueError, match=r"\['object'\]; known are \['attr', 'feat', 'obj'\]"):
        model(**given, obj_labels={"object": region_labels["obj"]})


def test_region_losses_keep_the_published_weight():
    """A8, A9: kept compatible: mean over all regions, masked or not, times 6.67."""
    model, given = tiny.build(PRETRAINING), tiny.inputs()
    labels, weights = tiny.labels()["obj_labels"]["obj"]
    output = model(**given, obj_labels={"obj": (labels, weights)}, output_predictions=True)
    surprises = functional.cross_entropy(
        output.object_logits.flatten(0, 1), labels.flatten(), reduction="none"
    )
    expected = (surprises * weights.flatten()).mean() * 6.67
    assert_close(output.losses["obj"], expected)
    assert_close(output.loss, expected)
    as_original = tiny.build(PRETRAINING, visual_loss_normalizer=1 / 0.15)
    assert_close(
        as_original(**given, obj_labels={"obj": (labels, weights)}).loss, expected / 6.67 / 0.15
    )


def test_region_losses_can_count_masked_regions_only():
    """A9: objects and attributes are lost on all regions, though documented as masked ones."""
    given, labels = tiny.inputs(), tiny.labels()["obj_labels"]
    masked = labels["feat"][1] > 0
    assert 0 < masked.sum() < masked.numel()
    restricted = {name: (target, weight * masked) for name, (target, weight) in labels.items()}
    expected = tiny.build(PRETRAINING)(**given, obj_labels=restricted)
    model = tiny.build(PRETRAINING, visual_loss_masked_only=True)
    assert_close(model(**given, obj_labels=labels).losses, expected.losses, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"has no 'feat'.*visual_loss_masked_only"):
        model(**given, obj_labels={"obj": labels["obj"]})


@pytest.mark.parametrize("kind", [None, "words", "regions"])
def test_losses_without_predictions_are_equal(kind):
    """Words and regions without a label are skipped; so may be all of them."""
    model, given, labels = tiny.build(PRETRAINING), tiny.inputs(), tiny.labels()
    if kind == "words":
        labels["labels"] = torch.full_like(labels["labels"], -100)
    if kind == "regions":
        labels["obj_labels"] = {
            name: (target, weight * 0) for name, (target, weight) in labels["obj_labels"].items()
        }
    rows = []
    for part in (model.cls.predictions.decoder, model.obj_predict_head.transform.dense):
        part.register_forward_hook(lambda _m, _i, out: rows.append(out[..., 0].numel()))
    expected = model(**given, **labels, output_predictions=True)
    lean = model(**given, **labels, output_predictions=False)
    assert_close(lean.losses, expected.losses)
    assert_close(lean.loss_terms, expected.loss_terms)
    assert lean.prediction_logits is None
    assert lean.object_logits is None
    words = int((labels["labels"] >= 0).sum())
    weights = torch.stack([weight for _, weight in labels["obj_labels"].values()])
    chosen = int((weights > 0).any(0).sum())
    # With all predictions, the labeled words are scored once more: only they need a gradient.
    everything = [tiny.BATCH * tiny.TEXT_LEN, tiny.BATCH * tiny.REGIONS, words]
    assert rows == [*everything, words, chosen]
    lean.loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_loss_terms_are_sums_and_counts():
    model, given, labels = tiny.build(PRETRAINING), tiny.inputs(), tiny.labels()
    output = model(**given, **labels)
    words = labels["labels"] >= 0
    expected = functional.cross_entropy(
        output.prediction_logits[words], labels["labels"][words], reduction="sum"
    )
    assert_close(output.loss_terms["mask_lm"], (expected, words.sum()))
    assert output.loss_terms.keys() == output.losses.keys()
    assert model(**given).loss_terms is None


def test_regions_are_predicted_on_request():
    """C7: predictions of objects, attributes and features were not returned."""
    model, given = tiny.build(PRETRAINING), tiny.inputs()
    names = ("object_logits", "attribute_logits", "feature_predictions")
    labeled = model(**given, **tiny.labels(), output_predictions=True)
    asked = model(**given, output_predictions=True)
    assert asked.loss is None
    assert asked.losses is None
    for name in names:
        assert_close(asked[name], labeled[name], rtol=0, atol=0)
    for plain in (model(**given), model(**given, **tiny.labels())):
        assert not set(names) & plain.keys()
    without = tiny.build(PRETRAINING, visual_attr_loss=False)(**given, output_predictions=True)
    assert without.attribute_logits is None
    assert without.object_logits is not None
    disabled = tiny.build(PRETRAINING, task_obj_predict=False)(**given, output_predictions=True)
    assert disabled.object_logits is None


def test_embedded_text_can_have_region_labels():
    """B2: `inputs_embeds` with region labels was an AttributeError."""
    given = tiny.inputs()
    words = tiny.build(PRETRAINING).get_input_embeddings()(given.pop("input_ids"))
    output = tiny.build(PRETRAINING)(**given, **tiny.labels(), inputs_embeds=words)
    expected = tiny.build(PRETRAINING)(**tiny.inputs(), **tiny.labels())
    assert_close(output.losses, expected.losses)


def test_labels_need_not_be_contiguous():
    """B11: labels were reshaped by `view`."""
    model, given, labels = tiny.build(PRETRAINING), tiny.inputs(), tiny.labels()
    expected = model(**given, **labels).loss

    def scattered(tensor):
        return tensor.transpose(0, 1).contiguous().transpose(0, 1)

    labels["labels"] = scattered(labels["labels"])
    assert not labels["labels"].is_contiguous()
    regions = labels["obj_labels"]
    for name, (target, weight) in regions.items():
        regions[name] = (scattered(target), scattered(weight))
    assert_close(model(**given, **labels).loss, expected, rtol=0, atol=0)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("masked", [True, False])
def test_images_without_regions(masked, attention):
    """B11: zero regions were a RuntimeError."""
    model = tiny.build(PRETRAINING, attention=attention)
    given, labels = tiny.inputs(masked=masked), tiny.labels()
    for name in given.keys() & {"visual_feats", "visual_pos", "visual_attention_mask"}:
        given[name] = given[name][:, :0]
    regions = labels["obj_labels"].items()
    labels["obj_labels"] = {name: (t[:, :0], w[:, :0]) for name, (t, w) in regions}
    output = model(**given, **labels, output_attentions=True, output_predictions=True)
    output.loss.backward()
    with torch.inference_mode():  # in which the fused kernel would run
        again = model(**given, output_predictions=True)
    assert_close(again.prediction_logits, output.prediction_logits, rtol=1e-4, atol=1e-5)
    assert output.prediction_logits.isfinite().all()
    assert output.losses["obj"].item() == 0
    assert output.object_logits.shape == (tiny.BATCH, 0, 11)


def test_loss_of_a_half_precision_model_is_single():
    """A6: cross-entropy was computed in bfloat16."""
    model = tiny.build(QA).bfloat16()
    output = model(**tiny.inputs(), labels=torch.tensor([4, 0, 12]))
    logits = output.question_answering_score
    assert logits.dtype == torch.bfloat16
    expected = functional.cross_entropy(logits.float(), torch.tensor([4, 0, 12]))
    assert_close(output.loss, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("features", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("own", [torch.bfloat16, torch.float32])
def test_features_of_any_dtype_are_accepted(own, features):
    """B10: a half precision model refused features as they are stored."""
    model = tiny.build(QA).to(own)
    expected = model(**tiny.inputs()).question_answering_score
    output = model(**tiny.inputs(dtype=features)).question_answering_score
    assert output.dtype == own
    assert_close(output, expected, rtol=0, atol=0.05)


def test_embedded_text_of_any_type_is_read():
    """B10 for `inputs_embeds`."""
    model = tiny.build(QA).bfloat16()
    given = tiny.inputs()
    given["inputs_embeds"] = model.get_input_embeddings()(given.pop("input_ids")).float()
    expected = model(**tiny.inputs()).question_answering_score
    assert_close(model(**given).question_answering_score, expected, rtol=0, atol=0)


def test_switched_off_objectives_add_nothing():
    changes = {"task_mask_lm": False, "task_obj_predict": False}
    output = tiny.build(PRETRAINING, **changes)(**tiny.inputs(), **tiny.labels())
    assert output.losses.keys() == {"matched", "qa"}
    assert_close(output.loss, output.losses["matched"] + output.losses["qa"])


# Resizing


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("size", "multiple", "expected"), [(60, None, 60), (40, 16, 48)])
def test_vocabulary_is_resized_with_its_decoder(size, multiple, expected, tied):
    """B8: the bias got another size than the decoder, which untied was not resized at all."""
    model, given = tiny.build(PRETRAINING, tie_word_embeddings=tied), tiny.inputs()
    given["input_ids"] = given["input_ids"] % 40
    before = model(**given).prediction_logits
    embeddings = model.resize_token_embeddings(size, pad_to_multiple_of=multiple)
    decoder = model.cls.predictions.decoder
    assert embeddings is model.get_input_embeddings()
    assert model.config.vocab_size == decoder.out_features == expected
    assert (decoder.weight is embeddings.weight) == tied
    after = model(**given).prediction_logits
    assert after.shape == (tiny.BATCH, tiny.TEXT_LEN, expected)
    kept = min(expected, 51)
    assert_close(after[..., :kept], before[..., :kept], rtol=1e-5, atol=1e-5)
    assert (model.cls.predictions.bias[kept:] == 0).all()


def test_resizing_nothing_returns_the_embeddings():
    """B8: `resize_token_embeddings()` was a TypeError."""
    model = tiny.build(PRETRAINING)
    assert model.resize_token_embeddings() is model.get_input_embeddings()
    assert model.cls.predictions.bias.shape == (51,)


def test_resized_layers_keep_the_type():
    """B9: new rows were float32 in a bfloat16 model, which then failed."""
    model = tiny.build(PRETRAINING).bfloat16()
    model.resize_token_embeddings(60)
    model.resize_num_qa_labels(17)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    output = model(**tiny.inputs())
    assert output.question_answering_score.shape == (tiny.BATCH, 17)
    assert output.prediction_logits.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [40, 200])
def test_positions_are_resized(size, dtype, tmp_path):
    """Texts that fit give what they gave before, longer ones are accepted up to the new length."""
    model = tiny.build(PRETRAINING).to(dtype)
    before = model(**tiny.inputs()).prediction_logits
    model.resize_position_embeddings(size)
    table = model.get_position_embeddings()
    assert (table.num_embeddings, table.weight.dtype) == (size, dtype)
    assert_close(model(**tiny.inputs()).prediction_logits, before, rtol=0, atol=0)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, dtype=dtype)
    assert (loaded.get_position_embeddings().weight == table.weight).all()
    regions = {name: tiny.inputs()[name] for name in ("visual_feats", "visual_pos")}
    words = torch.ones(tiny.BATCH, size + 1, dtype=torch.long)
    assert model(words[:, :size], **regions).prediction_logits.shape == (tiny.BATCH, size, 51)
    with pytest.raises(ValueError, match=f"{size}: truncate the text"):
        model(words, **regions)


def test_resized_vocabulary_survives_a_file(tmp_path):
    model = tiny.build(PRETRAINING)
    model.resize_token_embeddings(60)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    expected = model(**tiny.inputs()).prediction_logits
    assert_close(again(**tiny.inputs()).prediction_logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [PRETRAINING, QA])
@pytest.mark.parametrize("size", [8, 17])
def test_number_of_answers_is_resized(name, size, tmp_path):
    model = tiny.build(name)
    before = model(**tiny.inputs()).question_answering_score
    layer = model.resize_num_qa_labels(size)
    assert layer is model.get_qa_logit_layer()
    assert model.config.num_qa_labels == model.num_qa_labels == size
    after = model(**tiny.inputs()).question_answering_score
    assert after.shape == (tiny.BATCH, size)
    kept = min(size, 13)
    assert_close(after[:, :kept], before[:, :kept], rtol=1e-5, atol=1e-5)
    assert (layer.bias[kept:] == 0).all()
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert_close(again(**tiny.inputs()).question_answering_score, after, rtol=1e-5, atol=1e-5)


def test_answers_keep_their_names():
    names = {index: f"answer {index}" for index in range(13)}
    model = tiny.build(QA, id2label=names)
    model.resize_num_qa_labels(15)
    assert model.config.id2label == names | {13: "LABEL_13", 14: "LABEL_14"}
    model.resize_num_qa_labels(2)
    assert model.config.id2label == {0: "answer 0", 1: "answer 1"}
    assert model.config.label2id == {"answer 0": 0, "answer 1": 1}


def test_resizing_no_answers_returns_the_layer():
    """B12: `resize_num_qa_labels(None)` promised the layer and returned None."""
    model = tiny.build(QA)
    assert model.resize_num_qa_labels(None) is model.get_qa_logit_layer()
    assert model.get_qa_logit_layer().out_features == 13
    without = tiny.build(PRETRAINING, task_qa=False)
    assert without.get_qa_logit_layer() is None
    assert without.resize_num_qa_labels(8) is None


def test_frozen_layers_stay_frozen_when_resized():
    model = tiny.build(PRETRAINING).requires_grad_(False)
    model.resize_num_qa_labels(17)
    model.resize_token_embeddings(60)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_answers_are_kept_by_their_number():
    """Names that the configuration lists in another order were exchanged."""
    names = {index: f"answer {index}" for index in reversed(range(13))}
    model = tiny.build(QA, id2label=names)
    model.resize_num_qa_labels(15)
    assert [model.config.id2label[index] for index in (0, 12, 13)] == [
        "answer 0",
        "answer 12",
        "LABEL_13",
    ]


def test_no_answers_at_all_are_refused():
    with pytest.raises(ValueError, match="num_labels is 0, but must be above 0"):
        tiny.build(QA).resize_num_qa_labels(0)


def test_scores_below_zero_do_not_unlabel_a_question():
    """One score of -0.01 removed the question from the loss."""
    model, given = tiny.build(QA), tiny.inputs()
    targets = torch.zeros(3, 13)
    targets[1] = -100
    expected = model(**given, labels=targets).loss
    targets[0, 5] = -1e-7
    assert_close(model(**given, labels=targets).loss, expected)


@pytest.mark.parametrize("wanted", [None, True, False])
def test_region_labels_mean_the_same_with_and_without_predictions(wanted):
    """Flat labels and weights below 0, which the peer takes, depended on output_predictions."""
    model, given = tiny.build(PRETRAINING), tiny.inputs()
    labels = tiny.labels()["obj_labels"]
    labels["obj"] = (labels["obj"][0], labels["obj"][1] - 0.5)
    flat = {
        "obj": tuple(part.flatten() for part in labels["obj"]),
        "feat": (labels["feat"][0].flatten(0, 1), labels["feat"][1].flatten()),
    }
    expected = tiny.build_reference(PRETRAINING, visual_attr_loss=False)
    expected.load_state_dict(model.state_dict(), strict=False)
    loss = expected(**given, obj_labels={name: labels[name] for name in flat}).loss
    assert_close(model(**given, obj_labels=flat, output_predictions=wanted).loss, loss)


@pytest.mark.parametrize("labeled", [False, True])
def test_without_an_answer_head_there_are_no_answers(labeled):
    """Bug: a number of the pooled vector, without dimensions, was returned for the answers."""
    model = tiny.build("LxmertForPreTraining", task_qa=False)
    given = tiny.inputs() | (tiny.labels() if labeled else {})
    output = model(**given)
    assert output.question_answering_score is None
    assert all(value is not None for value in output.to_tuple())
    fields = model(**given, return_dict=False)
    assert fields[labeled].shape == (tiny.BATCH, tiny.TEXT_LEN, 51)
    assert fields[labeled + 1].shape == (tiny.BATCH, 2)
    assert len(fields) == len(output.to_tuple())


@pytest.mark.parametrize("name", tiny.OURS)
def test_a_quantized_model_runs(name):
    """Bug: the type was read from the pooler, whose weight is a method once it is quantized."""
    model, given = tiny.build(name), tiny.inputs_for(name)
    expected = model(**given).to_tuple()[-1 if name == "LxmertModel" else 0]
    with warnings.catch_warnings(action="ignore"):
        quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear})
    output = quantized(**given).to_tuple()[-1 if name == "LxmertModel" else 0]
    assert output.shape == expected.shape
    assert torch.nn.functional.cosine_similarity(output.flatten(), expected.flatten(), 0) > 0.9
    if name == "LxmertModel":
        image = quantized.encode_image(given["visual_feats"], given["visual_pos"])
        text = quantized.encode_text(given["input_ids"])
        assert quantized(encoded_text=text, encoded_image=image).pooled_output.isfinite().all()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_maps_can_be_switched_on_in_the_configuration(attention, tmp_path):
    """Bug: the library's setter refused it for every attention but the eager one."""
    model = tiny.build("LxmertForQuestionAnswering", attention=attention)
    expected = model(**tiny.inputs(), output_attentions=True).cross_encoder_attentions
    model.config.output_attentions = True
    maps = model(**tiny.inputs()).cross_encoder_attentions
    assert all(torch.equal(*pair) for pair in zip(maps, expected, strict=True))
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, attn_implementation=attention)
    assert loaded.config._attn_implementation == attention
    model.config.output_attentions = False
    assert model(**tiny.inputs()).cross_encoder_attentions is None
