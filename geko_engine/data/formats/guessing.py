"""Which columns are prompt and completion where no usual names are there: by words in the names, then by the values.

Pure. Guesses only what is clear; where several columns could be meant it says which, and the user names one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from geko_engine.data.formats.base import Row
from geko_engine.exceptions import DataError

# Words in the names of columns. Those of the first set say what a column is; the others count only where no other
# column of text is left, because a column 'customer' may as well hold names.
PROMPT_WORDS = (
    {
        *("prompt", "question", "query", "instruction", "input", "problem", "request"),
        *("frage", "pregunta", "domanda", "pergunta"),
    },
    {"user", "customer", "client", "human", "ask", "asked", "kunde", "source"},
)
LABEL_WORDS = {"label", "labels", "category", "class", "intent", "sentiment", "target", "topic"}
ANSWER_WORDS = (
    {
        *("completion", "answer", "response", "reply", "output", "solution"),
        *("antwort", "réponse", "reponse", "respuesta", "risposta", "resposta"),
    },
    {"agent", "assistant", "bot", "support"},
    LABEL_WORDS,
)
NO_TEXT = {
    *("id", "ids", "uuid", "name", "email", "mail", "phone", "date", "time", "url", "link", "index", "count", "type"),
}
WORD_ENDS = re.compile(r"[\W\d_]+|(?<=[a-z])(?=[A-Z])")
NO_SENTENCE = re.compile(r"[\W\d_]*|\d{4}-\d\d-\d\d.*|[0-9a-fA-F-]{16,}|\S+@\S+|https?://\S+")
LABEL_LENGTH = 80  # characters; longer is no label
FEW_LABELS = 20
MANY, FEW = 0.5, 0.2  # shares of values that end in a question mark


@dataclass(frozen=True)
class Guess:
    """Two columns, and whether the answer is the label of a class."""

    prompt: str
    completion: str
    labels: bool = False


def guess_pair(rows: Sequence[Row], columns: Sequence[str]) -> Guess | None:
    """The columns of prompt and completion, or None where neither names nor values say anything.

    Args:
        rows: of the dataset, or some of them spread over it.
        columns: all columns.

    Raises:
        DataError: several columns could be meant; its field is the setting that names one.
    """
    texts = [name for name in columns if is_text(rows, name)]
    named = [name for name in columns if not _is_no_text(name)]
    asks, answers = (_with_words(named, words[0]) for words in (PROMPT_WORDS, ANSWER_WORDS))
    unclear = [name for name in texts if name not in (*asks, *answers)]
    may_ask = [] if asks else _with_first_words(unclear, PROMPT_WORDS[1:])
    may_answer = [] if answers else _with_first_words(unclear, ANSWER_WORDS[1:])
    if not (asks or answers or may_ask or may_answer):
        return _by_values(rows, texts)
    rest = [n for n in unclear if n not in (*may_ask, *may_answer) and not _repeats_labels(rows, n)]
    prompt = _only(asks or [*may_ask, *rest], "prompt")
    completion = _only(answers or [*may_answer, *(name for name in rest if name != prompt)], "completion")
    if not prompt or not completion or prompt == completion:
        return None
    is_class = bool(LABEL_WORDS.intersection(words_of(completion))) and is_label(rows, completion)
    return Guess(prompt, completion, is_class)


def words_of(column: str) -> list[str]:
    """The words in the name of a column, in lower case."""
    return [word.lower() for word in WORD_ENDS.split(column) if word]


def is_text(rows: Sequence[Row], column: str) -> bool:
    """Whether a column holds text to read or to learn, and no ids, numbers, dates, addresses or names."""
    filled = [value for row in rows if (value := row.get(column)) not in (None, "")]
    texts = [value for value in filled if isinstance(value, str) and not NO_SENTENCE.fullmatch(value.strip())]
    return 2 * len(texts) > len(filled) and not _is_no_text(column)


def is_label(rows: Sequence[Row], column: str) -> bool:
    """Whether a column may hold the labels of classes: short values, of which there are few."""
    values = [str(value) for row in rows if isinstance(value := row.get(column), str | int)]
    few = 0 < len(set(values)) <= max(FEW_LABELS, len(values) // 4)
    return few and 2 * len(values) >= len(rows) and max(map(len, values)) <= LABEL_LENGTH


def _is_no_text(column: str) -> bool:
    """Whether the name ends in a word such as id or date."""
    return bool(NO_TEXT.intersection(words_of(column)[-1:]))


def _with_words(columns: Sequence[str], words: set[str]) -> list[str]:
    """The columns with one of the words in their names; only those that are such a word, if there are any."""
    found = [name for name in columns if words.intersection(words_of(name))]
    return [name for name in found if name.lower() in words] or found


def _with_first_words(columns: Sequence[str], sets: Sequence[set[str]]) -> list[str]:
    """The columns with words of the first set that any column has words of."""
    return next((found for words in sets if (found := _with_words(columns, words))), [])


def _only(columns: Sequence[str], role: str) -> str:
    """The only one of the columns, "" for none. Raises DataError where there are several."""
    if len(columns) > 1:
        raise DataError(
            f"Several columns could be the {role}: {', '.join(columns)}. Name the prompt and completion columns "
            "(data.prompt_column and data.completion_column).",
            f"data.{role}_column",
        )
    return columns[0] if columns else ""


def _by_values(rows: Sequence[Row], texts: Sequence[str]) -> Guess | None:
    """Of two columns of text, the one with questions is the prompt; or the one with texts, and the other its label."""
    if len(texts) != 2:
        return None
    for prompt, completion in (texts, texts[::-1]):
        if _questions(rows, prompt) >= MANY and _questions(rows, completion) <= FEW:
            return Guess(prompt, completion)
    for prompt, completion in (texts, texts[::-1]):
        if _repeats_labels(rows, completion) and not is_label(rows, prompt):
            return Guess(prompt, completion, labels=True)
    return None


def _repeats_labels(rows: Sequence[Row], column: str) -> bool:
    """Whether a column holds labels for certain: most of its values come more than once."""
    different = {str(row.get(column)) for row in rows}
    return len(rows) >= FEW_LABELS and 2 * len(different) <= len(rows) and is_label(rows, column)


def _questions(rows: Sequence[Row], column: str) -> float:
    """Share of the texts in a column that end in a question mark."""
    texts = [value.rstrip() for row in rows if isinstance(value := row.get(column), str) and value.strip()]
    return sum(text.endswith(("?", "\N{FULLWIDTH QUESTION MARK}", "\N{ARABIC QUESTION MARK}")) for text in texts) / max(
        1, len(texts)
    )
