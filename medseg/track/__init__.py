"""Linking cells through time."""
