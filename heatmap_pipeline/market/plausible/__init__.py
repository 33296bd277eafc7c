"""Rows that are perfect in form and cannot be true: what is measured, and what follows from it.

`repair.py` judges the form of one row; here clean rows of a day are held against each other, candles against samples,
and both against the day before. No file, no store; each limit stands beside what real days measured (docs/model.md).

Candles that cannot be true are refused (`candles.py`): nothing can be computed from them. Samples are left out, as if
they were missing (`samples.py`; `labels.py` for their times). `names.py` says how each finding is counted.
"""
