"""Texts, pictures, numbers and categories beside the links of a graph."""
