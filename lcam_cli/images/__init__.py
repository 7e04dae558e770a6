"""Finding, reading and preprocessing pictures: all that can be wrong with a file ends here."""
