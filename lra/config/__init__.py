"""What can be set: every key with its type and range, protocol files, and how both become one configuration.

To add a key, give it a field in `schema` with a neutral default, so that the hashes of older configurations stay as
they are, and a comment that says what it means, which docs/settings.md shows. To add a protocol, put a YAML file into
`lra/protocols`. This package may import `lra.errors` and `lra.hashing` only.
"""
