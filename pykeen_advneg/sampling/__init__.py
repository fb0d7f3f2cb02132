"""Negative samplers, one method per module."""
