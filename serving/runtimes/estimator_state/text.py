"""Readers of text: their vocabulary says where they write, their pattern how long they look, and
one switch has them open files.
"""

import re
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer, TfidfVectorizer

from .requirements import require

MOST_HASHED = 1 << 24
LONGEST_NGRAM = 10
_ATOM = r"(?:\\[wWdDsS]|\[(?:\\[wWdDsS]|[\w '’.,_-])+\]|\w)"
# One repetition at most, at the end, and a boundary after it only where one stands before: so each
# text is read once.
_READ_ONCE = re.compile(rf"(?:\(\?[ui]+\))?(?:\\b)?{_ATOM}*(?:{_ATOM}(?:[+]|\{{\d{{1,3}}(?:,(?:\d{{1,3}})?)?\}}))?")
_READ_ONCE_BETWEEN = re.compile(rf"(?:\(\?[ui]+\))?\\b{_ATOM}*(?:{_ATOM}(?:[+*]|\{{\d{{1,3}},?\}}))?\\b")


def check_reader(reader: Any) -> None:
    """Raises StateInvalid."""
    held, name = vars(reader), type(reader).__name__
    # With `filename` or `file` a row would name what is to be opened.
    require(held.get("input", "content") == "content", f"a {name} that reads anything but the text itself")
    for part in ("preprocessor", "tokenizer"):
        require(held.get(part) is None, f"a {name} with a {part} of its own, which is code")
    require(held.get("analyzer") in ("word", "char", "char_wb"), f"a {name} with an analyzer of its own, which is code")
    require(held.get("strip_accents") in (None, "ascii", "unicode"), f"a {name} that strips accents by code of its own")
    pattern = held.get("token_pattern")
    is_read_once = isinstance(pattern, str) and (_READ_ONCE.fullmatch(pattern) or _READ_ONCE_BETWEEN.fullmatch(pattern))
    require(
        pattern is None or bool(is_read_once),
        f"a {name} whose token_pattern is none of those known to read a text once: "
        "use one class of characters, repeated, with word boundaries on both sides or none",
    )
    _check_ngrams(held.get("ngram_range"), name)
    if isinstance(reader, HashingVectorizer):
        features = held.get("n_features")
        require(type(features) is int and 0 < features <= MOST_HASHED, f"a {name} of more than {MOST_HASHED} features")
    elif "vocabulary_" in held:
        _check_vocabulary(held["vocabulary_"], name)
        if isinstance(reader, TfidfVectorizer):
            require(type(held.get("_tfidf")) is TfidfTransformer, f"a {name} that weighs words by something else")
            _check_weights(held["_tfidf"], len(held["vocabulary_"]))


def _check_ngrams(pair: Any, name: str) -> None:
    is_pair = isinstance(pair, tuple | list) and len(pair) == 2 and all(type(one) is int for one in pair)
    require(
        is_pair and 1 <= pair[0] <= pair[1] <= LONGEST_NGRAM, f"a {name} of more than {LONGEST_NGRAM} words at once"
    )


def _check_vocabulary(vocabulary: Any, name: str) -> None:
    """Each word has a column of its own, and there is no other column: a place beyond would be
    written and read outside the table."""
    require(isinstance(vocabulary, dict) and len(vocabulary) > 0, f"a {name} without words")
    require(all(isinstance(word, str) for word in vocabulary), f"a {name} whose words are no texts")
    places = list(vocabulary.values())
    are_places = all(isinstance(place, int | np.integer) and not isinstance(place, bool) for place in places)
    require(are_places and sorted(places) == list(range(len(places))), f"a {name} whose words have no column each")


def _check_weights(transformer: Any, words: int) -> None:
    held = vars(transformer)
    if held.get("use_idf"):
        weights = held.get("idf_", held.get("_idf_diag"))
        require(
            isinstance(weights, np.ndarray) and weights.shape == (words,) and weights.dtype.kind == "f",
            "the weights of a TfidfVectorizer do not fit its words",
        )
