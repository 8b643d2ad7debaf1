"""The engine host: a process that holds one loaded model, and the server's side of it.

``protocol`` is what both sides say. ``engine_side`` runs in the host, started by ``__main__``;
``weights`` turns a source into a path there. ``client`` is what the server holds of a host.
"""
