"""What is written and read back: HDF5 maps files, folders of PNG, overlays."""
