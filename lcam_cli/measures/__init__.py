"""Measures of saliency maps, a file each; the sweep that scores maps; labels and diagnoses."""
