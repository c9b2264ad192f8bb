"""ImageReward v1.0 (Xu et al., 2023): how people would like a picture that a prompt asked for.

The weights are the user's to bring, in a local folder: ``model.safetensors`` with the keys of the published
``ImageReward.pt``, and BERT's ``vocab.txt`` (bert-base-uncased). The published file is a pickle, which this project
never opens; convert it once, by torch's loader of weights alone:

    from safetensors.torch import save_file
    state = torch.load("ImageReward.pt", map_location="cpu", weights_only=True)
    save_file({key: value.contiguous() for key, value in state.items()}, "image_reward/model.safetensors")
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BertTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from difflora.encoders.images import as_arrays
from difflora.errors import BadFile, BadParameter
from difflora.files import load_safetensors

MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072
"""Of the public model's scores on its own data."""

_LONGEST = 35
_HEAD = 64
_LAYERS = (0, 2, 4, 6, 7)
_VISION = (
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^norm\.", "post_layernorm."),
    (r"^blocks\.(\d+)\.norm([12])\.", r"encoder.layers.\1.layer_norm\2."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.\1.self_attn.qkv."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.projection."),
    (r"^blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
)
# Of BLIP's pretraining alone; the score does not pass through them.
_UNUSED = re.compile(r"^blip\.(vision_proj|text_proj)\.|^blip\.text_encoder\.embeddings\.position_ids$")


class ImageReward(nn.Module):
    """BLIP's picture encoder, its text encoder with cross-attention on the picture, and a linear stack to a score.

    Sizes are read off the weights: ViT-L and BERT-base in the public model, heads of 64 in both.

    Args:
        folder: see the module.
        device: where the model computes.
        batch_size: pictures at a time.

    Raises:
        BadFile: if the folder is missing, cut short, or its weights are not ImageReward's.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu", batch_size: int = 16) -> None:
        super().__init__()
        self.folder, self.device, self.batch_size = Path(folder), torch.device(device), batch_size
        if not self.folder.is_dir():
            raise BadFile(f"{self.folder}: no such folder; give the local folder of ImageReward's weights")
        if not (self.folder / "vocab.txt").is_file():
            raise BadFile(f"{self.folder}/vocab.txt: no such file; take bert-base-uncased's")
        path = self.folder / "model.safetensors"
        state = {key: value for key, value in load_safetensors(path).items() if not _UNUSED.match(key)}
        vision, text = _part(state, "blip.visual_encoder."), _part(state, "blip.text_encoder.")
        vision = {_renamed(key): value for key, value in vision.items()}
        head = _part(state, "mlp.layers.")
        try:
            self.vision = BlipVisionModel(_vision_config(vision))
            self.text = BlipTextModel(_text_config(text), add_pooling_layer=False)
            widths = [head["0.weight"].shape[1], *(head[f"{place}.weight"].shape[0] for place in _LAYERS)]
        except (KeyError, ValueError, IndexError) as error:
            raise BadFile(f"{path}: holds no ImageReward ({error!r}); convert ImageReward.pt again") from error
        pairs = zip(_LAYERS, widths, widths[1:], strict=False)
        self.head = nn.ModuleDict({str(place): nn.Linear(inputs, outputs) for place, inputs, outputs in pairs})
        _fill(self.vision, vision, path)
        _fill(self.text, text, path)
        _fill(self.head, head, path)
        if strange := sorted(key for key in state if not key.startswith(("blip.", "mlp.layers."))):
            raise BadFile(f"{path}: {strange[0]} is no key of ImageReward; convert ImageReward.pt again")
        side = self.vision.config.image_size
        self.processor = CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        )  # bicubic, centre crop, CLIP's mean and deviation: as the public code does
        self.tokenizer = BertTokenizer.from_pretrained(self.folder, local_files_only=True)
        self.to(device=self.device, dtype=torch.float32).train(False).requires_grad_(False)

    @torch.no_grad()
    def reward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """How well each picture would be liked for its prompt, in the public model's units: mean 0, deviation 1.

        Args:
            images: (N, 3, H, W), uint8 or float in [0, 1], RGB.
            prompts: N sentences; what is longer than 35 tokens is cut.

        Returns:
            (N,) float32.

        Raises:
            BadParameter: if their numbers differ.
        """
        if len(images) != len(prompts):
            raise BadParameter(f"{len(images)} pictures and {len(prompts)} prompts: give as many of each")
        pictures, parts = as_arrays(images), [torch.empty(0)]
        for start in range(0, len(pictures), self.batch_size):
            here = slice(start, start + self.batch_size)
            pixels = self.processor(images=[one.numpy() for one in pictures[here]], return_tensors="pt")["pixel_values"]
            parts.append(self.score(pixels.to(self.device), list(prompts[here])).cpu())
        return torch.cat(parts)

    def score(self, pixel_values: Tensor, prompts: list[str]) -> Tensor:
        """The scores of processed pictures (B, 3, S, S), (B,) float32."""
        words = self.tokenizer(prompts, padding=True, truncation=True, max_length=_LONGEST, return_tensors="pt")
        seen = self.vision(pixel_values).last_hidden_state  # (B, 1 + T, W)
        read = self.text(
            input_ids=words["input_ids"].to(self.device),
            attention_mask=words["attention_mask"].to(self.device),
            encoder_hidden_states=seen,
        ).last_hidden_state[:, 0]  # (B, D)
        for place in _LAYERS:  # the public stack has no activations between its linear layers
            read = self.head[str(place)](read)
        scores: Tensor = (read[:, 0] - MEAN) / DEVIATION
        return scores


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _renamed(key: str) -> str:
    """A key of timm's ViT as ``BlipVisionModel`` has it."""
    for pattern, name in _VISION:
        if re.match(pattern, key):
            return re.sub(pattern, name, key)
    return key


def _depth(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({key.split(".")[2] for key in state if key.startswith(prefix)})


def _vision_config(state: Mapping[str, Tensor]) -> BlipVisionConfig:
    width, _, patch, _ = state["embeddings.patch_embedding.weight"].shape
    tokens = state["embeddings.position_embedding"].shape[1] - 1
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=state["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=_depth(state, "encoder.layers."),
        num_attention_heads=width // _HEAD,
        image_size=round(tokens**0.5) * patch,
        patch_size=patch,
        layer_norm_eps=1e-6,  # timm's, which the weights were trained with
    )


def _text_config(state: Mapping[str, Tensor]) -> BlipTextConfig:
    words, width = state["embeddings.word_embeddings.weight"].shape
    return BlipTextConfig(
        vocab_size=words,
        hidden_size=width,
        encoder_hidden_size=state["encoder.layer.0.crossattention.self.key.weight"].shape[1],
        intermediate_size=state["encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=_depth(state, "encoder.layer."),
        num_attention_heads=width // _HEAD,
        max_position_embeddings=state["embeddings.position_embeddings.weight"].shape[0],
        is_decoder=True,  # which only means: with cross-attention; the tokens see each other both ways
    )


def _fill(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        found = module.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        raise BadFile(f"{path}: {str(error).splitlines()[-1].strip()}; convert ImageReward.pt again") from error
    if wrong := [*found.missing_keys, *found.unexpected_keys]:
        raise BadFile(
            f"{path}: {len(found.missing_keys)} weights are missing and {len(found.unexpected_keys)} are strange, "
            f"{wrong[0]} for one; convert ImageReward.pt again"
        )
