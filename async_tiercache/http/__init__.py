"""HTTP caching by the RFCs, as rules: nothing here awaits, reads a clock or knows a framework.

- `fields`, `structured`: how header fields are read (RFC 9110, 9651)
- `control`: what a message says of caching (RFC 9111, 5861, 8246, 9213)
- `rules`: what may be stored, and for how long it is fresh (RFC 9111)
- `target`, `vary`: which stored response a request is for (RFC 9111, 9875, No-Vary-Search)
- `conditions`, `ranges`: which part of it answers, if any (RFC 9110)
- `stored`: whether it may be reused, and what is sent
- `status`: what is told of that (RFC 9211)
"""
