"""Fuzz targets: properties that must hold for any bytes, short in `make test`, long in `make fuzz`."""
