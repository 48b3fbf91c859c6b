"""Durable workflows in plain async Python on Redis Streams."""

__version__ = "0.1.0"
