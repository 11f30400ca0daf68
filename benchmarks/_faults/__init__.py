"""Real processes over a real database and a real Redis, in which something is broken on purpose.

`cell` runs one adapter under one fault with one seed; the top of the bench is `benchmarks.faults`.
"""
