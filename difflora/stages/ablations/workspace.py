"""Where a row's outputs lie: what it shares with the chain is the chain's own, what differs has a folder of its own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from difflora.corpus.people import PeopleFolder
from difflora.corpus.reader import HEADER, INDEX, Corpus
from difflora.files import sha256_file, write_json
from difflora.stages.params import Params
from difflora.stages.workspace import Workspace

_HOW_FAST = {"train_people", "people_at_once", "rows_per_shard", "compile"}
"""Parameters of the corpus that change no LoRA."""


@dataclass(frozen=True)
class AblationWorkspace(Workspace):
    """A workspace below another one's ``data/ablations``.

    A step's folder is named by a digest of all that the step depends on: parameters and inputs. So a row that was made
    for the same inputs is found again, and rows that share steps make them once. A step whose digest is the chain's
    own takes the chain's output.

    Attributes:
        root: ``data/ablations``.
        params: the row's.
        chain: the workspace of the chain.
    """

    chain: Workspace

    @classmethod
    def below(cls, chain: Workspace, params: Params) -> AblationWorkspace:
        """The workspace of a row with these parameters."""
        return cls(chain.root / "data" / "ablations", params, chain)

    @property
    def people(self) -> Path:
        """The chain's people."""
        return self.chain.people

    @property
    def incoming(self) -> Path:
        """The chain's."""
        return self.chain.incoming

    @property
    def corpus(self) -> Path:
        """The chain's corpus, or one of the row's own."""
        return self.chain.corpus if self.same_corpus else self.folder("corpus") / "corpus"

    @property
    def parts(self) -> Path:
        """Of the row's own corpus."""
        return self.folder("corpus") / "parts"

    @property
    def lae(self) -> Path:
        """The chain's autoencoder, or the row's own."""
        return self.chain.lae if self.same_lae else self.folder("lae") / "lae"

    @property
    def dit(self) -> Path:
        """The chain's pipeline, or the row's own."""
        return self.chain.dit if self.same_dit else self.folder("dit") / "dit"

    @property
    def features(self) -> Path:
        """Of the pipeline's training people."""
        return self.chain.features if self.same_dit else self.folder("dit") / "features.safetensors"

    def report(self, name: str) -> Path:
        """A file of figures, in the folder of the step that makes it."""
        step = next((step for step in ("corpus", "lae") if name.startswith(step)), None)
        if step is None:
            step = "evaluate" if name.startswith(("evaluation", "people", "pictures")) else "dit"
        return self.folder(step) / name

    def open_corpus(self) -> Corpus:
        """The LoRAs, of as many training people as the row has."""
        corpus = super().open_corpus()
        return corpus if self._few is None else corpus.of_few(self._few)

    def also_learnt_from(self, people: PeopleFolder, corpus: Corpus) -> list[str]:
        """Nobody, where the row is about how many people are learnt from."""
        return super().also_learnt_from(people, corpus) if self._few is None else []

    def folder(self, step: str) -> Path:
        """A step's folder."""
        return self.root / f"{step}-{self._digests[step]}"

    def made(self, step: str) -> bool:
        """Whether a step needs no making: it is the chain's, or was made before."""
        shared = {"corpus": self.same_corpus, "lae": self.same_lae, "dit": self.same_dit, "evaluate": False}
        return shared[step] or (self.folder(step) / "made.json").is_file()

    def mark_made(self, step: str) -> None:
        """Says that a step's outputs are whole, and what it rested on."""
        write_json(self.folder(step) / "made.json", self._facts[step])

    @cached_property
    def same_corpus(self) -> bool:
        """Whether the row's LoRAs are the chain's."""
        return self._trained_by(self.params) == self._trained_by(self.chain.params)

    @property
    def same_lae(self) -> bool:
        """Whether the row's autoencoder is the chain's."""
        return self.same_corpus and self._few is None and self.params.lae == self.chain.params.lae

    @property
    def same_dit(self) -> bool:
        """Whether the row's pipeline is the chain's."""
        return self.same_lae and self.params.dit == self.chain.params.dit

    @property
    def _few(self) -> int | None:
        """How many training people the row has, where it is about that."""
        few = self.params.corpus.train_people
        return None if few == self.chain.params.corpus.train_people else few

    @cached_property
    def _facts(self) -> dict[str, dict[str, Any]]:
        """Step -> what it depends on."""
        values = self.params.model_dump(mode="json", by_alias=True)
        people = sha256_file(self.there(self.people, "identities") / "people.jsonl")
        corpus = {"people": people, "base": values["models"]["base"], "corpus": self._trained_by(self.params)}
        chains = self.there(self.chain.corpus, "corpus")
        corpus["header"] = sha256_file(chains / HEADER)  # tells the base's weights
        if self.same_corpus:
            corpus["rows"] = sha256_file(chains / INDEX)
        else:  # it grows in its folder, and what is made of it is of so many people
            corpus["train_people"] = self.params.corpus.train_people
        lae = {"of": corpus, "few": self._few, "lae": values["lae"], "continue_from": values["continue_from"]}
        if self.same_lae:
            lae["weights"] = _weights(self.there(self.lae, "lae"))
        dit = {"of": lae, "models": values["models"], "dit": values["dit"]}
        made = self.there(self.chain.dit, "dit")
        dit["features"] = sha256_file(self.chain.features)  # tells the encoders' weights
        if self.same_dit:
            dit["weights"] = _weights(made)
        evaluate = {key: value for key, value in values["evaluate"].items() if key != "figures"}  # drawn afterwards
        return {"corpus": corpus, "lae": lae, "dit": dit, "evaluate": {"of": dit, "evaluate": evaluate}}

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {
            step: hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
            for step, facts in self._facts.items()
        }

    @staticmethod
    def _trained_by(params: Params) -> dict[str, Any]:
        return params.corpus.model_dump(mode="json", exclude=_HOW_FAST)


def _weights(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(folder.rglob("*.safetensors"))}
