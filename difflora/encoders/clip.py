"""A whole CLIP, both towers: pictures and sentences in one space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from difflora.encoders.images import CLIPImageEncoder
from difflora.errors import BadFile


class CLIPEncoder(CLIPImageEncoder):
    """CLIP's pictures, as :class:`CLIPImageEncoder` gives them, and sentences beside them.

    Args:
        folder: local folder of a whole ``CLIPModel`` with its tokenizer, such as openai/clip-vit-large-patch14; only
            safetensors are read.
        device: where the model computes.
        batch_size: pictures or sentences at a time.

    Raises:
        BadFile: if the folder is missing, cut short, or holds no whole CLIP.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu", batch_size: int = 64) -> None:
        super().__init__(folder, device, batch_size)
        if not any((self.folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
            raise BadFile(f"{self.folder}: holds no tokenizer; give the folder of a whole CLIP")
        try:
            self.tokenizer = CLIPTokenizer.from_pretrained(self.folder, local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadFile(f"{self.folder}: its tokenizer cannot be read ({error}); restore it") from error

    def _load(self, config: dict[str, Any]) -> Any:
        if config.get("model_type") != "clip":
            kind = config.get("model_type")
            raise BadFile(f"{self.folder}/config.json: model_type is {kind!r}; give the folder of a whole CLIP")
        return self._from_pretrained(CLIPModel)

    @torch.no_grad()
    def embed_text(self, sentences: Sequence[str]) -> Tensor:
        """Encodes sentences; what is longer than CLIP's text (77 tokens of the public ones) is cut.

        Args:
            sentences: N sentences.

        Returns:
            (N, D) float32 features of unit length, on the CPU.
        """
        unique = list(dict.fromkeys(sentences))  # many people have the same prompts
        parts = [torch.empty(0, self.dimension)]
        longest = self.model.text_model.config.max_position_embeddings
        for start in range(0, len(unique), self.batch_size):
            tokens = self.tokenizer(
                unique[start : start + self.batch_size],
                padding=True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            ).to(self.device)
            pooled = self.model.text_model(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            ).pooler_output  # (B, width)
            parts.append(F.normalize(self.model.text_projection(pooled).float(), dim=-1).cpu())
        places = {sentence: place for place, sentence in enumerate(unique)}
        return torch.cat(parts)[[places[sentence] for sentence in sentences]]
