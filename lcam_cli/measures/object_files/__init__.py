"""Where the objects of images are, read from files of boxes and folders of masks."""
