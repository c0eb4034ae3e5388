"""Prompts -> dense features for a linear model: TF-IDF of words and of letters inside words, reduced by an SVD.

Knows no answer and no label. scikit-learn is imported when features are made, not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

TEXT_LIMIT = 1000  # characters of a prompt that are read: the first and the last half of so many
LETTERS_LIMIT = 4_000_000  # characters of all prompts together; above, words alone must do, or it takes minutes
VOCABULARY = 50_000  # n-grams of each kind, the most frequent ones
COMPONENTS = 512
SEED = 0


def prompt_features(prompts: Sequence[str]) -> NDArray[Any]:
    """Features [n, d] of the prompts, float32; d is at most COMPONENTS + 1. The last column is 1 (the bias).

    Raises:
        ValueError: no prompt has a word.
    """
    from scipy.sparse import hstack
    from sklearn.decomposition import TruncatedSVD

    texts = [shortened(text) for text in prompts]
    parts = [_tfidf(texts, analyzer="word", ngram_range=(1, 2), token_pattern=r"(?u)\w+")]
    if sum(map(len, texts)) <= LETTERS_LIMIT:
        parts.append(_tfidf(texts, analyzer="char_wb", ngram_range=(3, 5)))
    found = hstack(parts, format="csr") if len(parts) > 1 else parts[0]
    if min(found.shape) > COMPONENTS + 1:
        found = TruncatedSVD(COMPONENTS, n_iter=3, random_state=SEED).fit_transform(found)
    else:
        found = found.toarray()
    return np.hstack([found, np.ones((len(found), 1))]).astype(np.float32)


def shortened(text: str) -> str:
    """The first and the last characters of a long text."""
    half = TEXT_LIMIT // 2
    return text if len(text) <= TEXT_LIMIT else f"{text[:half]} {text[-half:]}"


def _tfidf(texts: Sequence[str], **options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    fewest = 2 if len(texts) >= 1000 else 1  # what stands in one row alone says nothing about others
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=fewest, max_features=VOCABULARY, dtype=np.float32, **options)
    return vectorizer.fit_transform(texts)
