"""Which books a server keeps, and which go first."""

from __future__ import annotations

import numpy as np

from heatmap_pipeline.model.book import Lots, ModelState
from heatmap_pipeline.views.replay import Books


def test_books_make_room_in_the_order_in_which_they_were_used() -> None:
    def book(lots: int) -> ModelState:
        amounts, whole = np.ones(lots), np.ones(lots, dtype=np.int64)
        return ModelState(Lots(np.ones(lots, np.int8), amounts, whole, amounts, amounts, whole), (0.0,), 1.0)

    book_size = 1000 + 41 * 100
    books = Books(3 * book_size)
    for name in "abc":
        books.put((name,), book(100))
    assert (len(books), books.size) == (3, 3 * book_size)
    kept = books.get(("a",))
    books.put(("a",), book(1))
    assert books.get(("a",)) is kept, "the one that is kept stays"
    books.put(("huge",), book(1000))
    assert books.get(("huge",)) is None
    books.put(("d",), book(100))
    assert [books.get((name,)) is None for name in "abcd"] == [False, True, False, False]
    assert books.size == 3 * book_size
