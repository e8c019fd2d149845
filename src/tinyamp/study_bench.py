"""Where the study's jobs work: the folders of results and checkpoints, and a row's data sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinyamp.data import Recording
from tinyamp.files import InputError
from tinyamp.losses import esr
from tinyamp.measure import settling_time
from tinyamp.model import AmpLSTM, load_model, process
from tinyamp.stages import Stage
from tinyamp.study import LONGER, TABLE_I, Job, Row, StudySettings
from tinyamp.study_record import load_weights, read_result


@dataclass(frozen=True)
class Workshop:
    """Where a study keeps its results and its checkpoints, and how its jobs run."""

    study: StudySettings
    results: Path
    runs: Path
    progress: bool = False
    device: str | None = "cpu"

    def run_folder(self, row: Row) -> Path:
        """Checkpoints of a row; with other settings it is another folder."""
        return self.runs / f"{row.name}-{self.study.digest('search')}"

    def lock(self, job: Job) -> Path:
        """The file that is locked while the job runs."""
        return self.runs / "locks" / f"{job.name.replace('/', '-')}.lock"

    def result(self, job_name: str) -> dict | None:
        """The finished result of a job, made with these settings, or None."""
        row, _, kind = job_name.rpartition("/")
        digest = self.study.digest(kind, LONGER if row.endswith(f"-{LONGER}") else TABLE_I)
        return read_result(self.results / f"{job_name}.json", digest)

    def need(self, job_name: str) -> dict:
        """`result`; raises `InputError` when it is not there yet."""
        found = self.result(job_name)
        if found is None:
            raise InputError(
                f"{job_name} must be finished first; `tinyamp study run` runs all jobs in order."
            )
        return found["result"]

    def stages(self, row: Row) -> list[Stage]:
        """The stages of a row's search, without weights."""
        found = self.need(f"{row.searched.name}/search")["search"]["stages"]
        return [Stage.from_dict(values) for values in found]

    def stage_model(self, row: Row, number: int) -> AmpLSTM:
        """The model of a stage, at full size, as the search left it."""
        if number == 0:
            return load_model(self.results / row.unpruned.name / "unpruned.safetensors")
        place = row.searched.name
        rate = self.need(f"{place}/search")["search"]["sample_rate"]
        return load_weights(self.results / place / f"stages/stage-{number:02d}.npz", rate)


@dataclass(frozen=True)
class Bench:
    """A row at work: its data sets, loaded once."""

    shop: Workshop
    row: Row
    train: Recording
    validation: Recording
    test: Recording

    @property
    def folder(self) -> Path:
        """Where the row's results are."""
        return self.shop.results / self.row.name

    def need(self, kind: str) -> dict:
        """The result of another job of this row; the search may be another row's."""
        place = self.row.searched if kind == "search" else self.row
        return self.shop.need(f"{place.name}/{kind}")

    def options(self, folder: str) -> dict:
        """How every training and search of this row runs; checkpoints are kept in `folder`."""
        return {
            "folder": self.shop.run_folder(self.row) / folder,
            "resume": True,
            "progress": self.shop.progress,
            "device": self.shop.device,
        }

    def errors(self, model: AmpLSTM) -> dict[str, float]:
        """Plain ESRs as ratios: on the test set, as in Table I, and on the validation set."""
        sets = {"test_esr": self.test, "validation_esr": self.validation}
        return {k: esr(part.target, process(model, part.input)) for k, part in sets.items()}


def settling(model: AmpLSTM) -> float | None:
    """Settling time of a model in seconds, Fig. 7; None if it never settles."""
    try:
        return settling_time(lambda x: process(model, x), sample_rate=model.sample_rate)
    except InputError:
        return None
