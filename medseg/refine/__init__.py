"""Mending a mask with prompts and tools."""
