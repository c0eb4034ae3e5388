"""A folder of files as one dataset: which files are read, in which order, and how their rows are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, disable_progress_bars

from geko_engine.config.sections import DataConfig
from geko_engine.data import local_files
from geko_engine.data.local_files import find_files
from geko_engine.data.row_names import LoadedRows, Origin, RowNames
from geko_engine.data.sources import load_rows
from geko_engine.exceptions import DataError, Stopped


def lay(folder: Path, **files: str) -> str:
    """Files with these texts in their lines; "__" in a name stands for "/", and "_" for "."."""
    for name, texts in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return str(folder)


def texts(rows: LoadedRows) -> str:
    return "".join(row["text"] for row in rows)


def test_files_of_all_kinds_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    name = lay(tmp_path, part10_txt="d", part2_txt="bc", part1_txt="a", deep__er__x_txt="_")
    (tmp_path / "z.json").write_text('{"text": ["e", "f"]}', encoding="utf-8")
    rows = load_rows(DataConfig(train=name))
    assert texts(rows) == "_abcdef"
    assert rows.origin.sentences == [
        "Rows come from 5 files: deep/er/x.txt 1, part1.txt 1, part2.txt 2, part10.txt 1, z.json 2"
    ]


def test_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    name = lay(tmp_path, a_txt="a", README_md="x", _git__b_txt="x", empty_txt="", c_txt_bz2="x", test_txt="t")
    rows = load_rows(DataConfig(train=name))
    assert texts(rows) == "a" and rows.origin.sentences == [
        "1 file without rows: empty.txt",
        "3 files not read, no data files: .git/, README.md, c.txt.bz2",
        "1 file not read, named for another split than 'train': test.txt",
    ]


@pytest.mark.parametrize(
    ("files", "split", "read"),
    [
        (("train-00000-of-00002.txt", "train-00001-of-00002.txt", "test.txt"), "train", 2),
        (("train/a.txt", "validation/a.txt", "test/a.txt"), "validation", 1),
        (("train/a.txt", "dev/a.txt", "notes.txt"), "validation", 1),
        (("a.txt", "b.txt", "val.txt"), "train", 2),  # what says nothing is training data
        (("train.txt", "extra.txt"), "train", 1),
        (("test-1.txt", "test-2.txt"), "train", 2),  # nothing else is there
        (("latest.txt", "contest.txt"), "test", 2),  # parts of words say nothing
        (("train_sft.txt", "train_gen.txt", "test_sft.txt"), "train_sft", 1),
        (("train.txt", "validation.txt", "test.txt"), "train+validation", 2),
        (("train.txt", "test.txt"), "train[:10%]", 1),
    ],
)
def test_files_of_the_wanted_split_are_read(files: tuple[str, ...], split: str, read: int, tmp_path: Path) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("a\n", encoding="utf-8")
    found = find_files(str(tmp_path), split)
    assert len(found.read) == read
    assert sum(map(len, found.unread.values())) == len(files) - read


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    name = lay(tmp_path, train_txt="a", valid_txt="b")
    with pytest.raises(DataError, match=r"holds files of the splits train, validation, and none of 'test'") as caught:
        load_rows(DataConfig(eval=name), evaluation=True)
    assert caught.value.field == "data.eval"
    assert texts(load_rows(DataConfig(eval=name, eval_split="validation"), evaluation=True)) == "b"


def test_a_slice_is_not_ignored(tmp_path: Path) -> None:
    config = DataConfig(train=lay(tmp_path, a_txt="a"), train_split="train[:10%]")
    with pytest.raises(DataError, match=r"works for datasets on the Hub only: .* and set data.sample_count") as caught:
        load_rows(config)
    assert caught.value.field == "data.train_split"


def test_what_the_datasets_library_saves_is_read(tmp_path: Path) -> None:
    disable_progress_bars()
    data = {split: Dataset.from_dict({"text": [split]}) for split in ("train", "test")}
    DatasetDict(data).save_to_disk(tmp_path)
    rows = load_rows(DataConfig(train=str(tmp_path)))
    assert texts(rows) == "train"
    assert "dataset_dict.json" in "".join(rows.origin.sentences)


def test_all_files_that_cannot_be_read_are_named_at_once(tmp_path: Path) -> None:
    name = lay(tmp_path, a_txt="a", b_jsonl="{", c_txt="c", d_json="]")
    with pytest.raises(DataError) as caught:
        load_rows(DataConfig(train=name))
    first, second = str(caught.value).splitlines()
    assert "Line 1 of" in first and "b.jsonl" in first and "d.json" in second
    assert load_rows(DataConfig(train=name, sample_count=1)) == [{"text": "a"}]  # the others are not needed


def test_as_many_rows_as_are_asked_for(tmp_path: Path) -> None:
    rows = load_rows(DataConfig(train=lay(tmp_path, a_txt="ab", b_txt="cd", c_txt="ef"), sample_count=3))
    assert texts(rows) == "abc"
    assert rows.origin.sentences == ["Rows come from 2 files, as many as were asked for: a.txt 2, b.txt 1"]


def test_a_folder_that_is_a_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_files, "MAX_FILES", 2)
    with pytest.raises(DataError, match="holds more than 2 files: give a folder with the data alone"):
        find_files(lay(tmp_path, a_txt="a", b_txt="b", c_txt="c"))


def test_a_stop_while_rows_are_read(tmp_path: Path) -> None:
    name = lay(tmp_path, a_txt="a" * 1500)
    asked: list[int] = []
    with pytest.raises(Stopped):
        load_rows(DataConfig(train=name), should_stop=lambda: asked.append(1) is None)
    assert len(asked) == 1


def test_rows_are_named_by_their_files() -> None:
    several = Origin([("a.txt", 3), ("none.txt", 0), ("b.txt", 2)]).names
    assert several.list([0, 2, 3]) == "a.txt 1, 3; b.txt 1"
    assert several.list(range(5)) == "a.txt 1, 2, 3; b.txt 1, 2"
    assert several.one(4) == "Row 2 of b.txt"
    assert several.starts == (0, 3)
    alone = Origin([("a.txt", 20)]).names
    assert alone.list(range(12)) == "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …"
    assert alone.one(4) == "Row 5" and alone.starts == RowNames().starts == (0,)
