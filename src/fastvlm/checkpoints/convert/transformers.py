"""The tensor names of transformers' `fast_vlm` checkpoints, whose encoder is timm's `fastvit_mci3`, as data."""

from __future__ import annotations

from fastvlm.checkpoints.convert.decoder import decoder_names
from fastvlm.checkpoints.names import Name, NameTable, names, under

_CONV_NORM = names(("conv", "conv"), ("norm", "bn"))

_MOBILE_ONE = (
    *under("conv", "conv_kxk.0", _CONV_NORM),
    *under("scale", "conv_scale", _CONV_NORM),
    *names(("skip", "identity"), ("fused", "reparam_conv")),
)

_PATCH_EMBEDDING = (
    *under("spatial.large", "proj.0.large_conv", _CONV_NORM),
    *under("spatial.small", "proj.0.small_conv", _CONV_NORM),
    *names(("spatial.fused", "proj.0.reparam_conv")),
    *under("pointwise", "proj.1", _MOBILE_ONE),
)

_POSITION_ENCODING = names(("conv", "pos_enc"), ("fused", "reparam_conv"))

_FEED_FORWARD = (
    *under("spatial", "conv", _CONV_NORM),
    *names(("expand", "fc1"), ("contract", "fc2")),
)

_REPMIXER_BLOCK = (
    *under("token_mixer.mixer", "token_mixer.mixer", _MOBILE_ONE),
    *names(
        ("token_mixer.norm.skip", "token_mixer.norm.identity"),
        ("token_mixer.layer_scale", "token_mixer.layer_scale.gamma"),
        ("token_mixer.fused", "token_mixer.reparam_conv"),
        ("layer_scale", "layer_scale.gamma"),
    ),
    *under("feed_forward", "mlp", _FEED_FORWARD),
)

_ATTENTION_BLOCK = (
    *names(
        ("norm", "norm"),
        ("attention.qkv", "token_mixer.qkv"),
        ("attention.output", "token_mixer.proj"),
        ("attention_scale", "layer_scale_1.gamma"),
        ("feed_forward_scale", "layer_scale_2.gamma"),
    ),
    *under("feed_forward", "mlp", _FEED_FORWARD),
)

ENCODER: tuple[Name, ...] = (
    *under("stem.blocks.{i}", "stem.{i}", _MOBILE_ONE),
    *under("stages.{s}.patch_embedding", "stages.{s}.downsample", _PATCH_EMBEDDING),
    *under("stages.{s}.position_encoding", "stages.{s}.pos_emb", _POSITION_ENCODING),
    *under("stages.{s}.blocks.{i}", "stages.{s}.blocks.{i}", (*_REPMIXER_BLOCK, *_ATTENTION_BLOCK)),
    *under("expansion.conv", "final_conv", _MOBILE_ONE),
    *names(
        ("expansion.squeeze_excite.reduce", "final_conv.se.fc1"),
        ("expansion.squeeze_excite.expand", "final_conv.se.fc2"),
    ),
)

ENCODER_TABLE = NameTable(ENCODER)
"""The encoder alone: timm's own names. Its classifier is not the CLIP head, which this layout has no place for."""

TABLE = NameTable(
    (
        *under("vision", "model.vision_tower.timm_model", ENCODER),
        *under(
            "projector",
            "model.multi_modal_projector",
            names(("linear_1", "linear_1"), ("linear_2", "linear_2")),
        ),
        *decoder_names("model.language_model"),
        *names(("decoder.head", "lm_head")),
    ),
    ignored=("model.language_model.layers.{i}.self_attn.rotary_emb.inv_freq",),
)
"""A whole vision-language model."""
