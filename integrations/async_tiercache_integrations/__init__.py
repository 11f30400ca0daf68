"""Adapters between async_tiercache and other packages, one module each, named like its extra."""
