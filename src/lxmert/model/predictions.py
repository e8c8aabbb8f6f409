"""The heads of LXMERT: states in, scores of words, matches, regions and answers out.

Shapes: batch B, text length T, regions R, hidden width. Attribute names are those of the published
weights and therefore of the files.
"""

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from lxmert.model.configuration import LxmertConfig


class LxmertPredictionHeadTransform(nn.Module):
    """Dense layer, activation and layer norm in front of a decoder."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.transform_act_fn = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Turn `[..., hidden]` into `[..., hidden]`."""
        transformed: Tensor = self.LayerNorm(self.transform_act_fn(self.dense(hidden_states)))
        return transformed


class LxmertLMPredictionHead(nn.Module):
    """Scores of the word pieces; the decoder usually shares the weights of the word embedding."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.transform = LxmertPredictionHeadTransform(config)
        # The bias has its own name in the files, beside the decoder and not in it.
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Turn `[batch, text_len, hidden]` into `[batch, text_len, vocab_size]`."""
        scores: Tensor = self.decoder(self.transform(hidden_states))
        return scores.add_(self.bias)  # in place: a copy of all scores costs as much as a layer

    def set_decoder(self, decoder: nn.Linear) -> None:
        """Replace the decoder; the bias follows its size, new words starting at 0."""
        self.decoder = decoder
        missing = decoder.weight.shape[0] - self.bias.shape[0]
        if missing:
            # A negative padding cuts words off at the end.
            resized = nn.functional.pad(self.bias.detach(), (0, missing))
            self.bias = nn.Parameter(resized, requires_grad=self.bias.requires_grad)


class LxmertVisualAnswerHead(nn.Module):
    """Scores of the answers to a question about an image, or of classes for several images."""

    def __init__(self, config: LxmertConfig, num_labels: int, *, num_images: int = 1) -> None:
        super().__init__()
        width = config.hidden_size * 2
        # GELU whatever `hidden_act` is: so were the published heads trained.
        self.logit_fc = nn.Sequential(
            nn.Linear(config.hidden_size * num_images, width),
            nn.GELU(),
            nn.LayerNorm(width, eps=config.layer_norm_eps),
            nn.Linear(width, num_labels),
        )

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Turn `[batch, num_images * hidden]` into `[batch, num_labels]`."""
        scores: Tensor = self.logit_fc(hidden_states)
        return scores


class LxmertVisualObjHead(nn.Module):
    """Predictions of what a region shows: its object, its attribute, its feature."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.transform = LxmertPredictionHeadTransform(config)
        enabled = {
            "obj": (config.visual_obj_loss, config.num_object_labels),
            "attr": (config.visual_attr_loss, config.num_attr_labels),
            "feat": (config.visual_feat_loss, config.visual_feat_dim),
        }
        self.decoder_dict = nn.ModuleDict(
            {
                name: nn.Linear(config.hidden_size, size)
                for name, (wanted, size) in enabled.items()
                if wanted
            }
        )

    def forward(self, hidden_states: Tensor) -> dict[str, Tensor]:
        """Predict for each region.

        Args:
            hidden_states: `[batch, regions, hidden]`.

        Returns:
            Those enabled of `obj` `[batch, regions, num_object_labels]`, `attr`
            `[batch, regions, num_attr_labels]` and `feat` `[batch, regions, visual_feat_dim]`.
        """
        hidden_states = self.transform(hidden_states)
        return {name: decoder(hidden_states) for name, decoder in self.decoder_dict.items()}


class LxmertMatchingHead(nn.Module):
    """Scores of whether text and image match, named as within the heads of pretraining."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.seq_relationship = nn.Linear(config.hidden_size, 2)

    def forward(self, pooled_output: Tensor) -> Tensor:
        """Turn `[batch, hidden]` into `[batch, 2]`; index 1 is a match."""
        scores: Tensor = self.seq_relationship(pooled_output)
        return scores


class LxmertPreTrainingHeads(nn.Module):
    """The heads that every pretraining model has: words, and whether text and image match."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.predictions = LxmertLMPredictionHead(config)
        self.seq_relationship = nn.Linear(config.hidden_size, 2)

    def forward(self, sequence_output: Tensor, pooled_output: Tensor) -> tuple[Tensor, Tensor]:
        """Score words `[batch, text_len, vocab_size]` and matching `[batch, 2]`."""
        return self.predictions(sequence_output), self.seq_relationship(pooled_output)
