"""Where the objects of pictures are, read from files of boxes and folders of masks."""
