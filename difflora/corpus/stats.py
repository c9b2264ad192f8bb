"""What a corpus is like: how many rows of which split, their losses and norms."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from tqdm import tqdm

from difflora.corpus.reader import Corpus
from difflora.corpus.splits import SPLITS


def verify_corpus(corpus: Corpus, *, progress: bool = False) -> int:
    """Reads every row and compares its sha256.

    Returns:
        The number of rows.

    Raises:
        BadFile: for the first row that was changed; file and row are named.
    """
    for place in tqdm(range(len(corpus)), desc="verify", unit="row", disable=not progress):
        corpus[place]
    return len(corpus)


def corpus_stats(corpus: Corpus, *, most: int = 256) -> dict[str, Any]:
    """Counts, losses, and how the weights are spread.

    Args:
        corpus: the corpus.
        most: rows, evenly spaced, that are read for the figures about weights.

    Returns:
        Plain values: ``rows``, ``splits``, ``class_words``, ``failures``, ``parameters``, ``megabytes``, ``loss``
        (quartiles) and, over the rows that were read, ``norm`` (quartiles), ``rms`` of A and of B, and ``shared``: the
        fraction of the rows' energy that their mean has.
    """
    words = Counter(entry.class_word for entry in corpus.entries)
    splits = {name: len(corpus.indices(name)) for name in SPLITS}
    row_bytes = corpus.layout.size * (2 if corpus.settings["dtype"] == "fp16" else 4)
    stats: dict[str, Any] = {
        "rows": len(corpus),
        "splits": splits,
        "class_words": dict(sorted(words.items())),
        "failures": len(corpus.failures()),
        "rank": corpus.layout.rank,
        "parameters": corpus.layout.size,
        "megabytes": round(len(corpus) * row_bytes / 1e6, 1),
    }
    if not len(corpus):
        return stats
    count = min(most, len(corpus))
    rows = corpus.rows([place * len(corpus) // count for place in range(count)])  # (N, D)
    views = corpus.layout.views(rows)
    lora_a = torch.cat([pair[0].flatten(1) for pair in views.values()], dim=1)  # (N, sum of r * n)
    lora_b = torch.cat([pair[1].flatten(1) for pair in views.values()], dim=1)  # (N, sum of m * r)
    return stats | {
        "loss": _quartiles(torch.tensor([entry.loss for entry in corpus.entries])),
        "norm": _quartiles(rows.norm(dim=1)),
        "rms": {"lora_A": _rounded(lora_a.pow(2).mean().sqrt()), "lora_B": _rounded(lora_b.pow(2).mean().sqrt())},
        "shared": _rounded(rows.mean(0).pow(2).sum() / rows.pow(2).sum(1).mean()),
    }


def _quartiles(values: torch.Tensor) -> list[float]:
    """Least, quartiles and most of (N,) values."""
    places = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    return [_rounded(value) for value in values.float().quantile(places)]


def _rounded(value: torch.Tensor) -> float:
    return float(f"{float(value):.4g}")
