"""Tests of the tables, the lock and the publication."""
