"""Losses on the device."""

OPS = {}
