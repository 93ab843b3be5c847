"""The code's version, as rows and cards carry it."""

from importlib.metadata import PackageNotFoundError, version

try:
    CODE_VERSION = "cars-factory " + version("cars-factory")
except PackageNotFoundError:  # run from a source tree that was never installed
    CODE_VERSION = "cars-factory (not installed)"
