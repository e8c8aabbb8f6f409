"""What the heads of a model read, over a data set, as a figure."""

from pathlib import Path

from lxmert.explain.maps import attention_maps
from lxmert.explain.patterns import PATTERNS, PatternInput, PatternScore, add_shares
from lxmert.explain.plots import plot_heads, save_plot
from lxmert.pipeline import LxmertPipeline
from lxmert.predict import Progress
from lxmert.workflows.questions import (
    Findings,
    SeenQuestion,
    choose_questions,
    make_inputs,
    open_answering,
    stream_batches,
)


def draw_attention(
    model: str,
    data: Path,
    images: Path,
    output: Path,
    *,
    limit: int | None,
    device: str = "cpu",
    progress: Progress,
) -> tuple[dict[str, PatternScore], Findings]:
    """Plot how much of its attention every head has where the patterns of `PATTERNS` say.

    Args:
        model: folder or hub name.
        data: JSONL file of questions with answers.
        images: folder of their images.
        output: figure to write.
        limit: number of questions, drawn at random with a fixed seed; None means all.
        device: where to compute.
        progress: called with the numbers of questions done and in all.

    Returns:
        The shares by the name of a pattern, without patterns that never occur; and what is wrong
        with the questions that were left out.

    Raises:
        ValueError: if there is no question that can be asked.
    """
    asked, _, findings = choose_questions(data, images, limit=limit)
    pipeline, answering = open_answering(model, device=device)
    shares: dict[str, PatternScore] = {}
    done = 0
    for batch in stream_batches(pipeline, asked, images):
        inputs = make_inputs(pipeline, batch)
        maps = attention_maps(answering, inputs)
        add_shares(shares, maps, [_see(pipeline, question) for question in batch])
        done += len(batch)
        progress(done, len(asked))
    found = {name: shares[name] for name in PATTERNS if name in shares}
    titles = {
        name: f"{PATTERNS[name].title}\n(reading all alike: {share.mean_even:.0%})"
        for name, share in found.items()
    }
    save_plot(plot_heads({name: share.mean for name, share in found.items()}, titles), output)
    return found, findings


def _see(pipeline: LxmertPipeline, question: SeenQuestion) -> PatternInput:
    """Return what patterns depend on."""
    row, regions = question
    read = pipeline.processor.read(row.example.text)
    words = pipeline.processor.tokenizer.convert_ids_to_tokens(read.token_ids.tolist())
    return PatternInput(words, pipeline.objects(regions), regions.boxes, row.boxes)
