"""Maps in HDF5 files."""
