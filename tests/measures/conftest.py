"""Fixtures of the tests of measures."""

from tests.packages import install

__all__ = ["install"]
