"""The vision-language model: FastViTHD, a projector and a decoder (paper figure 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastvlm.models.config import VLMConfig
from fastvlm.models.language.decoder import Decoder
from fastvlm.models.projector import Projector
from fastvlm.models.splice import splice
from fastvlm.models.vision.fastvithd import FastViTHD


class FastVLM(nn.Module):
    """Pixels and words in, scores over the vocabulary out."""

    def __init__(self, config: VLMConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = FastViTHD(config.vision)
        self.projector = Projector(config.vision.output_width, config.decoder.width)
        self.decoder = Decoder(config.decoder)

    def recompute_activations(self, wanted: bool) -> None:
        """Whether training keeps the inputs of layers and blocks alone: less memory, for about a third more time."""
        self.vision.recomputes = self.decoder.recomputes = wanted

    def encode(self, pixels: Tensor) -> Tensor:
        """Turn tiles into visual tokens: N x 3 x H x W to N x (H/64 * W/64) x decoder width, row by row.

        Pixels take the encoder's precision and its map the projector's, so that the parts may differ in it.
        """
        return self.project(self.vision(pixels.to(next(self.vision.parameters()).dtype)))

    def project(self, feature_map: Tensor) -> Tensor:
        """Turn the encoder's map into visual tokens: N x C x h x w to N x (h * w) x decoder width, row by row."""
        tokens = feature_map.flatten(2).transpose(1, 2)
        projected: Tensor = self.projector(tokens.to(self.projector.linear_1.weight.dtype))
        return projected

    def embed(self, token_ids: Tensor, is_visual: Tensor, visual_tokens: Tensor) -> Tensor:
        """Look up words and fill the slots: ids B x T, slots B x T, visual tokens M x width, to B x T x width.

        Ids under slots are never looked up, whatever they hold. Raises PromptError unless there are M slots.
        """
        words = self.decoder.embed(token_ids.masked_fill(is_visual.to(token_ids.device), 0))
        return splice(words, visual_tokens, is_visual)

    def forward(
        self,
        visual_tokens: Tensor | None,
        *,
        token_ids: Tensor,
        is_visual: Tensor,
        positions: Tensor,
        mask: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Score the next token, for training.

        visual_tokens: M x width, of all pictures in the order of their slots, or None for text alone. token_ids,
        is_visual, positions: B x T. mask: bool, B x 1 x T x T, None for causal. rows: bool, B x T, where scores are
        wanted. Returns num rows x vocabulary, or B x T x vocabulary.
        """
        if visual_tokens is None:
            visual_tokens = self.projector.linear_2.weight.new_empty((0, self.config.decoder.width))
        embeddings = self.embed(token_ids, is_visual, visual_tokens)
        hidden: Tensor = self.decoder(embeddings, positions=positions, mask=mask)
        if rows is not None:
            wanted = rows.flatten().nonzero().squeeze(1)
            hidden = hidden.flatten(0, 1).index_select(0, wanted.to(hidden.device))
        return self.decoder.logits(hidden)


def segment_mask(segments: Tensor) -> Tensor:
    """Who may attend to whom when several questions share a row: B x T segments to bool, B x 1 x T x T.

    A position sees earlier positions of segment 0 and of its own segment; padding (-1) sees itself only, so that no
    row of the mask is empty.
    """
    num_positions = segments.shape[1]
    is_own = segments[:, :, None] == segments[:, None, :]
    is_shared = (segments == 0)[:, None, :]
    is_word = (segments >= 0)[:, :, None]
    earlier = torch.ones(num_positions, num_positions, dtype=torch.bool, device=segments.device).tril()
    itself = torch.eye(num_positions, dtype=torch.bool, device=segments.device)
    return ((earlier & (is_own | is_shared) & is_word) | itself)[:, None]
