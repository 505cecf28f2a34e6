"""Models of tables with names, categories, gaps and text, as people fit them."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS = 240


@cache
def full() -> Any:
    generator = np.random.default_rng(11)
    return pd.DataFrame(
        {
            "country": generator.choice(["KR", "US", "DE", "日本"], ROWS),
            "age": generator.normal(40, 12, ROWS).round(1),
            "income": generator.lognormal(0, 1, ROWS) * 1e9,
            "plan": generator.choice(["free", "pro"], ROWS),
        }
    )


@cache
def with_gaps() -> Any:
    table = full().astype({"country": object, "plan": object})
    table.loc[::7, "age"] = np.nan
    table.loc[::5, "country"] = None
    return table


@cache
def outcome() -> Any:
    table = full()
    return np.where(table.age + 9 * (table.country == "KR") + 5 * (table.plan == "pro") > 45, "stays", "leaves")


TEXTS = ["Buy cheap pills, now!", "hello dear friend", "Ünïcode wörds 日本 — and more", "1e9 offers; 0.2 % each"] * 15
SPAM = np.array([1, 0, 0, 1] * 15)


def _encoded(table: Any, **options: Any) -> Any:
    columns = [
        ("categories", OneHotEncoder(**options), ["country", "plan"]),
        ("numbers", StandardScaler(), ["age", "income"]),
    ]
    return make_pipeline(ColumnTransformer(columns), LogisticRegression(max_iter=500)).fit(table, outcome())


def one_hot() -> Any:
    return _encoded(full(), handle_unknown="ignore")


def one_hot_that_refuses() -> Any:
    return _encoded(full())


def filled() -> Any:
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    columns = [
        ("texts", texts, make_column_selector(dtype_include=object)),
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
    ]
    return make_pipeline(ColumnTransformer(columns), LogisticRegression(max_iter=500)).fit(with_gaps(), outcome())


def boosted() -> Any:
    table = with_gaps().astype({"country": "category", "plan": "category"})
    return HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=20).fit(table, outcome())


def boosted_by_name() -> Any:
    model = HistGradientBoostingClassifier(categorical_features=["country", "plan"], max_iter=20)
    return model.fit(with_gaps(), outcome())


def gaps_as_category() -> Any:
    columns = [("categories", OneHotEncoder(handle_unknown="ignore"), ["country", "plan"])]
    inner = ColumnTransformer(columns, remainder=SimpleImputer(add_indicator=True))
    return make_pipeline(inner, StandardScaler(with_mean=False), LogisticRegression(max_iter=500)).fit(
        with_gaps(), outcome()
    )


def mixed_array() -> Any:
    columns = [("c", OneHotEncoder(handle_unknown="ignore"), [0, 3]), ("n", SimpleImputer(), [1, 2])]
    model = make_pipeline(ColumnTransformer(columns), StandardScaler(with_mean=False), LogisticRegression())
    return model.fit(with_gaps().to_numpy(dtype=object), outcome())


def text() -> Any:
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression()).fit(TEXTS, SPAM)


def text_column() -> Any:
    table = full()[:60].assign(text=TEXTS)[["age", "text"]]
    columns = [("words", TfidfVectorizer(), "text"), ("numbers", StandardScaler(), ["age"])]
    return make_pipeline(ColumnTransformer(columns), LogisticRegression()).fit(table, SPAM)


def _table_of_texts() -> Any:
    return full()[:60].assign(text=TEXTS)[["age", "text"]]


Given = Callable[[Any], Any]


def as_table(table: Any) -> Any:
    return table


MODELS: dict[str, tuple[Callable[[], Any], Callable[[], Any], Given]] = {
    "one-hot": (one_hot, full, as_table),
    "one-hot that refuses": (one_hot_that_refuses, full, as_table),
    "filled": (filled, with_gaps, as_table),
    "boosted": (boosted, with_gaps, as_table),
    "boosted by name": (boosted_by_name, with_gaps, as_table),
    "gaps as category": (gaps_as_category, with_gaps, as_table),
    "mixed array": (mixed_array, with_gaps, lambda table: table.to_numpy(dtype=object)),
    "text": (text, lambda: pd.DataFrame({"text": TEXTS}), lambda table: table.text.tolist()),
    "text column": (text_column, _table_of_texts, as_table),
}
"""Each by its name: the model, a table of rows as it was fitted on, and what its own predict is
given of such a table."""


def rows(table: Any) -> list[list[Any]]:
    """As a client's JSON has them."""
    return [
        [None if value is None or value != value else getattr(value, "item", lambda v=value: v)() for value in row]
        for row in table.itertuples(index=False)
    ]


def records(table: Any) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in rows(table)]
