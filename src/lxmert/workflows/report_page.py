"""The page `report.html` of a run on custom data: one file without scripts, images included."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from lxmert.explain.report import pack_image
from lxmert.metrics.intervals import Interval
from lxmert.schema import Answer, Example

_MOST_SIDE = 480

_STYLE = """
:root { --paper: #fbfbf8; --card: #fff; --ink: #1c1e22; --soft: #596069; --line: #e1e2dc;
  --model: #2455c3; --range: #b9c8ee; --baseline: #d9822b; color-scheme: light dark;
  font: 16px/1.5 system-ui, "Segoe UI", "Liberation Sans", sans-serif; color: var(--ink);
  background: var(--paper); }
@media (prefers-color-scheme: dark) { :root { --paper: #141619; --card: #1b1e22; --ink: #eceae4;
  --soft: #a8aeb8; --line: #34383e; --model: #8fb3ff; --range: #34476f; --baseline: #e8a25a; } }
* { box-sizing: border-box; }
body { margin: 0; }
main { max-width: 1100px; margin: 0 auto; padding: 28px 20px; }
h1 { font-size: 25px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 34px 0 10px; }
p { margin: 4px 0; color: var(--soft); overflow-wrap: anywhere; }
table { width: 100%; border-collapse: collapse; }
th { text-align: left; font-size: 13px; font-weight: 600; color: var(--soft); }
th, td { padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td:first-child { overflow-wrap: anywhere; }
.bar { width: 38%; }
.track { position: relative; height: 14px; background: var(--line); border-radius: 3px; }
.track i { position: absolute; top: 0; bottom: 0; }
.range { background: var(--range); }
.mean { width: 3px; margin-left: -1px; background: var(--model); }
.baseline { width: 3px; margin-left: -1px; background: var(--baseline); }
.key i { display: inline-block; width: 12px; height: 12px; margin: 0 4px 0 12px;
  border-radius: 2px; }
.advice { border-left: 4px solid var(--baseline); padding-left: 14px; margin-top: 16px; }
.worst { display: grid; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); gap: 16px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  overflow: hidden; }
figure img { display: block; width: 100%; height: 220px; object-fit: contain;
  background: var(--line); }
figcaption { padding: 10px 14px 12px; overflow-wrap: anywhere; }
figcaption b { display: block; }
figcaption small { color: var(--soft); }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 14px; overflow-x: auto; font-size: 14px; margin: 0; }
.weak td:first-child span { color: var(--baseline); font-size: 13px; white-space: nowrap; }
@media (max-width: 640px) { main { padding: 20px 14px; } .bar, .many { display: none; }
  .number span, .weak td:first-child span { display: block; } th.number { white-space: normal; } }
"""


class TypeScore(NamedTuple):
    """The accuracy of a model on the questions of one type, or `overall`.

    Attributes:
        name: question type.
        questions: number of questions.
        accuracy: of the model, with its interval.
        question_only: accuracy of the most frequent training answer to the identical question.
        gain: accuracy of the model minus `question_only`, with its interval.
    """

    name: str
    questions: int
    accuracy: Interval
    question_only: float
    gain: Interval

    @property
    def is_weak(self) -> bool:
        """Whether the model is not clearly better than guessing without the image."""
        return self.gain.low <= 0


class WrongAnswer(NamedTuple):
    """A question that was answered wrongly, with its image.

    Attributes:
        example: the question.
        given: the answer of the model with its probability.
        right: the right answer.
        pixels: `[height, width, 3]` uint8 RGB.
    """

    example: Example
    given: Answer
    right: str
    pixels: npt.NDArray[np.uint8]


def fill_report(
    title: str,
    scores: Sequence[TypeScore],
    advice: Sequence[str],
    worst: Sequence[WrongAnswer],
    commands: Sequence[str],
) -> str:
    """Return the page as HTML; all texts are escaped.

    Args:
        title: name of the run.
        scores: overall first.
        advice: sentences about what was not learned.
        worst: the worst wrong answers, at most ten.
        commands: commands that use the model.
    """
    rows = "".join(map(_row, scores))
    sentences = (f"{line[:1].upper()}{line[1:]}." for line in advice)
    paragraphs = "".join(f"<p>{escape(each)}</p>" for each in sentences)
    advised = f'<div class="advice">{paragraphs}</div>' if advice else ""
    shown = "".join(map(_figure, worst))
    failures = f"<h2>Most confident wrong answers</h2><div class=worst>{shown}</div>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}: what was learned</title><style>{_STYLE}</style></head><body><main>
<h1>{escape(title)}: what was learned</h1>
<p>Accuracy on validation questions. The intervals contain 95 % (bootstrap over images).</p>
<p class="key"><i style="background:var(--model)"></i>model<i class="range"></i>its interval
<i style="background:var(--baseline)"></i>question only: most frequent answer to the same
question</p>
<table><thead><tr><th>question type</th><th class="number many">questions</th>
<th class="number">accuracy</th><th class="number">question only</th><th class="bar"></th>
</tr></thead><tbody>{rows}</tbody></table>
{advised}
{failures if worst else ""}
<h2>Next</h2><pre>{escape(chr(10).join(commands))}</pre>
</main></body></html>
"""


def _row(score: TypeScore) -> str:
    """Return a row of the table."""
    mean, low, high = (100 * value for value in score.accuracy)
    baseline = 100 * score.question_only
    weak = " <span>not clearly better</span>" if score.is_weak else ""
    bar = (
        f'<div class="track"><i class="range" style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
        f'<i class="mean" style="left:{mean:.1f}%"></i>'
        f'<i class="baseline" style="left:{baseline:.1f}%"></i></div>'
    )
    return (
        f"<tr{' class=weak' if score.is_weak else ''}><td>{escape(score.name)}{weak}</td>"
        f'<td class="number many">{score.questions:,}</td>'
        f'<td class="number">{mean:.1f} % <span>[{low:.1f}, {high:.1f}]</span></td>'
        f'<td class="number">{baseline:.1f} %</td><td class="bar">{bar}</td></tr>'
    )


def _figure(wrong: WrongAnswer) -> str:
    """Return a wrong answer with its image."""
    image = Image.fromarray(wrong.pixels)
    image.thumbnail((_MOST_SIDE, _MOST_SIDE))
    name = escape(wrong.example.image_ids[0])
    return (
        f'<figure><img src="{pack_image(np.asarray(image))["source"]}" alt="{name}">'
        f"<figcaption><b>{escape(wrong.example.text)}</b>"
        f"answered {escape(wrong.given.answer)} ({wrong.given.score:.0%}), right is "
        f"{escape(wrong.right)}<br><small>{name} {escape(wrong.example.question_type)}</small>"
        "</figcaption></figure>"
    )
