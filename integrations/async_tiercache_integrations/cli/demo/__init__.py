"""`tiercache demo`: a shop with real servers and real load, measured with and without the cache."""
