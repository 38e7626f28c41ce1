"""The version that goes into every exported soup."""

__version__ = "0.1.0"
