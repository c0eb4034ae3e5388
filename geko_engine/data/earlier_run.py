"""What an earlier run has kept of the rows that it was trained on. Reads the files of a run, but knows no run and no format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from geko_engine.config.run_config import RunConfig
from geko_engine.config.sections import DataConfig
from geko_engine.exceptions import DataError, GekoError
from geko_engine.selection.sample_records import Prediction, SampleStates
from geko_engine.storage.user_paths import FILE, expand, kind_of, path_problem, shown_path

FIELD = "data.replay"
CONFIG, TEXTS, RECORD = "config.yaml", "texts.parquet", "samples.safetensors"  # in the folder of a run
TEXT_LIMIT = 200_000  # characters of a sample that a run keeps


@dataclass(frozen=True)
class EarlierRun:
    """What is known of the rows of a run.

    Attributes:
        path: its folder. data: settings of its data, then of the data of the runs that it continued itself.
        texts: digest of each text that it or one of these was trained on -> whether it may be replayed.
        missing: folders of those of them that cannot be read any more, so that their rows count as new.
    """

    path: Path
    data: list[DataConfig]
    texts: dict[bytes, bool]
    missing: list[str]

    @classmethod
    def read(cls, name: str) -> EarlierRun:
        """The run in the folder `name`. Raises DataError at data.replay."""
        path, found = expand(name), cls(expand(name), [], {}, [])
        seen: set[Path] = set()
        following: str | None = name
        while following and expand(following).resolve() not in seen:
            seen.add(expand(following).resolve())
            problem = replay_problem(following)
            if problem and following == name:
                raise DataError(problem, FIELD)
            if problem:
                found.missing.append(following)
                break
            try:
                data, texts = _trained_texts(expand(following))
            except (GekoError, OSError, pa.ArrowException) as error:
                raise DataError(f"The run {shown_path(following)} cannot be read: {error}", FIELD) from error
            found.data.append(data)
            for digest, may in texts.items():
                found.texts.setdefault(digest, may)  # the newest run knows best
            following = data.replay
        return cls(path.resolve(), found.data, found.texts, found.missing)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.name

    def may_replay(self, digests: Sequence[bytes]) -> bool | None:
        """Whether the row with the texts of `digests` may be replayed; None where the run was not trained on it."""
        if not digests or any(digest not in self.texts for digest in digests):
            return None
        return all(self.texts[digest] for digest in digests)


def _trained_texts(path: Path) -> tuple[DataConfig, dict[bytes, bool]]:
    """(settings of the data of the run in `path`, digest of each text that it was trained on -> whether it may be replayed)."""
    data = RunConfig.from_yaml(path / CONFIG, on_renamed=lambda _sentence: None).data
    digests = _digests_of(path / TEXTS)
    states = SampleStates(len(digests))
    if (path / RECORD).exists():
        states.load(path / RECORD)
    trained = (states.visits() > 0) | (states.predicted_status != Prediction.NONE)
    known = (states.correct > 0) & ~states.suspects()
    return data, {digests[i]: bool(known[i]) for i in range(len(digests)) if trained[i]}


def replay_problem(name: str | None) -> str:
    """Why the folder `name` holds no run with rows to replay, or ""."""
    if not name:
        return ""
    problem = path_problem(name)
    if problem:
        return problem
    path = expand(name)
    if kind_of(path / CONFIG) != FILE:
        return f"There is no run in {shown_path(name)}: give the folder of an earlier run, which has a {CONFIG}."
    if kind_of(path / TEXTS) != FILE:
        return (
            f"The run in {shown_path(name)} has kept no rows ({TEXTS} is missing): give another run, or leave it empty."
        )
    return ""


def _digests_of(texts: Path) -> list[bytes]:
    with parquet.ParquetFile(texts) as file:
        return [
            text_digest(text) for batch in file.iter_batches(columns=["text"]) for text in batch.column(0).to_pylist()
        ]


def text_digest(text: str) -> bytes:
    """Equal for texts that are kept alike."""
    return blake2b(text[:TEXT_LIMIT].encode("utf-8", "surrogatepass"), digest_size=16).digest()
