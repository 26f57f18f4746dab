"""Augmentation policies for single images: what is drawn for each; `mixlayers_pillow` carries it out. Imports plan."""
