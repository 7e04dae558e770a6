"""Finding, reading and preprocessing images: all that can be wrong with a file ends here."""
