"""Files that lie elsewhere (a bucket, the hub, a web server): listed, fetched once into the cache, and written.

Whatever a user names passes through here to become a file on this machine; what comes after reads files as ever. Only
data is fetched, never code. fsspec, and what it takes for a scheme, is imported where it is used.
"""
