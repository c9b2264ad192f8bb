"""Candidates, the gate, the champion: MLflow's registry as this project uses it.

A candidate is a version of ``difflora-candidates`` (its newest is ``@challenger``); a promoted one is copied to a
version of ``difflora``, and the alias ``champion`` moves to it. Every step may be killed and done again: a version that
is there is found by its name and hash, never made twice.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflora.errors import BadParameter, DiffLoRAError
from difflora.files import sha256_file
from difflora.folders import read_json, whole_folder
from difflora.manifest import NAME, check_manifest
from difflora.stages.candidate import FIGURES, FILES, MANIFEST, PEOPLE, PROTOCOL, VERSION, fetch, log_model, tags_of
from difflora.stages.gate import Gate, Verdict, judge
from difflora.stages.locks import alone
from difflora.stages.store import SWITCH, check_server, open_client, tracking_uri, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from difflora.stages.params import Params

logger = logging.getLogger(__name__)

MODEL = "difflora"
CANDIDATES = "difflora-candidates"
CHAMPION, CHALLENGER = "champion", "challenger"
_ROLLED_BACK = "difflora.rolled_back"


@dataclass(frozen=True)
class Promotion:
    """What a call of ``promote`` did.

    Attributes:
        promoted: whether the candidate is the champion now.
        candidate: its version's name.
        champion: the champion's version name afterwards; None where there is none.
        verdict: the gate's.
    """

    promoted: bool
    candidate: str
    champion: str | None
    verdict: Verdict


class Registry:
    """The registry of a workspace's store.

    Args:
        root: of the workspace.

    Raises:
        BadParameter: if nothing is tracked.
        Busy: if the server is away.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        uri = tracking_uri(root)
        if uri is None:
            raise BadParameter(f"there is no registry: install the extra `pipeline`, and do not set {SWITCH}=off")
        self._uri = uri
        self.client: MlflowClient = open_client(root, uri)

    def versions(self, name: str = MODEL) -> list[ModelVersion]:
        """All versions of a model, the newest first."""
        found = self.client.search_model_versions(f"name = '{name}'")
        numbered = sorted(found, key=lambda version: int(version.version), reverse=True)
        return [self.client.get_model_version(name, version.version) for version in numbered]

    def champion(self) -> ModelVersion | None:
        """The version that is served; None where nothing was promoted yet."""
        return next((version for version in self.versions() if CHAMPION in version.aliases), None)

    def candidate(self, model: Path) -> str | None:
        """Name of the newest candidate that is a folder's bytes; None where it is not registered."""
        manifest = sha256_file(model / NAME)
        same = (version for version in self.versions(CANDIDATES) if version.tags.get(MANIFEST) == manifest)
        return next(map(_name, same), None)

    def register(self, params: Params, run_id: str, model: Path, reports: Path, name: str = CANDIDATES) -> ModelVersion:
        """Registers a folder as a candidate, once.

        Args:
            params: of the chain that made it.
            run_id: of the stage's run.
            model: the pipeline's folder.
            reports: the folder of its figures.
            name: of the registered model.

        Returns:
            Its version; the one that is there, if it was registered before.

        Raises:
            BadFile: if the folder is not what its manifest says.
            Busy: if another process holds the registry.
        """
        check_manifest(model)
        tags = tags_of(params, model)
        with self._alone():
            there = self._same(name, tags)
            if there is None:
                self._ensure(name)
                source, tags[FILES] = log_model(self.client, run_id, model, reports)
                there = self.client.create_model_version(name, source, run_id, tags=tags)
                logger.info("registered %s as %s version %s", tags[VERSION], name, there.version)
            self.client.set_registered_model_alias(name, CHALLENGER, there.version)
        return there

    def promote(
        self, gate: Gate, *, version: str | None = None, measured: Path | None = None, force: bool = False
    ) -> Promotion:
        """Makes a candidate the champion, if the gate allows it.

        Args:
            gate: what is asked.
            version: of the candidates; None for the challenger, unless it was rolled back.
            measured: a folder of the champion's figures on the candidate's people (``difflora registry measure``);
                None for those of its own registration.
            force: whether a gate that says no is passed by; hashes are compared all the same.

        Raises:
            BadParameter: if there is no such candidate, or the two were measured differently.
            BadFile: if bytes of either were changed.
            Busy: if another process holds the registry.
        """
        with self._alone(), tempfile.TemporaryDirectory() as place:
            candidate, champion = self._candidate(version), self.champion()
            label = _name(candidate)
            files = fetch(candidate, _folder(place, "candidate"))
            if champion is not None and champion.tags.get(MANIFEST) == candidate.tags.get(MANIFEST):
                return Promotion(True, label, _name(champion), Verdict(True, ["it is the champion already"]))
            if version is None and not force and self._was_rolled_back(candidate):
                words = f"it was rolled back; to promote it again name it: version {candidate.version} of {CANDIDATES}"
                return Promotion(False, label, _name(champion) if champion else None, Verdict(False, [words]))
            people = None
            if champion is not None:
                people = self._people_of(champion, candidate, measured, _folder(place, "champion"))
            verdict = judge(gate, read_json(files / FIGURES), read_json(files / PEOPLE), people)
            if not verdict.passed and not force:
                return Promotion(False, label, _name(champion) if champion else None, verdict)
            copied = self._same(MODEL, candidate.tags)
            if copied is None:
                copied = self.client.copy_model_version(f"models:/{candidate.name}/{candidate.version}", MODEL)
            self.client.delete_model_version_tag(MODEL, copied.version, _ROLLED_BACK)
            self.client.set_registered_model_alias(MODEL, CHAMPION, copied.version)
            return Promotion(True, label, _name(copied), verdict)

    def rollback(self) -> tuple[str, str]:
        """Makes the version before the champion the champion; gives the names of both, old and new.

        Raises:
            BadParameter: if there is none.
            BadFile: if its bytes were changed.
        """
        with self._alone(), tempfile.TemporaryDirectory() as place:
            champion = self.champion()
            if champion is None:
                raise BadParameter(f"{MODEL}: has no champion; promote a candidate first")
            older = [
                version
                for version in self.versions()
                if int(version.version) < int(champion.version) and _ROLLED_BACK not in version.tags
            ]
            if not older:
                raise BadParameter(f"{MODEL}: version {champion.version} is the first, there is none to go back to")
            fetch(older[0], Path(place))
            self.client.set_model_version_tag(MODEL, champion.version, _ROLLED_BACK, "true")
            self.client.set_registered_model_alias(MODEL, CHAMPION, older[0].version)
            return _name(champion), _name(older[0])

    def verify(self, version: ModelVersion) -> None:
        """Fetches a version and compares all its hashes.

        Raises:
            BadFile: if a file is missing or was changed; version and file are named.
        """
        with tempfile.TemporaryDirectory() as place:
            fetch(version, Path(place))

    def champion_folder(self) -> Path | None:
        """The champion's pipeline as a folder of the workspace, fetched and checked; None where there is none."""
        champion = self.champion()
        if champion is None:
            return None
        folder = self.root / "models" / "champions" / champion.tags[VERSION]
        manifest = folder / NAME
        # Another model of the same weights, or a folder that was changed with its manifest, is fetched anew.
        if manifest.exists() and sha256_file(manifest) == champion.tags[MANIFEST]:
            check_manifest(folder)
            return folder
        with tempfile.TemporaryDirectory() as place, whole_folder(folder) as made:
            shutil.copytree(fetch(champion, Path(place)) / "pipeline", made, dirs_exist_ok=True)
        return folder

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else of this workspace changes the registry; a server that goes away meanwhile is said to be."""
        from mlflow.exceptions import MlflowException

        with alone(self.root / "mlruns" / "registry.lock", "the registry"):
            try:
                yield
            except MlflowException as error:
                check_server(self._uri)
                said = str(error).strip().splitlines()[0]
                raise DiffLoRAError(f"{without_password(self._uri)}: MLflow refused ({said}); read its log") from error

    def _was_rolled_back(self, candidate: ModelVersion) -> bool:
        """Whether these bytes were the champion once and were taken back, however they were measured."""
        same = (one for one in self.versions() if one.tags.get(MANIFEST) == candidate.tags.get(MANIFEST))
        return any(_ROLLED_BACK in one.tags for one in same)

    def _candidate(self, version: str | None) -> ModelVersion:
        found = self.versions(CANDIDATES)
        for one in found:
            if str(one.version) == version or (version is None and CHALLENGER in one.aliases):
                return one
        there = ", ".join(str(one.version) for one in found) or "none"
        raise BadParameter(f"{CANDIDATES}: has no version {version or '@' + CHALLENGER}; there are: {there}")

    def _people_of(
        self, champion: ModelVersion, candidate: ModelVersion, measured: Path | None, place: Path
    ) -> dict[str, Any]:
        """The champion's figures a person, made like the candidate's."""
        if measured is not None:
            facts = read_json(measured / "champion.json")
            if facts.get("champion") != champion.tags.get(VERSION):
                raise BadParameter(
                    f"{measured}: was measured for {facts.get('champion')}, the champion is "
                    f"{champion.tags.get(VERSION)}; run `difflora registry measure`"
                )
            made, people = str(facts.get("protocol")), read_json(measured / "champion_people.json")
        else:
            made, people = str(champion.tags.get(PROTOCOL)), read_json(fetch(champion, place) / PEOPLE)
        if made != candidate.tags.get(PROTOCOL):
            raise BadParameter(
                "candidate and champion were measured with different prompts, seeds or settings; run `difflora "
                "registry measure` to measure the champion as this workspace does"
            )
        return people

    def _same(self, name: str, tags: dict[str, str]) -> ModelVersion | None:
        """A version of the same bytes."""
        for version in self.versions(name):
            if version.tags.get(VERSION) != tags[VERSION]:
                continue
            if version.tags.get(MANIFEST) == tags[MANIFEST] and version.tags.get(PROTOCOL) == tags[PROTOCOL]:
                return version
        return None

    def _ensure(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _name(version: ModelVersion) -> str:
    return f"{version.name} version {version.version} ({version.tags.get(VERSION)})"


def _folder(place: str, name: str) -> Path:
    folder = Path(place) / name
    folder.mkdir()
    return folder
