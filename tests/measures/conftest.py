"""Packages that bring measures of their own."""

from tests.packages import installing

install = installing("lcam.measures")
