"""Packages that bring networks of their own."""

from tests.packages import installing

install = installing("lcam.networks")
