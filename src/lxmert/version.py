"""The version of the package, which no installed distribution needs to tell."""

__version__ = "0.1.0"
