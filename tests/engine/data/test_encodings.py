"""CSV and text files in other encodings than UTF-8 are read and said; what is no text is still refused."""
# ruff: noqa: RUF001 - letters of many alphabets are what is tested

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from geko_engine.config.sections import DataConfig
from geko_engine.data.encodings import BLOCK, UTF_8, encoding_of
from geko_engine.data.formats import recognise
from geko_engine.data.local_files import local_rows
from geko_engine.data.sources import load_rows
from geko_engine.exceptions import DataError

TEXTS = {
    "cp1252": "customer_question,agent_reply\nWo ist mein Päckchen für 5 €?,“Es ist unterwegs”\n",
    "cp1250": "pytanie,odpowiedź\nJak się masz?,Dziękuję dobrze\nGdzie mieszkasz?,W Łodzi przy ulicy Świętokrzyskiej\n",
    "cp1251": "вопрос,ответ\nКак дела?,Хорошо спасибо\nГде ты живёшь?,В Москве\n",
    "cp1253": "ερώτηση,απάντηση\nΠώς είσαι;,Πολύ καλά ευχαριστώ\n",
    "cp1254": "soru,cevap\nNasılsın bugün?,Çok iyiyim teşekkür ederim ğüşiöç İstanbul\n",
    "cp932": "質問,答え\n日本の首都はどこですか,東京です\n今日の天気は,晴れです\n",
    "gb18030": "问题,答案\n中国的首都是哪里,北京\n今天天气怎么样,很好\n",
    "big5": "問題,答案\n台灣的首都是哪裡,台北\n今天天氣如何,很好謝謝\n",
    "cp949": "질문,대답\n한국의 수도는 어디입니까,서울입니다\n",
    "utf-16": "frage,antwort\nWie heißt er?,Jörg\n",
}
WESTERN = ["café", "Müller", "Straße", "é", "Où êtes-vous né ? À l’hôpital", "¿Cómo está el niño?", "naïve façade"]


@pytest.mark.parametrize("encoding", TEXTS)
def test_a_text_is_read_in_its_own_encoding(encoding: str, tmp_path: Path) -> None:
    text = TEXTS[encoding]
    assert encoding_of(io.BytesIO(text.encode(encoding))) == encoding
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode(encoding))
    header, *lines = (line.split(",") for line in text.splitlines())
    assert list(local_rows(str(path))) == [dict(zip(header, line, strict=True)) for line in lines]


@pytest.mark.parametrize("text", WESTERN)
def test_a_few_western_letters_are_enough(text: str) -> None:
    assert encoding_of(io.BytesIO(text.encode("cp1252"))) == "cp1252"


@pytest.mark.parametrize("text", ["", "plain", "caf\u00e9", "\ufeffcaf\u00e9", "\u00e9" * BLOCK, "質問"])
def test_what_is_utf_8_is_read_as_that(text: str) -> None:
    assert encoding_of(io.BytesIO(text.encode())) == UTF_8


@pytest.mark.parametrize("content", [b"\x00\xff", b"PK\x03\x04\xff", bytes(range(256)), b"\x1f\x8b\x08\xe9"])
def test_what_is_no_text_has_no_encoding(content: bytes) -> None:
    assert encoding_of(io.BytesIO(content)) is None


def test_the_encoding_is_said_once_for_each_file(tmp_path: Path) -> None:
    path = tmp_path / "Kunden März.csv"
    path.write_bytes(TEXTS["cp1252"].encode("cp1252"))
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(TEXTS["cp1252"].encode("cp1252")))
    (tmp_path / "plain.csv").write_text("customer_question,agent_reply\na,b\n", encoding="utf-8")
    (said,) = load_rows(DataConfig(train=str(path))).origin.sentences
    assert said.startswith("Kunden März.csv is not UTF-8 and was read as Windows-1252 (Western Europe): if letters")
    said_of_all = load_rows(DataConfig(train=str(tmp_path))).origin.sentences
    assert sum("is not UTF-8" in sentence for sentence in said_of_all) == 2


@pytest.mark.parametrize(
    ("name", "mark", "said"), [("a.csv", ";", "semicolons"), ("a.csv", "\t", "tabs"), ("a.csv", "|", "bars"), ("a.tsv", ",", "commas")]
)  # fmt: skip
def test_other_separators_are_read_and_said(name: str, mark: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(f'prompt{mark}completion\n"a{mark}b"{mark}c\n', encoding="utf-8")
    loaded = load_rows(DataConfig(train=str(path)))
    assert list(loaded) == [{"prompt": f"a{mark}b", "completion": "c"}]
    assert loaded.origin.sentences == [f"The columns of {name} are separated by {said}"]


def test_a_file_that_was_saved_anew_is_read_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_bytes("Müller".encode("cp1252"))
    assert list(local_rows(str(path))) == [{"text": "Müller"}]
    path.write_bytes("Müllerin".encode())
    assert list(local_rows(str(path))) == [{"text": "Müllerin"}]


def test_other_letters_far_down_are_an_error_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geko_engine.data.encodings.SCANNED", 1000)
    path = tmp_path / "rows.txt"
    path.write_bytes(b"plain text\n" * 1000 + "Müller\n".encode("cp1252"))
    with pytest.raises(DataError, match="is not UTF-8 text: save it as UTF-8"):
        list(local_rows(str(path)))


@pytest.mark.parametrize(
    ("row", "pair"),
    [
        ({"id": "1", "customer_question": "a", "agent_reply": "b"}, ("customer_question", "agent_reply")),
        ({"UserQuestion": "a", "BotAnswer": "b"}, ("UserQuestion", "BotAnswer")),
        ({"Frage": "a", "Antwort 1": "b", "date": "c"}, ("Frage", "Antwort 1")),
        ({"my question": "a", "response": "b", "context": "c"}, ("my question", "response")),
    ],
)
def test_odd_names_of_prompt_and_completion_are_guessed(row: dict[str, str], pair: tuple[str, str]) -> None:
    found = recognise([row] * 3, DataConfig())
    assert set(pair) <= set(found.columns) and found.layout == "pair"
    assert all(repr(name) in found.sentence or name in found.sentence for name in pair)


@pytest.mark.parametrize(
    "row",
    [
        {"question_1": "a", "question_2": "b", "reply": "c"},
        {"customer_question": "a", "agent_reply": "b", "final_answer": "c"},
        {"question_answer": "a", "id": "b"},
        {"questionnaire": "a", "replying": "b"},
    ],
)
def test_where_several_columns_could_be_meant_nothing_is_guessed(row: dict[str, str]) -> None:
    with pytest.raises(DataError, match="Name the prompt and completion columns"):
        recognise([row] * 3, DataConfig())
