"""How the factory's steps are scheduled: one thin Prefect task each, over cars_core.

Tasks take and give small JSON only (uris, digests, counts); films and tables stay in the lake.
"""
