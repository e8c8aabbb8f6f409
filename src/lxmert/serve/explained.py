"""The response of an explanation. It needs PyTorch, and is imported only when one was computed."""

from typing import Any

from lxmert.explain.cells import are_cells
from lxmert.explain.explanation import Explanation
from lxmert.explain.report import pack_maps, pack_methods, pack_states
from lxmert.serve.items import answer_item, answer_items, region_items
from lxmert.serve.messages import ExplainResponse, MapItem, MethodItem, StateItem, WordItem


def explain_response(
    found: Explanation, about: dict[str, Any], *, attention: bool
) -> ExplainResponse:
    """Return the response.

    Args:
        found: the explanation.
        about: fields of the image.
        attention: whether to add the attention maps and the states of all layers.
    """
    return ExplainResponse(
        **about,
        **_explained(found),
        maps=tuple(MapItem(**each) for each in pack_maps(found.maps))  # type: ignore[arg-type]
        if attention
        else (),
        states=tuple(StateItem(**each) for each in pack_states(found.states))  # type: ignore[arg-type]
        if attention
        else (),
    )


def _explained(found: Explanation) -> dict[str, Any]:
    return {
        "question": found.question,
        "model": found.model,
        "answers": answer_items(found.answers),
        "regions": region_items(found.regions, found.objects, found.labels),
        "words": tuple(WordItem(**word._asdict()) for word in found.words),
        "unread": found.unread,
        "without_image": found.without_image and answer_item(found.without_image),
        "did_not_look": found.did_not_look,
        "cells": are_cells(found.regions.boxes, found.image.shape[:2]),
        "methods": tuple(_method_item(each) for each in pack_methods(found.by_method)),
    }


def _method_item(packed: dict[str, Any]) -> MethodItem:
    scores = {side: tuple(map(tuple, packed[side])) for side in ("words", "regions")}
    return MethodItem(**{**packed, **scores})
