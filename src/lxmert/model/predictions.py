"""The prediction heads of LXMERT: words, matching, regions and answers.

Shapes: batch B, text length T, regions R, hidden width. Attribute names are those of the published
weights.
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
        """Map `[..., hidden]` to `[..., hidden]`."""
        transformed: Tensor = self.LayerNorm(self.transform_act_fn(self.dense(hidden_states)))
        return transformed


class LxmertLMPredictionHead(nn.Module):
    """Scores of the word pieces; the decoder usually shares the weights of the word embedding."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.transform = LxmertPredictionHeadTransform(config)
        # Checkpoints store the bias beside the decoder.
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map `[batch, text_len, hidden]` to `[batch, text_len, vocab_size]`."""
        scores: Tensor = self.decoder(self.transform(hidden_states))
        return scores.add_(self.bias)  # in place, as copying all scores costs as much as a layer

    def set_decoder(self, decoder: nn.Linear) -> None:
        """Replace the decoder and resize the bias, with 0 for new words."""
        self.decoder = decoder
        missing = decoder.weight.shape[0] - self.bias.shape[0]
        if missing:
            # Negative padding removes words at the end.
            resized = nn.functional.pad(self.bias.detach(), (0, missing))
            self.bias = nn.Parameter(resized, requires_grad=self.bias.requires_grad)


class LxmertVisualAnswerHead(nn.Module):
    """Scores of the answers to a question about an image, or of classes for several images."""

    def __init__(self, config: LxmertConfig, num_labels: int, *, num_images: int = 1) -> None:
        super().__init__()
        width = config.hidden_size * 2
        # Always GELU, as in the published heads, regardless of `hidden_act`.
        self.logit_fc = nn.Sequential(
            nn.Linear(config.hidden_size * num_images, width),
            nn.GELU(),
            nn.LayerNorm(width, eps=config.layer_norm_eps),
            nn.Linear(width, num_labels),
        )

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map `[batch, num_images * hidden]` to `[batch, num_labels]`."""
        scores: Tensor = self.logit_fc(hidden_states)
        return scores


class LxmertVisualObjHead(nn.Module):
    """Predictions of the object, attribute and feature of a region."""

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
            The enabled ones of `obj` `[batch, regions, num_object_labels]`, `attr`
            `[batch, regions, num_attr_labels]` and `feat` `[batch, regions, visual_feat_dim]`.
        """
        hidden_states = self.transform(hidden_states)
        return {name: decoder(hidden_states) for name, decoder in self.decoder_dict.items()}


class LxmertMatchingHead(nn.Module):
    """Matching scores; parameter names are those of the pretraining heads."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.seq_relationship = nn.Linear(config.hidden_size, 2)

    def forward(self, pooled_output: Tensor) -> Tensor:
        """Map `[batch, hidden]` to `[batch, 2]`; index 1 is a match."""
        scores: Tensor = self.seq_relationship(pooled_output)
        return scores


class LxmertPreTrainingHeads(nn.Module):
    """The heads of all pretraining models: words and matching."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__()
        self.predictions = LxmertLMPredictionHead(config)
        self.seq_relationship = nn.Linear(config.hidden_size, 2)

    def forward(self, sequence_output: Tensor, pooled_output: Tensor) -> tuple[Tensor, Tensor]:
        """Score words `[batch, text_len, vocab_size]` and matching `[batch, 2]`."""
        return self.predictions(sequence_output), self.seq_relationship(pooled_output)
