"""Measures of saliency maps: thresholding, Average Drop and Increase in Confidence."""
