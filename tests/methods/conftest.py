"""Packages that bring methods of their own."""

from tests.packages import installing

install = installing("lcam.methods")
